"""Videos below a folder, and which of them a list means."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from dualstream.clips.data.video_files import VideoIndex, list_videos
from dualstream.errors import AnnotationError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_list_videos(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *("b/2.avi", "b/#1 (x)!.MP4", "a.webm", "b/c/d/e.mkv"),
        *("b/notes.txt", "b/pose.mat", ".hidden/x.avi", "b/._1.avi", "noextension"),
        *("__MACOSX/x.avi", "b/@eaDir/2.avi", "b/Thumbs.db"),
    )
    assert list_videos(tmp_path) == ["a.webm", "b/#1 (x)!.MP4", "b/2.avi", "b/c/d/e.mkv"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "far", "run/1.avi")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "loop").symlink_to(tmp_path / "root")
    assert list_videos(tmp_path / "root") == ["linked/run/1.avi"]


def test_folder_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "open/1.avi", "closed/2.avi")
    scandir = os.scandir

    def closed(path: str) -> Iterator[os.DirEntry[str]]:
        if os.path.basename(path) == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", closed)
    with pytest.raises(AnnotationError, match=r"closed: cannot be read \(Permission denied\)"):
        list_videos(tmp_path)


NAMES = (
    "UCF-101/Archery/v_Archery_g01_c01.mp4",
    "UCF-101/Archery/1.mp4",
    "UCF-101/Bowling/1.mp4",
    "flat.webm",
    "x.y.mp4",
    "both.avi",
    "both.mp4",
)


@pytest.mark.parametrize(
    ("hint", "found"),
    [
        ("UCF-101/Archery/v_Archery_g01_c01.mp4", NAMES[:1]),
        ("Archery/v_Archery_g01_c01.avi", NAMES[:1]),
        ("/data/UCF-101/Archery/v_Archery_g01_c01", NAMES[:1]),
        ("../other/Archery/v_Archery_g01_c01.avi", NAMES[:1]),
        ("D:\\data\\Archery\\v_Archery_g01_c01.avi", NAMES[:1]),
        ("v_Archery_g01_c01", NAMES[:1]),
        ("Archery/1.avi", NAMES[1:2]),
        ("1.avi", NAMES[1:3]),
        # A folder of the hint that the flat file lacks; but never another class's file.
        ("Running/flat.avi", NAMES[3:4]),
        ("Running/v_Archery_g01_c01.avi", ()),
        ("x.y", NAMES[4:5]),
        ("x", ()),
        ("x.y.avi", NAMES[4:5]),
        ("both.mp4", ("both.mp4",)),
        ("both", ("both.avi", "both.mp4")),
        ("Flat", ()),
        ("", ()),
    ],
)
def test_find(hint: str, found: tuple[str, ...]) -> None:
    index = VideoIndex(NAMES, class_folders=("archery", "Bowling", "Running"))
    assert index.find(hint) == tuple(found)


def test_class_tells_files_of_one_name_apart() -> None:
    index = VideoIndex(["air_drumming/1.mp4", "zumba/1.mp4"])
    assert index.find("1", class_name="air drumming") == ("air_drumming/1.mp4",)
    assert index.find("1", class_name="yoga") == ("air_drumming/1.mp4", "zumba/1.mp4")


def test_unicode_forms_are_one_name() -> None:
    composed = unicodedata.normalize("NFC", "été/é.avi")
    decomposed = unicodedata.normalize("NFD", "été/é.avi")
    assert VideoIndex([decomposed]).find(composed) == (decomposed,)
    assert VideoIndex([composed]).find(decomposed.replace(".avi", ".mp4")) == (composed,)
