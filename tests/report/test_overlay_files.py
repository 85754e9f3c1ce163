"""Which overlay belongs to which video."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualstream.errors import InputError
from dualstream.report.overlay_files import overlay_files


def test_files_of_overlays(tmp_path: Path) -> None:
    assert overlay_files("out.mp4", ["a/x.avi"]) == {"a/x.avi": Path("out.mp4")}
    assert overlay_files("out", ["a/x.avi"]) == {"a/x.avi": Path("out/x.mp4")}
    assert overlay_files(tmp_path, ["x.mkv"]) == {"x.mkv": tmp_path / "x.mp4"}
    assert overlay_files("out", ["a/x.avi", "b/x.mp4", "y.mp4", "rtsp://c/x"]) == {
        "a/x.avi": Path("out/x.mp4"),
        "b/x.mp4": Path("out/x (2).mp4"),
        "y.mp4": Path("out/y.mp4"),
        "rtsp://c/x": Path("out/x (3).mp4"),
    }


@pytest.mark.parametrize(
    ("path", "sources", "message"),
    [
        ("out.mp4", ["a.mp4", "b.mp4"], r"out\.mp4: 2 videos make 2 overlays; give a folder"),
        ("out.avi", ["a.mp4"], r"out\.avi: an overlay is an \.mp4, \.mov or \.mkv file"),
        ("./a.mp4", ["a.mp4"], r"a\.mp4 is one of the videos; write the overlay somewhere else"),
        (".", ["b.mp4", "a.mp4"], r"b\.mp4 is one of the videos"),
    ],
)
def test_names_that_do_not_serve(path: str, sources: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        overlay_files(path, sources)
