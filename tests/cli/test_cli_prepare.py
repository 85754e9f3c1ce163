"""`dualstream prepare` as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from dualstream.cli.prepare import prepare
from dualstream.clips.data.manifest import Manifest
from dualstream.errors import InputError, UnknownNameError

TinyVideo = Callable[..., Path]


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(prepare)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def source(tmp_path: Path, tiny_video: TinyVideo) -> Path:
    """Two classes of two clips each, one of them broken, in HMDB-51's form."""
    for count, name in enumerate(("run/a", "run/b", "wave/c"), start=2):
        tiny_video(f"source/videos/{name}.mp4", num_frames=count, size=(16, 16))
    folder = tmp_path / "source"
    (folder / "videos" / "wave" / "zero[1].mp4").touch()
    (folder / "splits").mkdir()
    (folder / "splits" / "run_test_split1.txt").write_text("a.avi 1\nb.avi 2\ngone.avi 1\n")
    (folder / "splits" / "wave_test_split1.txt").write_text("c.avi 1\nzero[1].avi 2\n")
    return folder


def test_json(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    result = run(source, "--out", out, "--workers", "1", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "out": str(out),
        "format": "hmdb51",
        "videos": 3,
        "intervals": 0,
        "background": 0,
        "classes": 2,
        "frames": 9,
        "splits": [{"train": 2, "test": 1}],
        "reused": 0,
        "problems": {"missing file": 1, "broken video": 1},
        "problems_file": str(out / "problems.csv"),
    }
    assert len(Manifest.read(out)) == 3
    again = json.loads(run(source, "--out", out, "--workers", "2", "--json").stdout)
    assert again["reused"] == 3


def test_table_and_problems(tmp_path: Path, source: Path) -> None:
    result = run(source, "--out", tmp_path / "out", "--workers", "1")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("check: 4 of 4 videos, ")
    text = result.stdout
    assert "3 videos of 2 classes, 9 frames (hmdb51 annotations)" in text
    assert "missing file: 1" in text
    assert f"{source}/splits/run_test_split1.txt:3: there is no video 'run/gone.avi'" in text
    assert "broken video: 1" in text
    assert "zero[1].mp4" in text
    assert f"All of them, with what to do: {tmp_path}/out/problems.csv" in text


def test_no_problems(tmp_path: Path, source: Path) -> None:
    (source / "videos" / "wave" / "zero[1].mp4").unlink()
    result = run(source / "videos", "--out", tmp_path / "out", "--workers", "1", "--no-check")
    assert "No problems." in result.stdout
    assert "No split has train and test videos" in result.stdout


def test_splits_option_and_format(tmp_path: Path, source: Path) -> None:
    lists = tmp_path / "mine.txt"
    lists.write_text("run/a 0\n")
    out = tmp_path / "out"
    for option in ("--splits", "--annotations"):
        result = run(source, "--out", out, option, lists, "--workers", "1", "--json")
        assert json.loads(result.stdout)["format"] == "list"
    result = run(source, "--out", out, "--format", "folders", "--workers", "1", "--json")
    assert json.loads(result.stdout)["format"] == "folders"


def test_test_fraction(tmp_path: Path, source: Path) -> None:
    arguments = ("--out", tmp_path / "out", "--workers", "1", "--test-fraction", "0.5", "--json")
    result = run(source / "videos", *arguments)
    assert json.loads(result.stdout)["splits"] == [{"train": 2, "test": 1}]
    assert {r.splits for r in Manifest.read(tmp_path / "out").records} == {("train",), ("test",)}
    assert isinstance(run(source, *arguments).exception, InputError)


def test_wrong_calls_raise_our_errors(tmp_path: Path, source: Path) -> None:
    result = run(source, "--out", tmp_path / "out", "--format", "ucf")
    assert isinstance(result.exception, UnknownNameError)
    assert isinstance(run(tmp_path / "no", "--out", tmp_path / "out").exception, InputError)
    assert not (tmp_path / "out").exists()
    assert run(source).exit_code == 2


def test_import_is_light() -> None:
    code = (
        "import sys, dualstream.cli.prepare, dualstream.clips.data.manifest; "
        "print([m for m in ('torch', 'av', 'cv2', 'numpy', 'rich.table') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_intervals_and_background(tmp_path: Path, tiny_video: TinyVideo) -> None:
    for count, name in enumerate("abc"):
        tiny_video(f"source/{name}.mp4", num_frames=100, size=(16, 16 + 2 * count))
    rows = "".join(f"{name}.mp4,0,1,run\n{name}.mp4,2,2.5,walk\n" for name in "abc")
    (tmp_path / "source/scored.csv").write_text(f"path,start_seconds,end_seconds,label\n{rows}")
    arguments = [tmp_path / "source", "--out", tmp_path / "out", "--workers", "1"]
    arguments += ["--background", "0.5", "--test-fraction", "0.3"]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    shown = "9 intervals (3 of background) in 3 videos of 3 classes, 300 frames (intervals"
    assert shown in result.stdout
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.classes == ("run", "walk", "none of these")
    sides = {(r.path, r.splits) for r in manifest.records}
    assert len(sides) == 3
    assert {splits for _, splits in sides} == {("train",), ("test",)}
    summary = json.loads(run(*arguments, "--json").stdout)
    assert (summary["videos"], summary["intervals"], summary["background"]) == (3, 9, 3)
