"""From folders and split files to a manifest: everything wrong is collected, the rest is used."""

from __future__ import annotations

import csv
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest
from tests.clips.data.cut_video import cut_video

from dualstream.clips.data.annotations.entries import Problem
from dualstream.clips.data.groups import source_group
from dualstream.clips.data.manifest import Manifest, Part, VideoRecord
from dualstream.clips.data.prepare import PrepareReport, prepare, split_by_source
from dualstream.errors import AnnotationError, DiskError, InputError, UnknownNameError
from dualstream.video import write_video

TinyVideo = Callable[..., Path]

CLIPS = {"clap": "a", "kick": "b"}


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
    journal = tmp_path / "out" / "checked.jsonl"
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
    with pytest.raises(DiskError, match=r"problems\.csv: cannot be written.*No space left"):
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


def test_copies_fall_on_one_side_of_a_split(
    tmp_path: Path, make_videos: Callable[..., None]
) -> None:
    make_videos(*(f"A/{i}.mp4" for i in range(6)), *(f"B/{i}.mp4" for i in range(4)))
    for i in range(5):
        shutil.copy(tmp_path / f"A/{i}.mp4", tmp_path / f"A/copy of {i}.mp4")
    (tmp_path / "A" / "link to 5.mp4").symlink_to(tmp_path / "A" / "5.mp4")
    manifest = split_by_source(prepare(tmp_path).report().manifest, test_fraction=0.3)
    assert Counter((r.label, r.splits) for r in manifest.records) == {
        (0, ("train",)): 8,
        (0, ("test",)): 4,
        (1, ("train",)): 3,
        (1, ("test",)): 1,
    }
    train, test = ({r.sha256 for r in manifest.subset(1, p).records} for p in get_args(Part))
    assert not train & test


def test_same_content_in_two_classes(tmp_path: Path, make_videos: Callable[..., None]) -> None:
    make_videos("run/a.mp4", "wave/b.mp4")
    shutil.copy(tmp_path / "run/a.mp4", tmp_path / "wave/c.mp4")
    (problem,) = prepare(tmp_path).report().problems
    assert (problem.kind, problem.where) == (
        "same content in two classes",
        f"{tmp_path}/wave/c.mp4",
    )
    assert problem.what == "'wave/c.mp4' ('wave') has the content of 'run/a.mp4' ('run')"


def test_list_and_class_folders_that_contradict_each_other(
    tmp_path: Path, make_videos: Callable[..., None]
) -> None:
    make_videos("Run/a.mp4", "Run/b.mp4", "Swim/c.mp4", "Jump/d.mp4", "flat.mp4")
    # A label map in another order than that of the lists; names with and without folders.
    write(tmp_path, {"classes.txt": "Jump\nRun\nSwim\n"})
    write(tmp_path, {"train.txt": "Run/a.mp4 0\nb.mp4 0\nSwim/c 2\nJump/d.mp4 2\nRun/flat 2\n"})
    report = prepare(tmp_path).report()
    assert sides(report) == {"Swim/c.mp4": (2, ("train",))}
    conflicts = [p for p in report.problems if p.kind == "conflicting label"]
    assert [p.where.rpartition(":")[2] for p in conflicts] == ["1", "2", "4", "5"]
    assert set(kinds(report)) == {"conflicting label", "class without video"}
    assert conflicts[0].what == (
        "'Run/a.mp4' is of class 'Jump' (label 0) here and in the folder of class 'Run' (label 1)"
    )
    write(tmp_path, {"train.txt": "Run/a.mp4 0\nb.mp4 0\nJump/d.mp4 2\n"})
    with pytest.raises(AnnotationError, match=r"no video can be used.*\n.*train\.txt:1"):
        prepare(tmp_path).report()


def test_class_list_and_lists_from_1(tmp_path: Path, make_videos: Callable[..., None]) -> None:
    make_videos("videos/Run/a.mp4", "videos/Run/b.mp4", "videos/Swim/c.mp4", "videos/Jump/e.mp4")
    write(tmp_path, {"classes.txt": "1 Run\n2 Swim\n3 Jump\n", "test.txt": "Run/b.mp4 1\n"})
    write(tmp_path, {"train.txt": "Run/a.mp4 1\nSwim/c.mp4 2\nJump/e.mp4 3\n"})
    report = prepare(tmp_path).report()
    assert sides(report) == {
        "Jump/e.mp4": (2, ("train",)),
        "Run/a.mp4": (0, ("train",)),
        "Run/b.mp4": (0, ("test",)),
        "Swim/c.mp4": (1, ("train",)),
    }
    assert kinds(report) == ["label numbering"]


def test_folders_named_by_numbers_contradict_no_label(
    tmp_path: Path, make_videos: Callable[..., None]
) -> None:
    make_videos("1/a.mp4", "b.mp4")
    write(tmp_path, {"train.txt": "1/a.mp4 0\nb.mp4 1\n"})
    assert kinds(prepare(tmp_path).report()) == []


