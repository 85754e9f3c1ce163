"""`dualstream teach` from the first video to another video's timeline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.command import dualstream, succeed
from tests.engine.teach.conftest import PLAN, acted_videos, tiny_settings

from dualstream.cli.teach import seconds_of
from dualstream.engine.teach.settings import TeachSettings
from dualstream.errors import InputError

__all__ = ["acted_videos", "tiny_settings"]  # fixtures


def test_the_whole_way(tmp_path: Path, acted_videos: Path, tiny_settings: TeachSettings) -> None:
    folder = tmp_path / "birds"
    assert "is no project" in dualstream("teach", "show", folder).stderr
    succeed("teach", "set", folder, "--rgb", tiny_settings.rgb)
    printed = succeed("teach", "add", folder, acted_videos / "a.mp4", acted_videos / "b.mp4")
    assert "a.mp4: 10.0 s" in printed
    for video in ("a.mp4", "b.mp4"):
        for label, start, end in PLAN[:2]:
            succeed("teach", "mark", folder, video, start, f"0:{end:02d}", label)
    failed = dualstream("teach", "mark", folder, "a.mp4", "3", "6", "fly", "--json")
    assert failed.code == 2
    assert "overlaps 0 to 4 s 'right'" in json.loads(failed.stdout)["error"]
    assert succeed("teach", "mark", folder, "a.mp4", "3", "4", "fly", "--replace").strip() == (
        "a.mp4 3 to 4 s 'fly'"
    )
    assert succeed("teach", "unmark", folder, "a.mp4", "3", "4").strip() == "1 marks erased or cut."
    succeed("teach", "mark", folder, "a.mp4", "3", "4", "right")
    assert "b.mp4: marked completely." in succeed("teach", "done", folder, "b.mp4")
    assert "Not trained yet" in succeed("teach", "show", folder)
    printed = succeed("teach", "train", folder)
    assert "of the windows of videos that were not learnt from are right" in printed
    assert "is \\ taken for" in printed
    assert "Last training" in succeed("teach", "show", folder)
    timeline = json.loads(succeed("teach", "timeline", folder, "a.mp4", "--json"))["videos"][0]
    assert [one["label"] for one in timeline["segments"]][:2] == ["right", "down"]
    out = tmp_path / "all.csv"
    succeed("teach", "timeline", folder, "--out", out)
    assert len(out.read_text().splitlines()) >= 5
    printed = succeed("teach", "review", folder, "--most", "2")
    assert "Look at them and mark what they are" in printed
    printed = succeed("teach", "predict", folder, acted_videos / "c.mp4")
    assert "right" in printed
    shown = json.loads(succeed("teach", "show", folder, "--json"))
    assert shown["is_stale"] is False
    assert len(shown["marks"]) == 4
    table = tmp_path / "more.csv"
    table.write_text("path,start_seconds,end_seconds,label\nb.mp4,8,9,rest\nz.mp4,0,1,rest\n")
    report = json.loads(succeed("teach", "import", folder, table, "--json"))
    assert (report["added"], len(report["problems"])) == (1, 1)
    assert json.loads(succeed("teach", "remove", folder, "b.mp4", "--json")) == {"removed": "b.mp4"}
    assert json.loads(succeed("teach", "set", folder, "--json"))["window_seconds"] == 2


@pytest.mark.parametrize(
    ("text", "seconds"), [("62.5", 62.5), ("1:02.5", 62.5), ("1:00:02,5", 3602.5), ("0", 0)]
)
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "1:", "a", "-1", "1:2:3:4"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InputError, match="A time is seconds"):
        seconds_of(text)


@pytest.mark.parametrize("verb", ["train", "timeline", "review", "show", "set"])
def test_a_folder_that_is_no_project_is_not_made_one(verb: str, tmp_path: Path) -> None:
    done = dualstream("teach", verb, tmp_path / "none")
    assert done.code == 1
    assert "is no project" in done.stderr
    assert not (tmp_path / "none").exists()
