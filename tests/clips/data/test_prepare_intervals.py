"""Intervals of long videos on their way into a manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dualstream.clips.data.intervals import Interval
from dualstream.clips.data.manifest import Manifest
from dualstream.clips.data.prepare import PrepareReport, prepare, split_by_source
from dualstream.errors import AnnotationError

TinyVideo = Callable[..., Path]
FRAMES = " and has 100 frames: these seem to be numbers of frames"
HEADER = "path,start_seconds,end_seconds,label,split\n"


def names(report: PrepareReport) -> dict[str, tuple[tuple[int, ...], tuple[str, ...]]]:
    return {r.name: (r.labels, r.splits) for r in report.manifest.records}


def told(report: PrepareReport) -> list[tuple[str, str, str]]:
    return [(p.kind, Path(p.where).name, p.what) for p in report.problems]


@pytest.fixture
def long_videos(tmp_path: Path, tiny_video: TinyVideo) -> Path:
    """Two videos of 4 s, 100 frames."""
    for number, name in enumerate(("a", "b")):
        tiny_video(f"data/videos/{name}.mp4", num_frames=100, size=(16, 16 + 2 * number))
    return tmp_path / "data"


def test_intervals_become_rows_and_are_read_again(long_videos: Path, tmp_path: Path) -> None:
    (long_videos / "scored.csv").write_text(
        HEADER + "a.mp4,2,3.5,run,train\na.mp4,0,1,walk,train\nb.mp4,0.04,4,run,test\n"
        "b,0,0.5,walk,test\n"
    )
    report = prepare(long_videos).report()
    # 0.04 to 0.5 s of b has two classes.
    assert names(report) == {
        "a.mp4#t=0,1": ((1,), ("train",)),
        "a.mp4#t=2,3.5": ((0,), ("train",)),
        "b.mp4#t=0.04,0.5": ((0, 1), ("test",)),
        "b.mp4#t=0.5,4": ((0,), ("test",)),
    }
    assert told(report) == [
        ("overlapping classes", "videos", "1 of 4 videos or intervals have several classes")
    ]
    assert {r.frames for r in report.manifest.records} == {100}
    assert [r.path for r in report.manifest.files] == ["a.mp4", "b.mp4"]
    report.write(tmp_path / "out")
    lines = (tmp_path / "out/manifest.csv").read_text().splitlines()
    assert lines[0] == "path,label,split1,frames,fps,width,height,sha256,start_seconds,end_seconds"
    assert lines[1].startswith("a.mp4,1,train,100,25.0,16,16,")
    assert lines[1].endswith(",0,1")
    assert lines[3].startswith("b.mp4,0;1,test,")
    assert lines[3].endswith(",0.04,0.5")
    assert Manifest.read(tmp_path / "out") == report.manifest


def test_intervals_outside_their_video_are_told(long_videos: Path) -> None:
    (long_videos / "scored.csv").write_text(
        HEADER + "a.mp4,3,4.05,walk,\na.mp4,2,9,run,\na.mp4,4,5,run,\na.mp4,25,75,run,\n"
        "b.mp4,120,150,run,\n"
    )
    report = prepare(long_videos).report()
    assert list(names(report)) == ["a.mp4#t=2,3", "a.mp4#t=3,4"]
    assert told(report)[:4] == [
        (
            "outside the video",
            "scored.csv:3",
            f"2 to 9 s ends after the video, which is 4.00 s long{FRAMES}",
        ),
        (
            "outside the video",
            "scored.csv:4",
            f"4 to 5 s lies outside the video, which is 4.00 s long{FRAMES}",
        ),
        (
            "outside the video",
            "scored.csv:5",
            f"25 to 75 s lies outside the video, which is 4.00 s long{FRAMES}",
        ),
        (
            "outside the video",
            "scored.csv:6",
            "120 to 150 s lies outside the video, which is 4.00 s long",
        ),
    ]
    assert report.problems[2].remedy == (
        "The line is left out; divide by 25, times are read in seconds."
    )


def test_a_file_that_is_in_train_and_test_is_told(long_videos: Path) -> None:
    (long_videos / "scored.csv").write_text(
        HEADER + "a.mp4,0,1,run,train\na.mp4,1,2,run,train\na.mp4,2,3,walk,test\n"
    )
    report = prepare(long_videos).report()
    assert told(report)[1] == (
        "intervals in train and test",
        "a.mp4",
        "split 1: 2 of its intervals are in train, 1 in test",
    )


def test_a_video_never_falls_on_both_sides(tmp_path: Path, tiny_video: TinyVideo) -> None:
    rows = ""
    for number in range(6):
        tiny_video(f"data/videos/{number}.mp4", num_frames=50, size=(16, 16 + 2 * number))
        rows += "".join(f"{number}.mp4,{t / 4},{(t + 1) / 4},{'ab'[t % 2]},\n" for t in range(8))
    shutil.copy(tmp_path / "data/videos/0.mp4", tmp_path / "data/videos/copy.mp4")
    rows += "copy.mp4,0,2,a,\n"
    (tmp_path / "data" / "scored.csv").write_text(HEADER + rows)
    manifest = split_by_source(prepare(tmp_path / "data").report().manifest, test_fraction=0.3)
    kept, held_out = manifest.subset(1, "train").hold_out(0.25)
    parts = (manifest.subset(1, "test"), kept, held_out)
    files = [{r.path.replace("copy", "0") for r in part.records} for part in parts]
    assert len(parts[0]) % 8 in (0, 1)
    assert all(files)
    assert sum(map(len, files)) == len(set().union(*files)) == 6
    for number in (1, 2):
        kept, held_out = manifest.subset(1, "train").fold(number, folds=2)
        assert not {r.path for r in kept.records} & {r.path for r in held_out.records}


def test_kinetics_times_are_used_where_the_file_is_whole(
    tmp_path: Path, tiny_video: TinyVideo
) -> None:
    tiny_video("cut_000084_000094.mp4", num_frames=40, size=(16, 16))
    tiny_video("same.mp4", num_frames=50, size=(16, 18))
    tiny_video("long.mp4", num_frames=100, size=(16, 20))
    rows = "a,cut,84,94,train\nb,same,200,202,train\na,long,1,2,train\nb,long,2,3.5,train\n"
    (tmp_path / "k.csv").write_text("label,youtube_id,time_start,time_end,split\n" + rows)
    report = prepare(tmp_path).report()
    assert names(report) == {
        "cut_000084_000094.mp4": ((0,), ("train",)),
        "long.mp4#t=1,2": ((0,), ("train",)),
        "long.mp4#t=2,3.5": ((1,), ("train",)),
        "same.mp4": ((1,), ("train",)),
    }
    assert report.problems == ()


def test_only_intervals_outside_is_an_error_that_says_so(long_videos: Path) -> None:
    (long_videos / "scored.csv").write_text(HEADER + "a.mp4,25,75,run,train\n")
    with pytest.raises(AnnotationError, match=r"scored\.csv:2: 25 to 75 s lies outside .* frames"):
        prepare(long_videos).report()


def test_a_whole_video_beside_its_intervals(long_videos: Path) -> None:
    (long_videos / "scored.csv").write_text(
        HEADER + "a.mp4,,,outdoor,train\na.mp4,1,2,run,train\nb.mp4,,,outdoor,train\n"
        "b.mp4,,,run,train\n"
    )
    manifest = prepare(long_videos).report().manifest
    assert [(r.path, r.interval, r.labels) for r in manifest.records] == [
        ("a.mp4", Interval(0, 1), (0,)),
        ("a.mp4", Interval(1, 2), (0, 1)),
        ("a.mp4", Interval(2, 4), (0,)),
        ("b.mp4", None, (0, 1)),
    ]


def test_exports_of_boris_and_elan_are_found_and_placed(long_videos: Path) -> None:
    (long_videos / "events.csv").write_text(
        "Observation id,Media file,Subject,Behavior,Behavior type,Start (s),Stop (s)\n"
        "o,T:/far/a.mp4,rat,groom,STATE,0.5,1\no,T:/far/a.mp4,rat,rear,STATE,1,4.5\n"
    )
    preparation = prepare(long_videos)
    assert preparation.format == "boris"
    report = preparation.report()
    assert names(report) == {"a.mp4#t=0.5,1": ((0,), ("",)), "a.mp4#t=1,4": ((1,), ("",))}
    assert [p.kind for p in report.problems] == ["in no list", "outside the video"]
    (long_videos / "events.csv").unlink()
    (long_videos / "b.txt").write_text("arm\t\t00:00:01.200\t00:00:02.700\twave\n")
    preparation = prepare(long_videos)
    assert preparation.format == "elan"
    assert names(preparation.report()) == {"b.mp4#t=1.2,2.7": ((0,), ("",))}


def test_sports1m_videos_have_several_classes(tmp_path: Path, tiny_video: TinyVideo) -> None:
    tiny_video("data/videos/UDqivjS-lpI.mp4", num_frames=20, size=(16, 16))
    (tmp_path / "data/labels.txt").write_text("a\nb\nc\n")
    line = "https://www.youtube.com/watch?v=UDqivjS-lpI 2,0\n"
    (tmp_path / "data/train_partition.txt").write_text(line)
    report = prepare(tmp_path / "data").report()
    assert names(report) == {"UDqivjS-lpI.mp4": ((0, 2), ("train",))}
