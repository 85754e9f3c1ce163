"""The folder of a project: videos and marks in it, and what is wrong with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import dualstream as ds
from dualstream.engine.teach.marks import Mark
from dualstream.engine.teach.settings import TeachSettings
from dualstream.errors import (
    AnnotationError,
    CorruptVideoError,
    InputError,
    NoVideoStreamError,
    UnknownNameError,
    VideoNotFoundError,
)
from dualstream.types import BACKGROUND


def test_a_project_is_found_again(
    tmp_path: Path, acted_videos: Path, tiny_settings: TeachSettings
) -> None:
    teacher = ds.Teacher(tmp_path / "project", tiny_settings)
    video = teacher.add_video(acted_videos / "a.mp4")
    assert (video.name, video.frames, video.width, video.height) == ("a.mp4", 100, 64, 48)
    assert (video.fps, video.duration_seconds) == (pytest.approx(10), pytest.approx(10))
    mark = teacher.mark("a.mp4", 1, 3, "run")
    teacher.set_reviewed("a.mp4")
    again = ds.Teacher(tmp_path / "project")
    assert again.settings == tiny_settings
    assert again.marks == (mark,)
    assert again.video(str(acted_videos / "a.mp4")).is_reviewed
    assert (tmp_path / "project" / "intervals.csv").read_text() == (
        "path,start_seconds,end_seconds,label\na.mp4,1,3,run\n"
    )


def test_marks_edited_by_hand_count(new_teacher: Callable[..., ds.Teacher]) -> None:
    teacher = new_teacher("a.mp4")
    file = teacher.folder / "intervals.csv"
    file.write_text("path,start_seconds,end_seconds,label\r\na.mp4,2,4.5,fly\r\n")
    assert teacher.marks == (Mark("a.mp4", 2, 4.5, "fly"),)
    file.write_text("path,start_seconds,end_seconds,label\nz.mp4,2,4.5,fly\n")
    with pytest.raises(AnnotationError, match=r"'z.mp4' is no video of the project"):
        _ = teacher.marks


def test_a_project_moves_with_the_videos_inside_it(
    tmp_path: Path, acted_videos: Path, tiny_settings: TeachSettings
) -> None:
    inside = tmp_path / "project" / "videos" / "a.mp4"
    inside.parent.mkdir(parents=True)
    shutil.copy(acted_videos / "a.mp4", inside)
    teacher = ds.Teacher(tmp_path / "project", tiny_settings)
    assert teacher.add_video(inside).path == "videos/a.mp4"
    (tmp_path / "project").rename(tmp_path / "moved")
    moved = ds.Teacher(tmp_path / "moved").project()
    assert moved.checked_file(moved.video("a.mp4")) == tmp_path / "moved" / "videos" / "a.mp4"


def test_files_of_one_name_get_names_that_differ(
    tmp_path: Path, acted_videos: Path, new_teacher: Callable[..., ds.Teacher]
) -> None:
    other = tmp_path / "day 2" / "a.mp4"
    other.parent.mkdir()
    shutil.copy(acted_videos / "b.mp4", other)
    teacher = new_teacher("a.mp4")
    assert teacher.add_video(other).name == "day 2/a.mp4"
    assert teacher.add_video(other).name == "day 2/a.mp4"  # once only
    assert len(teacher.videos) == 2
    with pytest.raises(InputError, match=r"Another video of .* is called 'a.mp4'"):
        teacher.add_video(acted_videos / "c.mp4", name="a.mp4")


def test_a_video_goes_with_its_marks(new_teacher: Callable[..., ds.Teacher]) -> None:
    teacher = new_teacher("a.mp4", "b.mp4")
    teacher.mark("a.mp4", 0, 1, "run")
    kept = teacher.mark("b.mp4", 0, 1, "run")
    teacher.remove_video("a.mp4")
    assert teacher.marks == (kept,)
    assert [video.name for video in teacher.videos] == ["b.mp4"]
    with pytest.raises(UnknownNameError, match=r"Unknown video 'a.mp4'. Did you mean 'b.mp4'"):
        teacher.mark("a.mp4", 0, 1, "run")


def test_marking_relabelling_erasing(new_teacher: Callable[..., ds.Teacher]) -> None:
    teacher = new_teacher("a.mp4")
    first = teacher.mark("a.mp4", 1, 3, "pick_up")
    assert teacher.mark("a.mp4", 2, 10.04, "Pick up") == Mark("a.mp4", 1, 10, "pick_up")
    with pytest.raises(InputError, match=r"leaves a.mp4, which is 10.00 s long"):
        teacher.mark("a.mp4", 2, 11, "throw")
    with pytest.raises(InputError, match="overlaps 1 to 10 s 'pick_up'"):
        teacher.mark("a.mp4", 9, 10, "throw")
    thrown = teacher.mark("a.mp4", 8, 10, "throw", replace=True)
    assert teacher.marks == (Mark("a.mp4", 1, 8, "pick_up"), thrown)
    with pytest.raises(InputError, match="There is no mark"):
        teacher.relabel(first, "throw")
    assert teacher.relabel(thrown, "pick up") == Mark("a.mp4", 1, 10, "pick_up")
    assert teacher.unmark("a.mp4", 4, 6, "PICK_UP") == 1
    assert [mark.interval.seconds for mark in teacher.marks] == [3, 4]
    assert teacher.classes == ("pick_up",)
    teacher.mark("a.mp4", 4, 6, BACKGROUND.title())
    assert teacher.classes == ("pick_up", BACKGROUND)


def test_import_of_a_table(tmp_path: Path, new_teacher: Callable[..., ds.Teacher]) -> None:
    teacher = new_teacher("a.mp4", "b.mp4")
    teacher.mark("b.mp4", 0, 5, "run")
    table = tmp_path / "scored" / "mine.csv"
    table.parent.mkdir()
    table.write_text(
        "path,start_seconds,end_seconds,label\n"
        "videos/a.avi,1,2,Run\n"
        "a.mp4,9,12,fly\n"
        "b.mp4,4,6,fly\n"
        "c.mp4,1,2,fly\n"
        "b.mp4,11,12,fly\n"
    )
    report = teacher.import_marks(table)
    assert report.added == 2
    assert teacher.marks == (
        Mark("a.mp4", 1, 2, "run"),
        Mark("a.mp4", 9, 10, "fly"),
        Mark("b.mp4", 0, 5, "run"),
    )
    found = {problem.where.rsplit(":", 1)[1]: problem.what for problem in report.problems}
    assert "leaves a.mp4, which is 10.00 s long" in found["3"]
    assert "overlaps 0 to 5 s 'run'" in found["4"]
    assert "is no video of the project" in found["5"]
    assert "lies outside b.mp4" in found["6"]


def test_import_of_boris_and_of_what_is_no_table(
    tmp_path: Path, new_teacher: Callable[..., ds.Teacher]
) -> None:
    teacher = new_teacher("a.mp4")
    folder = tmp_path / "scored"
    folder.mkdir()
    (folder / "events.csv").write_text(
        "Observation id,Media file name,Subject,Behavior,Behavior type,Start (s),Stop (s)\n"
        "first,/data/a.mp4,bird,eating,STATE,1.5,4.25\n"
    )
    assert teacher.import_marks(folder / "events.csv").added == 1
    assert teacher.marks == (Mark("a.mp4", 1.5, 4.25, "eating"),)
    (folder / "notes.txt").write_text("a.mp4 0\n")
    with pytest.raises(AnnotationError, match="this is no table of marks"):
        teacher.import_marks(folder / "notes.txt")
    with pytest.raises(InputError, match="there is no such file"):
        teacher.import_marks(folder / "none.csv")
    with pytest.raises(UnknownNameError, match="Unknown format 'kinetics'"):
        teacher.import_marks(folder / "events.csv", format="kinetics")  # type: ignore[arg-type]


def test_what_cannot_be_added(
    tmp_path: Path, new_teacher: Callable[..., ds.Teacher], tiny_video: Callable[..., Path]
) -> None:
    teacher = new_teacher()
    with pytest.raises(VideoNotFoundError):
        teacher.add_video(tmp_path / "none.mp4")
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(NoVideoStreamError):
        teacher.add_video(text)
    with pytest.raises(CorruptVideoError, match="has one frame only"):
        teacher.add_video(tiny_video("one.mp4", num_frames=1))
    assert teacher.videos == ()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ('{"version": 2, "settings": {}, "videos": []}', "version 2 of a project, and this"),
        ("[1]", "version None of a project"),
        ('{"version": 1, "settings": {"windows": 2}, "videos": []}', "no project of version 1"),
        ('{"version": 1, "settings": {"side": 2}, "videos": []}', "side must be at least 32"),
        ("{", "project.json:1: this is not JSON"),
    ],
)
def test_projects_that_cannot_be_read(content: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "project.json").write_text(content)
    with pytest.raises(AnnotationError, match=match):
        ds.Teacher(tmp_path)


def test_a_folder_of_something_else_is_no_place_for_a_project(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,label\n")
    with pytest.raises(InputError, match=r"holds manifest.csv of something else"):
        ds.Teacher(tmp_path)
    assert not (tmp_path / "project.json").exists()


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"window_seconds": 2.5}, "window_seconds must be a multiple of step_seconds"),
        ({"step_seconds": 3.0}, "0 < step_seconds <= window_seconds"),
        ({"side": 8}, "side must be at least 32"),
        ({"labels": "two"}, "Unknown labels 'two'"),
        ({"motion": ""}, "motion must name weights or a run folder"),
    ],
)
def test_settings_that_do_not_fit(values: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        TeachSettings(**values)  # type: ignore[arg-type]


def test_json_of_a_project(new_teacher: Callable[..., ds.Teacher]) -> None:
    teacher = new_teacher("a.mp4")
    entry = json.loads(json.dumps(teacher.videos[0].entry()))
    assert entry.keys() == {
        *("name", "path", "sha256", "frames", "fps", "width", "height"),
        *("duration_seconds", "is_reviewed"),
    }
    assert teacher.mark("a.mp4", 1, 2, "fly").entry() == {
        "video": "a.mp4",
        "start": 1,
        "end": 2,
        "label": "fly",
    }
