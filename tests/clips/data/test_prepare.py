"""From folders and split files to a manifest: everything wrong is collected, the rest is used."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from dualstream.clips import Manifest, VideoRecord, source_group
from dualstream.clips.data.annotations import Problem
from dualstream.clips.data.prepare import PrepareReport, prepare, split_by_source
from dualstream.errors import AnnotationError, InputError, UnknownNameError
from dualstream.video import write_video

TinyVideo = Callable[..., Path]


@pytest.fixture
def make_videos(tiny_video: TinyVideo) -> Callable[..., None]:
    """Function that writes real videos of different content, of 2, 3, 4, ... frames."""
    made = iter(range(2, 100))

    def make(*names: str) -> None:
        for name in names:
            tiny_video(name, num_frames=next(made), size=(16, 16))

    return make


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def audio_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def sides(report: PrepareReport) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {r.path: (r.label, r.splits) for r in report.manifest.records}


def kinds(report: PrepareReport) -> list[str]:
    return [problem.kind for problem in report.problems]


def test_hmdb51_form_with_videos_and_splits_folders(
    tmp_path: Path, make_videos: Callable[..., None]
) -> None:
    make_videos("videos/run/a b.mp4", "videos/run/#2_(é)!.mp4", "videos/wave/c.mp4")
    write(
        tmp_path / "splits",
        {
            "run_test_split1.txt": "a b.avi 1 \r\n#2_(é)!.avi 2 \r\n",
            "run_test_split2.txt": "a b.avi 2\n#2_(é)!.avi 0\n",
            "wave_test_split1.txt": "c.avi 1\n",
            "wave_test_split2.txt": "c.avi 1\n",
        },
    )
    preparation = prepare(tmp_path)
    assert len(preparation) == 3
    assert sorted(video.path for video in preparation) == list(preparation.names)
    report = preparation.report()
    assert report.problems == ()
    assert report.manifest.classes == ("run", "wave")
    assert report.manifest.root == tmp_path / "videos"
    assert sides(report) == {
        "run/#2_(é)!.mp4": (0, ("test", "")),
        "run/a b.mp4": (0, ("train", "test")),
        "wave/c.mp4": (1, ("train", "train")),
    }
    by_path = {record.path: record for record in report.manifest.records}
    assert by_path["run/a b.mp4"].frames == 2
    assert (by_path["wave/c.mp4"].frames, by_path["wave/c.mp4"].fps) == (4, 25.0)
    report.write(tmp_path / "out")
    assert Manifest.read(tmp_path / "out") == report.manifest
    assert (tmp_path / "out" / "problems.csv").read_text() == "kind,where,what,remedy\n"


def test_everything_wrong_is_collected(tmp_path: Path, make_videos: Callable[..., None]) -> None:
    names = [f"videos/Run/{name}.mp4" for name in ("good", "both", "copy", "unlisted", "twice")]
    make_videos(*names, "videos/Wave/w.mp4")
    shutil.copy(tmp_path / "videos/Run/good.mp4", tmp_path / "videos/Run/copy.mp4")
    (tmp_path / "videos/Run/zero.mp4").touch()
    (tmp_path / "videos/Run/text.mp4").write_text("this is no video\n" * 20)
    audio_only(tmp_path / "videos/Run/audio.mp4")
    (tmp_path / "videos/Jump").mkdir()
    whole = (tmp_path / "videos/Wave/w.mp4").read_bytes()
    (tmp_path / "videos/Wave/cut.mp4").write_bytes(whole[: len(whole) // 2])
    train = ["good", "both", "zero", "text", "audio", "missing", "twice", "twice"]
    lists = tmp_path / "lists"
    write(
        lists,
        {
            "classInd.txt": "1 Run\n2 Wave\n3 Jump\n",
            "trainlist01.txt": "".join(f"Run/{name}.avi 1\n" for name in train)
            + "Wave/w.avi 2\nWave/cut.avi 2\nRun/good.avi 9\n",
            "testlist01.txt": "Run/copy.avi\nRun/both.avi\nWave/w.mp4 1\n",
        },
    )
    report = prepare(tmp_path, annotations=lists).report()
    found = {(p.kind, p.where.removeprefix(f"{tmp_path}/")) for p in report.problems}
    assert found == {
        ("missing file", "lists/trainlist01.txt:6"),
        ("listed twice", "lists/trainlist01.txt:8"),
        ("label out of range", "lists/trainlist01.txt:11"),
        ("conflicting label", "lists/testlist01.txt:3"),
        ("in train and test", "lists/trainlist01.txt:2"),
        ("same content in train and test", "lists/testlist01.txt:1"),
        ("in no list", "videos"),
        ("broken video", "videos/Run/zero.mp4"),
        ("broken video", "videos/Run/text.mp4"),
        ("broken video", "videos/Run/audio.mp4"),
        ("broken video", "videos/Wave/cut.mp4"),
        ("class without video", "videos"),
    }
    assert all(problem.what and problem.remedy for problem in report.problems)
    assert len(report.problems) == len(found)
    assert sides(report) == {
        # In both lists: what is tested on is what the test list says.
        "Run/both.mp4": (0, ("test",)),
        "Run/copy.mp4": (0, ("test",)),
        "Run/good.mp4": (0, ("train",)),
        "Run/twice.mp4": (0, ("train",)),
        "Wave/w.mp4": (1, ("train",)),
    }
    by_kind = {problem.kind: problem for problem in report.problems}
    assert by_kind["in no list"].what == "1 videos are in no list, the first is 'Run/unlisted.mp4'"
    assert "'Jump' (label 2)" in by_kind["class without video"].what
    assert "Run/good.mp4' (train)" in by_kind["same content in train and test"].what
    report.write(tmp_path / "out")
    with (tmp_path / "out" / "problems.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Problem(**row) for row in rows] == list(report.problems)


def test_result_does_not_depend_on_workers(
    tmp_path: Path, make_videos: Callable[..., None]
) -> None:
    make_videos("run/a.mp4", "run/b.mp4", "wave/c.mp4")
    (tmp_path / "wave" / "zero.mp4").touch()
    one, two = prepare(tmp_path).report(), prepare(tmp_path, workers=2).report()
    assert one == two
    assert kinds(one) == ["broken video"]


def test_class_folders(tmp_path: Path, make_videos: Callable[..., None]) -> None:
    make_videos("run/a.mp4", "wave/b.mp4", "loose.mp4")
    (tmp_path / "empty").mkdir()
    report = prepare(tmp_path).report()
    assert sides(report) == {"run/a.mp4": (1, ("",)), "wave/b.mp4": (2, ("",))}
    assert kinds(report) == ["outside class folders", "class without video"]
    with pytest.raises(AnnotationError, match="Split 1 has no train video"):
        report.manifest.subset(1, "train")


def test_folders_of_sets(tmp_path: Path, make_videos: Callable[..., None]) -> None:
    make_videos("train/run/a.mp4", "val/run/a.mp4", "test/run/a.mp4")
    report = prepare(tmp_path).report()
    assert sides(report) == {
        "train/run/a.mp4": (0, ("train", "train")),
        "val/run/a.mp4": (0, ("test", "")),
        "test/run/a.mp4": (0, ("", "test")),
    }


def test_class_of_broken_videos_only(tmp_path: Path, make_videos: Callable[..., None]) -> None:
    make_videos("run/a.mp4")
    (tmp_path / "wave").mkdir()
    (tmp_path / "wave" / "zero.mp4").touch()
    report = prepare(tmp_path).report()
    assert kinds(report) == ["broken video", "class without video"]
    assert report.problems[1].what == "class 'wave' (label 1): all its videos are broken"
    assert report.manifest.classes == ("run", "wave")


def test_list_files_beside_the_videos(tmp_path: Path, make_videos: Callable[..., None]) -> None:
    make_videos("run/a 1.mp4", "run/b.mp4", "wave/b.mp4")
    write(tmp_path, {"train.txt": "run/a 1 0\nwave/b.mp4 1\n", "val.txt": "run/b 3 0\n"})
    preparation = prepare(tmp_path)
    assert preparation.format == "list"
    report = preparation.report()
    assert report.problems == ()
    assert sides(report) == {
        "run/a 1.mp4": (0, ("train",)),
        "run/b.mp4": (0, ("test",)),
        "wave/b.mp4": (1, ("train",)),
    }


def test_list_in_which_all_paths_end_in_numbers(
    tmp_path: Path, make_videos: Callable[..., None]
) -> None:
    make_videos("clip 1.mp4", "clip 2.mp4")
    write(tmp_path, {"train.txt": "clip 1 0\nclip 2 0\n"})
    assert sorted(sides(prepare(tmp_path).report())) == ["clip 1.mp4", "clip 2.mp4"]


def test_kinetics_with_class_folders(tmp_path: Path, make_videos: Callable[..., None]) -> None:
    make_videos("air_drumming/-a_000001_000011.mp4", "arm wrestling/b.mp4")
    rows = "air drumming,-a,1,11,train\narm wrestling,b,5,15,val\nzumba,gone,0,10,train\n"
    write(tmp_path, {"kinetics.csv": f"label,youtube_id,time_start,time_end,split\n{rows}"})
    report = prepare(tmp_path).report()
    assert sides(report) == {
        "air_drumming/-a_000001_000011.mp4": (0, ("train",)),
        "arm wrestling/b.mp4": (1, ("test",)),
    }
    assert kinds(report) == ["missing file", "class without video"]
    assert report.problems[0].where == f"{tmp_path}/kinetics.csv:4"


def test_something_in_an_annotations_folder(
    tmp_path: Path, make_videos: Callable[..., None]
) -> None:
    make_videos("videos/7.mp4", "videos/8.mp4")
    write(
        tmp_path / "annotations",
        {
            "train.json": '[{"id": "7", "template": "Holding [something]"}]',
            "validation.json": '[{"id": "8", "template": "Holding [something]"}]',
        },
    )
    report = prepare(tmp_path).report()
    assert report.manifest.classes == ("Holding something",)
    assert sides(report) == {"7.mp4": (0, ("train",)), "8.mp4": (0, ("test",))}


def test_ambiguous_name(tmp_path: Path, make_videos: Callable[..., None]) -> None:
    make_videos("a.mp4", "a.avi", "b.mp4")
    write(tmp_path, {"train.txt": "a 0\nb 0\n"})
    report = prepare(tmp_path).report()
    assert [(p.kind, p.where) for p in report.problems] == [
        ("ambiguous name", f"{tmp_path}/train.txt:1"),
        ("in no list", str(tmp_path)),
    ]
    assert "'a.avi' or 'a.mp4'" in report.problems[0].what


def test_file_name_that_cannot_be_written_down(
    tmp_path: Path, make_videos: Callable[..., None]
) -> None:
    make_videos("run/a.mp4")
    shutil.copy(tmp_path / "run/a.mp4", tmp_path / "run/two\nlines.mp4")
    report = prepare(tmp_path).report()
    assert kinds(report) == ["bad file name"]
    assert sorted(sides(report)) == ["run/a.mp4"]
    report.write(tmp_path / "out")


def test_truncated_video_is_used_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "run" / "a.avi"
    path.parent.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), dtype=np.uint8)
    write_video(path, noise, fps=25)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    report = prepare(tmp_path).report()
    assert kinds(report) == ["truncated video"]
    frames = report.manifest.records[0].frames
    assert 5 <= frames <= 10
    assert report.problems[0].what == f"{frames} of the 20 frames it claims decode"


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(AnnotationError, match="there is no video in it"):
        prepare(tmp_path)
    (tmp_path / "run" / "zero.mp4").touch()
    with pytest.raises(AnnotationError, match=r"no video can be used\. 2 problems.*\n.*zero\.mp4"):
        prepare(tmp_path).report()
    (tmp_path / "train.txt").touch()
    with pytest.raises(AnnotationError, match=r"no video is listed.*train\.txt"):
        prepare(tmp_path)


def test_wrong_calls(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        prepare(tmp_path / "none")
    with pytest.raises(InputError, match="workers must be at least 1"):
        prepare(tmp_path, workers=0)
    with pytest.raises(InputError, match="there is no such file or folder"):
        prepare(tmp_path, annotations=tmp_path / "none")
    with pytest.raises(UnknownNameError, match=r"Unknown annotation format 'ucf'.*ucf101"):
        prepare(tmp_path, format="ucf")  # type: ignore[arg-type]
    (tmp_path / "lists").mkdir()
    with pytest.raises(AnnotationError, match="no annotation file of a known form"):
        prepare(tmp_path, annotations=tmp_path / "lists")


def test_interrupted_preparation_goes_on(tmp_path: Path, make_videos: Callable[..., None]) -> None:
    make_videos("run/a.mp4", "run/b.mp4", "run/c.mp4")
    journal = tmp_path / "out" / "checked.csv"
    preparation = prepare(tmp_path, journal=journal)
    for _ in preparation:
        break
    # In the same process, and in a new one.
    assert len(list(preparation)) == 2
    assert list(preparation) == []
    again = prepare(tmp_path, journal=journal)
    assert [video.is_reused for video in again] == [True, True, True]
    assert again.report() == preparation.report()


def test_unchecked_videos_are_counted(tmp_path: Path, make_videos: Callable[..., None]) -> None:
    make_videos("run/a.mp4")
    (tmp_path / "run" / "zero.mp4").touch()
    report = prepare(tmp_path, check=False).report()
    assert report.manifest == prepare(tmp_path).report().manifest
    assert kinds(report) == ["broken video"]


def test_full_disk_while_writing_keeps_the_old_manifest(
    tmp_path: Path, make_videos: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_videos("videos/run/a.mp4")
    report = prepare(tmp_path).report()
    report.write(tmp_path / "out")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(AnnotationError, match=r"out: cannot be written.*No space left"):
        report.write(tmp_path / "out")
    monkeypatch.undo()
    assert Manifest.read(tmp_path / "out") == report.manifest


def test_split_by_source() -> None:
    records = tuple(
        VideoRecord(f"k/v_k_g{group:02d}_c{clip}.avi", 0, ("",), 9, 25.0, 64, 48, "")
        for group in range(8)
        for clip in range(2)
    )
    manifest = Manifest(records, ("k",), Path("/data"))
    split = split_by_source(manifest, test_fraction=0.25)
    assert Counter(r.splits for r in split.records) == {("train",): 12, ("test",): 4}
    tested = {source_group(r.path) for r in split.subset(1, "test").records}
    assert not tested & {source_group(r.path) for r in split.subset(1, "train").records}
    assert (
        split.subset(1, "test").records
        != split_by_source(manifest, test_fraction=0.25, seed=1).subset(1, "test").records
    )
    with pytest.raises(InputError, match="this one has some"):
        split_by_source(split, test_fraction=0.25)


def test_jhmdb_splits_match_all_files(shared: Path) -> None:
    preparation = prepare(shared / "jhmdb")
    assert len(preparation) == 928
    assert len(preparation.classes) == 21
    assert preparation.format == "hmdb51"


def test_class_of_jhmdb(shared: Path, tmp_path: Path) -> None:
    """One class of real clips; checking all of them takes half a minute."""
    shutil.copytree(shared / "jhmdb" / "videos" / "wave", tmp_path / "videos" / "wave")
    (tmp_path / "splits").mkdir()
    for file in (shared / "jhmdb" / "splits").glob("wave_*"):
        shutil.copy(file, tmp_path / "splits")
    report = prepare(tmp_path).report()
    assert report.problems == ()
    manifest = report.manifest
    assert len(manifest) == 42
    assert [len(manifest.subset(split, "train")) for split in (1, 2, 3)] == [30, 30, 30]
    assert [len(manifest.subset(split, "test")) for split in (1, 2, 3)] == [12, 12, 12]
    assert {(r.width, r.height, r.fps) for r in manifest.records} == {(320, 240, 30.0)}
    assert min(r.frames for r in manifest.records) >= 15
    assert max(r.frames for r in manifest.records) <= 40
