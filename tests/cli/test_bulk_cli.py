"""`dualstream predict --out`, and lists of videos."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from tests.cli.command import dualstream, succeed
from tests.engine.tiny import tiny_recipe, untrained_run

from dualstream.cli.predict import list_files


@pytest.fixture
def run(tiny_data: Path, tmp_path: Path) -> Path:
    return untrained_run(tiny_recipe(), tiny_data, tmp_path / "rgb")


def test_videos_of_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in/more").mkdir(parents=True)
    for name in ("b.mp4", "more/a.avi", "notes.txt"):
        (tmp_path / "in" / name).touch()
    listed = tmp_path / "list.txt"
    listed.write_text(f"x y.mp4\n\n{tmp_path / 'in'}\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("1.mp4\n2.mp4\n"))
    inside = [str(tmp_path / "in/b.mp4"), str(tmp_path / "in/more/a.avi")]
    assert list_files([f"@{listed}", "-", "c.mp4"]) == [
        "x y.mp4",
        *inside,
        "1.mp4",
        "2.mp4",
        "c.mp4",
    ]


@pytest.mark.slow
def test_lines_and_the_summary(run: Path, tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    videos = sorted(str(path) for path in (tiny_data / "videos/right").iterdir())[:3]
    (tmp_path / "list.txt").write_text("\n".join([*videos, str(tmp_path / "bad.mp4")]))
    out = tmp_path / "a.jsonl"
    call = ["predict", f"@{tmp_path / 'list.txt'}", "--checkpoint", run, "--out", out]
    done = dualstream(*call, "--shard", "2/2")
    part = tmp_path / "a-2-of-2.jsonl"
    assert done.code == 1
    assert done.stdout.startswith(f"{part} (part 2/2): 1 videos done, 0 kept, 1 failed; ")
    assert "bad.mp4" in done.stderr
    assert "predictions: 2 of 2 videos" in done.stderr
    sources = [json.loads(line)["source"] for line in part.read_text().splitlines()]
    assert sources == [videos[1], str(tmp_path / "bad.mp4")]

    told = json.loads(dualstream(*call, "--shard", "2/2", "--json").stdout)
    assert (told["out"], told["shard"]) == (str(part), "2/2")
    assert (told["done"], told["kept"], told["failed"]) == (0, 1, 1)
    refused = dualstream(*call, "--shard", "2/2", "--window", "3")
    assert refused.code == 2
    assert "window_seconds was 10.0, now 3.0" in refused.stderr


@pytest.mark.slow
def test_features_are_lines_too(run: Path, tiny_data: Path, tmp_path: Path) -> None:
    video = tiny_data / "videos/right/right_0.mp4"
    out = tmp_path / "a.jsonl"
    succeed("predict", video, "--checkpoint", run, "--features", "--out", out)
    entry = json.loads(out.read_text())
    assert entry["source"] == str(video)
    (window,) = entry["windows"]
    assert list(window["features"]) == ["rgb"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard", "1/2", "--features"], "--features and --shard: give --out FILE too"),
        (["--out", "a.csv"], "a.csv: predictions go to a .jsonl or .parquet file"),
        (["--out", "a.jsonl", "--timeline", "a.csv"], "--timeline: leave out for work in bulk"),
        (["--out", "a.jsonl", "--shard", "3/2"], "A shard is i/n with i in 1..n"),
        (["--out", "a.jsonl", "--workers", "0"], "--workers"),
    ],
)
def test_wrong_calls(
    run: Path, tmp_path: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = dualstream("predict", "a.mp4", "--checkpoint", run, *arguments)
    assert done.code == 2
    assert message in done.stderr
    assert not list(tmp_path.glob("a*"))