def test_files_that_are_passed_over_are_counted(
    tmp_path: Path, make_videos: Callable[..., None]
) -> None:
    make_videos("A/1.mp4", "A/2.asf", "A/3.mp4")
    (tmp_path / "A/3.mp4").rename(tmp_path / "A/3.GIF")
    for name in ("A/x.swf", "A/y.swf", "A/z", "A/Thumbs.db", "A/.DS_Store", "A/notes.txt"):
        (tmp_path / name).write_text("something")
    report = prepare(tmp_path).report()
    assert sorted(sides(report)) == ["A/1.mp4", "A/2.asf", "A/3.GIF"]
    (problem,) = report.problems
    assert (problem.kind, problem.where) == ("other files", str(tmp_path))
    assert problem.what == "3 files are not taken for videos: 2 .swf, 1 without extension"
    shutil.rmtree(tmp_path / "A")
    write(tmp_path, {"A/1.jpg": "", "A/2.jpg": ""})
    with pytest.raises(AnnotationError, match=r"no video in it.*2 files are not .*: 2 \.jpg"):
        prepare(tmp_path)


def test_lists_that_are_not_read_are_told(tmp_path: Path, make_videos: Callable[..., None]) -> None:
    make_videos("videos/run/a.mp4", "videos/run/b.mp4")
    write(tmp_path / "splits", {"run_test_split1.txt": "a.avi 1\nb.avi 2\n"})
    write(tmp_path, {"train.csv": "run/a.mp4,0\n", "val.csv": "x;y\n", "videos/test.txt": "a 0\n"})
    preparation = prepare(tmp_path)
    assert preparation.format == "hmdb51"
    assert [(p.kind, p.where) for p in preparation.report().problems] == [
        ("unread list", f"{tmp_path}/train.csv"),
        ("unread list", f"{tmp_path}/val.csv"),
        ("unread list", f"{tmp_path}/videos/test.txt"),
    ]
    assert kinds(prepare(tmp_path, format="folders").report()) == []


def test_lists_in_the_folder_of_the_videos(
    tmp_path: Path, make_videos: Callable[..., None]
) -> None:
    make_videos("videos/run/a.mp4", "videos/run/b.mp4")
    write(tmp_path / "videos", {"test.txt": "run/a.mp4 0\nrun/b.mp4 0\n"})
    for source in (tmp_path, tmp_path / "videos"):
        preparation = prepare(source)
        assert preparation.format == "list"
        assert sides(preparation.report()) == {
            "run/a.mp4": (0, ("test",)),
            "run/b.mp4": (0, ("test",)),
        }


def test_class_folders_whose_names_cannot_be_written_down(
    tmp_path: Path, make_videos: Callable[..., None]
) -> None:
    make_videos("run/a.mp4")
    for name in (b"\xfcber", b"two\nlines"):
        folder = os.path.join(os.fsencode(tmp_path), name)
        shutil.copytree(tmp_path / "run", os.fsdecode(folder))
        shutil.copy(tmp_path / "run/a.mp4", os.path.join(folder, b"b.mp4"))
    report = prepare(tmp_path).report()
    assert report.manifest.classes == ("run",)
    assert [(p.kind, p.where) for p in report.problems] == [
        ("bad file name", f"'{tmp_path}/two\\nlines'"),
        ("bad file name", f"'{tmp_path}/\\udcfcber'"),
    ]
    assert report.problems[0].remedy == "Rename it; 2 videos are left out."
    report.write(tmp_path / "out")
    assert Manifest.read(tmp_path / "out").classes == ("run",)


def test_source_whose_path_is_no_unicode(tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(b"\xfcber")
    source.mkdir()
    with pytest.raises(InputError, match="path is not Unicode"):
        prepare(source)


def test_video_of_one_frame_is_told(tmp_path: Path, tiny_video: TinyVideo) -> None:
    tiny_video("run/one.mp4", num_frames=1, size=(16, 16))
    tiny_video("run/two.mp4", num_frames=2, size=(16, 16))
    report = prepare(tmp_path).report()
    assert [(p.kind, p.where) for p in report.problems] == [
        ("one frame", f"{tmp_path}/run/one.mp4")
    ]
    assert [(r.path, r.frames) for r in report.manifest.records] == [
        ("run/one.mp4", 1),
        ("run/two.mp4", 2),
    ]


def test_classes_of_left_and_right_are_told(
    tmp_path: Path, make_videos: Callable[..., None]
) -> None:
    make_videos("Moving something left/a.mp4", "Moving something right/b.mp4", "bright/c.mp4")
    (problem,) = prepare(tmp_path).report().problems
    assert problem.kind == "mirrored classes"
    assert problem.what == (
        "1 pairs of classes are mirrored ones, as 'Moving something left' and "
        "'Moving something right'"
    )


def test_share_of_pictures_that_do_not_decode_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    cut_video(tmp_path / "run" / "a.mkv")
    (problem,) = prepare(tmp_path).report().problems
    assert problem.kind == "undecodable frames"
    assert problem.what == "36% of its pictures cannot be decoded (17 of 47)"


def test_files_of_macos_do_not_stop_it(tmp_path: Path, make_videos: Callable[..., None]) -> None:
    make_videos("videos/clap/a.mp4", "videos/kick/b.mp4")
    write(tmp_path / "splits", {f"{c}_test_split1.txt": f"{v}.avi 1\n" for c, v in CLIPS.items()})
    for name in ("splits/._clap_test_split1.txt", "videos/clap/._a.mp4", "videos/._clap"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7\xb0")
    (tmp_path / "videos/__MACOSX").mkdir()
    shutil.copy(tmp_path / "videos/clap/a.mp4", tmp_path / "videos/__MACOSX/a.mp4")
    for format in ("hmdb51", "folders"):
        report = prepare(tmp_path, format=format).report()  # type: ignore[arg-type]
        assert report.problems == ()
        assert report.manifest.classes == ("clap", "kick")
        assert len(report.manifest) == 2
