"""Checking videos: facts, bad files, worker processes, going on after an interruption."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import pytest
from tests.clips.data.cut_video import cut_video

from dualstream.clips.data.checks import (
    CheckedVideo,
    VideoFacts,
    check_video,
    check_videos,
)
from dualstream.errors import (
    CorruptVideoError,
    DiskError,
    InputError,
    VideoNotFoundError,
)

TinyVideo = Callable[..., Path]


@pytest.mark.parametrize("decode", [True, False])
def test_facts(tiny_video: TinyVideo, decode: bool) -> None:
    path = tiny_video("a.mp4", num_frames=9, size=(48, 64), fps=30.0)
    facts = check_video(path, decode=decode)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert dataclasses.replace(facts, frames_from_header=9) == VideoFacts(
        frames=9,
        fps=30.0,
        width=64,
        height=48,
        frames_from_header=9,
        frames_missing=0,
        sha256=digest,
    )


def test_pictures_that_do_not_decode_are_counted(tmp_path: Path) -> None:
    path = cut_video(tmp_path / "cut.mkv")
    facts = check_video(path)
    assert (facts.frames, facts.frames_missing) == (30, 17)
    assert check_video(path, decode=False).frames_missing == 0
    journal = tmp_path / "checked.jsonl"
    first, second = (next(check_videos(tmp_path, ["cut.mkv"], journal=journal)) for _ in range(2))
    assert (second.is_reused, second.facts) == (True, first.facts)


def test_bad_files_raise(tmp_path: Path) -> None:
    (tmp_path / "zero.mp4").touch()
    with pytest.raises(CorruptVideoError, match=r"zero\.mp4"):
        check_video(tmp_path / "zero.mp4")
    with pytest.raises(VideoNotFoundError, match=r"none\.mp4"):
        check_video(tmp_path / "none.mp4")


def three_videos(tmp_path: Path, tiny_video: TinyVideo) -> tuple[str, ...]:
    tiny_video("a.mp4", num_frames=3)
    tiny_video("k/b c.mp4", num_frames=4)
    (tmp_path / "zero.mp4").touch()
    return ("a.mp4", "k/b c.mp4", "zero.mp4")


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_file_is_an_outcome(tmp_path: Path, tiny_video: TinyVideo, workers: int) -> None:
    names = three_videos(tmp_path, tiny_video)
    outcomes = {v.path: v for v in check_videos(tmp_path, names, workers=workers)}
    assert outcomes["a.mp4"] == CheckedVideo("a.mp4", check_video(tmp_path / "a.mp4"), None, False)
    facts = outcomes["k/b c.mp4"].facts
    assert facts is not None
    assert facts.frames == 4
    assert outcomes["zero.mp4"].facts is None
    assert "zero.mp4" in (outcomes["zero.mp4"].error or "")


def test_a_rate_that_cannot_be_right_is_an_outcome(tmp_path: Path) -> None:
    """An IVF file has its clock in its head: here a frame lasts for months."""
    path = tmp_path / "a.ivf"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=25)
        stream.width, stream.height = 64, 48
        for number in range(8):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack("<2I", 1, 10_000_000)
    path.write_bytes(content)
    for decode in (False, True):
        (video,) = check_videos(tmp_path, ["a.ivf"], decode=decode)
        assert video.facts is None
        assert "clock is damaged" in str(video.error)


def test_no_videos_and_no_workers(tmp_path: Path) -> None:
    assert list(check_videos(tmp_path, (), workers=2)) == []
    with pytest.raises(InputError, match="workers must be at least 1, got 0"):
        list(check_videos(tmp_path, (), workers=0))


def test_journal_goes_on_after_an_interruption(tmp_path: Path, tiny_video: TinyVideo) -> None:
    names = three_videos(tmp_path, tiny_video)
    journal = tmp_path / "out" / "checked.jsonl"
    running = check_videos(tmp_path, names, journal=journal)
    first = next(running)
    running.close()
    again = {v.path: v for v in check_videos(tmp_path, names, journal=journal)}
    assert again["a.mp4"] == dataclasses.replace(first, is_reused=True)
    assert not again["k/b c.mp4"].is_reused
    # A bad file is looked at again; it may have been mended without a change of its time.
    third = {v.path: v for v in check_videos(tmp_path, names, journal=journal)}
    assert [third[name].is_reused for name in names] == [True, True, False]
    assert third["k/b c.mp4"].facts == again["k/b c.mp4"].facts


def test_changed_file_is_checked_again(tmp_path: Path, tiny_video: TinyVideo) -> None:
    tiny_video("a.mp4", num_frames=3)
    journal = tmp_path / "checked.jsonl"
    list(check_videos(tmp_path, ["a.mp4"], journal=journal))
    tiny_video("a.mp4", num_frames=5)
    (video,) = check_videos(tmp_path, ["a.mp4"], journal=journal)
    assert video.facts is not None
    assert (video.is_reused, video.facts.frames) == (False, 5)
    os.utime(tmp_path / "a.mp4", ns=(0, 0))
    (video,) = check_videos(tmp_path, ["a.mp4"], journal=journal)
    assert not video.is_reused


def test_counted_videos_are_decoded_when_that_is_asked_for(
    tmp_path: Path, tiny_video: TinyVideo
) -> None:
    tiny_video("a.mp4", num_frames=3)
    journal = tmp_path / "checked.jsonl"

    def is_reused(*, decode: bool) -> bool:
        (video,) = check_videos(tmp_path, ["a.mp4"], decode=decode, journal=journal)
        return video.is_reused

    assert [is_reused(decode=decode) for decode in (False, False, True, True, False)] == [
        *(False, True, False, True, True)
    ]


@pytest.mark.parametrize("cut", [1, 2, 3, 40, 70])
def test_row_cut_off_by_a_kill_is_not_read(tmp_path: Path, tiny_video: TinyVideo, cut: int) -> None:
    names = three_videos(tmp_path, tiny_video)[:2]
    journal = tmp_path / "checked.jsonl"
    before = [v.facts for v in check_videos(tmp_path, names, journal=journal)]
    journal.write_bytes(journal.read_bytes()[: -1 - cut])
    again = list(check_videos(tmp_path, names, journal=journal))
    assert [v.facts for v in again] == before
    assert [v.is_reused for v in again] == [True, False]
    assert all(v.is_reused for v in check_videos(tmp_path, names, journal=journal))


def test_foreign_journal_is_replaced(tmp_path: Path, tiny_video: TinyVideo) -> None:
    tiny_video("a.mp4", num_frames=3)
    journal = tmp_path / "checked.jsonl"
    journal.write_bytes(b"\0\xff\na.mp4,1\n")
    (video,) = check_videos(tmp_path, ["a.mp4"], journal=journal)
    assert not video.is_reused
    assert len(journal.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("frames", {"a": 1}), ("frames", True), ("width", "3"), ("fps", None), ("sha256", 5)],
)
def test_row_of_other_types_is_not_read(
    tmp_path: Path, tiny_video: TinyVideo, name: str, value: object
) -> None:
    tiny_video("a.mp4", num_frames=3)
    journal = tmp_path / "checked.jsonl"
    (before,) = check_videos(tmp_path, ["a.mp4"], journal=journal)
    row = json.loads(journal.read_text())
    row["facts"][name] = value
    journal.write_text(json.dumps(row) + "\n" + "[" * 100_000 + "\n")
    (again,) = check_videos(tmp_path, ["a.mp4"], journal=journal)
    assert (again.is_reused, again.facts) == (False, before.facts)


def test_journal_that_cannot_be_written(tmp_path: Path, tiny_video: TinyVideo) -> None:
    tiny_video("a.mp4", num_frames=3)
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match=r"checked\.jsonl: cannot be written"):
        list(check_videos(tmp_path, ["a.mp4"], journal=tmp_path / "file" / "checked.jsonl"))


def test_crash_of_a_worker_is_pinned_on_its_file(
    tmp_path: Path, tiny_video: TinyVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = three_videos(tmp_path, tiny_video)

    def run_jobs(
        work: Callable[[str], object],
        jobs: Sequence[str],
        *,
        workers: int,
        on_death: Callable[[str, int], object],
    ) -> list[object]:
        assert workers == 2
        return [on_death(job, -11) if job == "k/b c.mp4" else work(job) for job in jobs]

    monkeypatch.setattr("dualstream.clips.data.checks.run_jobs", run_jobs)
    outcomes = list(check_videos(tmp_path, names, workers=2))
    assert [video.path for video in outcomes] == list(names)
    assert outcomes[0].error is None
    assert outcomes[1].error == "The decoder crashed on this file. Re-encode or remove it."


def test_script_without_a_guard_is_told_so(tmp_path: Path, tiny_video: TinyVideo) -> None:
    names = three_videos(tmp_path, tiny_video)
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom dualstream.clips.data.checks import check_videos\n"
        f"list(check_videos(Path({str(tmp_path)!r}), {names!r}, workers=2))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Worker processes cannot start (exit code 1). Put the calling code under" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_disk_that_fills_up_under_the_journal(
    tmp_path: Path, tiny_video: TinyVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_video("a.mp4", num_frames=3)
    (tmp_path / "checked.jsonl").symlink_to("/dev/full")
    monkeypatch.setattr("dualstream.clips.data.checks.write_text", lambda *_: None)
    with pytest.raises(DiskError, match=r"checked\.jsonl: cannot be written \(No space left"):
        list(check_videos(tmp_path, ["a.mp4"], journal=tmp_path / "checked.jsonl"))
