"""Checking videos: facts, bad files, worker processes, going on after an interruption."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.clips.data.cut_video import cut_video

from dualstream.clips.data.checks import (
    CheckedVideo,
    VideoFacts,
    _outcomes,
    check_video,
    check_videos,
)
from dualstream.errors import (
    AnnotationError,
    CorruptVideoError,
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
    journal = tmp_path / "checked.csv"
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


def test_no_videos_and_no_workers(tmp_path: Path) -> None:
    assert list(check_videos(tmp_path, (), workers=2)) == []
    with pytest.raises(InputError, match="workers must be at least 1, got 0"):
        list(check_videos(tmp_path, (), workers=0))


def test_journal_goes_on_after_an_interruption(tmp_path: Path, tiny_video: TinyVideo) -> None:
    names = three_videos(tmp_path, tiny_video)
    journal = tmp_path / "out" / "checked.csv"
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
    journal = tmp_path / "checked.csv"
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
    journal = tmp_path / "checked.csv"

    def is_reused(*, decode: bool) -> bool:
        (video,) = check_videos(tmp_path, ["a.mp4"], decode=decode, journal=journal)
        return video.is_reused

    assert [is_reused(decode=decode) for decode in (False, False, True, True, False)] == [
        *(False, True, False, True, True)
    ]


@pytest.mark.parametrize("cut", [1, 2, 3, 40, 70])
def test_row_cut_off_by_a_kill_is_not_read(tmp_path: Path, tiny_video: TinyVideo, cut: int) -> None:
    names = three_videos(tmp_path, tiny_video)[:2]
    journal = tmp_path / "checked.csv"
    before = [v.facts for v in check_videos(tmp_path, names, journal=journal)]
    journal.write_bytes(journal.read_bytes()[: -1 - cut])
    again = list(check_videos(tmp_path, names, journal=journal))
    assert [v.facts for v in again] == before
    assert [v.is_reused for v in again] == [True, False]
    assert all(v.is_reused for v in check_videos(tmp_path, names, journal=journal))


def test_foreign_journal_is_replaced(tmp_path: Path, tiny_video: TinyVideo) -> None:
    tiny_video("a.mp4", num_frames=3)
    journal = tmp_path / "checked.csv"
    journal.write_bytes(b"\0\xff\na.mp4,1\n")
    (video,) = check_videos(tmp_path, ["a.mp4"], journal=journal)
    assert not video.is_reused
    assert len(journal.read_text().splitlines()) == 2


def test_journal_that_cannot_be_written(tmp_path: Path, tiny_video: TinyVideo) -> None:
    tiny_video("a.mp4", num_frames=3)
    (tmp_path / "file").touch()
    with pytest.raises(AnnotationError, match=r"checked\.csv: cannot be written"):
        list(check_videos(tmp_path, ["a.mp4"], journal=tmp_path / "file" / "checked.csv"))


def test_crash_of_a_worker_is_pinned_on_its_file() -> None:
    # The jobs are Python expressions: one of them kills the process that evaluates it.
    jobs = [(str(i), f"{i} * 10") for i in range(6)]
    jobs[2] = ("crash", "__import__('os')._exit(1)")
    outcomes = dict(_outcomes(eval, jobs, workers=2))
    assert outcomes == {"0": 0, "1": 10, "crash": None, "3": 30, "4": 40, "5": 50}
