"""Prediction in bulk: every video once, whatever happens, and the same by every way of working."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.engine.tiny import tiny_recipe, untrained_run

from dualstream.engine.infer import bulk
from dualstream.engine.infer.bulk import BulkFile, BulkPrediction, BulkSettings, predict_file
from dualstream.errors import CheckpointError, InputError, MissingDependencyError
from dualstream.jobs import Shard
from dualstream.report.prediction_files import features_entry


@pytest.fixture(scope="module")
def runs(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("bulk")
    return tuple(untrained_run(tiny_recipe(m), tiny_data, folder / m) for m in ("rgb", "flow"))


@pytest.fixture
def settings(runs: tuple[Path, ...]) -> BulkSettings:
    return BulkSettings(runs=runs, options={"window_seconds": 0.2, "segments": 2}, top=2)


@pytest.fixture
def videos(tiny_data: Path) -> list[str]:
    return sorted(str(path) for path in (tiny_data / "videos").rglob("*.mp4"))


@pytest.fixture(autouse=True)
def no_threads_are_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes may set theirs; the tests that work in this process may not."""
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    monkeypatch.setattr("cv2.setNumThreads", lambda count: None)
    monkeypatch.setattr(bulk, "_loaded", {})


def lines(path: Path) -> dict[str, dict[str, Any]]:
    """Source -> its line; each source has one."""
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    found = {entry["source"]: entry for entry in entries}
    assert len(found) == len(entries)
    return found


def in_this_process(videos: list[str], settings: BulkSettings) -> dict[str, dict[str, Any]]:
    return {
        video: predict_file(BulkFile(video, video), settings=settings, key="", num_threads=1)
        for video in videos
    }


def equal_to(expected: Any, found: Any) -> bool:
    """Whether JSON values are the same, but for the rounding of other numbers of threads."""
    if isinstance(expected, dict):
        return expected.keys() == found.keys() and all(
            equal_to(value, found[key]) for key, value in expected.items()
        )
    if isinstance(expected, list):
        return len(expected) == len(found) and all(map(equal_to, expected, found))
    if isinstance(expected, float):
        return bool(found == pytest.approx(expected, abs=2e-5))
    return bool(expected == found)


def test_an_entry_is_what_the_predictor_says(
    settings: BulkSettings, videos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    load = BulkSettings.predictor
    monkeypatch.setattr(BulkSettings, "predictor", lambda s: loaded.append(s) or load(s))
    entries = in_this_process(videos[:2], settings)
    predictor = load(settings)
    for video, entry in entries.items():
        prediction = predictor.predict(video)
        assert [(one["class"], one["probability"]) for one in entry["top"]] == [
            (name, round(share, 6)) for name, share in prediction.top(2)
        ]
        assert list(entry["streams"]) == ["rgb", "flow"]
        assert len(entry["timeline"]) == len(prediction.window_seconds) == 2
    assert loaded == [settings]  # once for all videos
    features = replace(settings, content="features")
    entry = predict_file(BulkFile("as given", videos[0]), settings=features, key="f", num_threads=1)
    assert entry == {**features_entry(predictor.features(videos[0])), "source": "as given"}


def test_a_video_that_cannot_be_read_is_an_entry_too(
    settings: BulkSettings, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    found = in_this_process([str(broken), str(tmp_path / "absent.mp4")], settings)
    assert all(set(entry) == {"source", "error"} for entry in found.values())
    assert "No video file at" in found[str(tmp_path / "absent.mp4")]["error"]


def test_networks_that_cannot_be_loaded_end_the_job(settings: BulkSettings, tmp_path: Path) -> None:
    absent = replace(settings, runs=(tmp_path / "absent",))
    with pytest.raises(CheckpointError, match="absent is not a run folder"):
        in_this_process(["a.mp4"], absent)
    with pytest.raises(CheckpointError, match="absent is not a run folder"):
        list(BulkPrediction(["a.mp4"], tmp_path / "a.jsonl", absent).run())
    assert not list(tmp_path.iterdir())


def test_wrong_calls_are_told_at_once(
    settings: BulkSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"a\.txt: predictions go to a \.jsonl or \.parquet file"):
        BulkPrediction([], tmp_path / "a.txt", settings)
    with pytest.raises(InputError, match="workers must be at least 1"):
        BulkPrediction([], tmp_path / "a.jsonl", settings).run(workers=0)
    with pytest.raises(InputError, match="at least one network"):
        BulkSettings()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"dualstream\[ray\]"):
        BulkPrediction([], tmp_path / "a.jsonl", settings).run(ray="auto")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingDependencyError, match=r"dualstream\[parquet\]"):
        BulkPrediction([], tmp_path / "a.parquet", settings)


def test_settings_are_told_apart_by_what_lines_depend_on(
    settings: BulkSettings, runs: tuple[Path, ...], tiny_data: Path, tmp_path: Path
) -> None:
    described = settings.described()
    same = replace(settings, device="cuda", options={**settings.options, "optimize": True})
    assert same.described() == described
    assert replace(settings, thresholds={"enter": 0.5}).described() == described
    other = untrained_run(tiny_recipe(), tiny_data, tmp_path / "rgb", seed=1)
    for changed in (
        replace(settings, runs=(other, runs[1])),
        replace(settings, runs=runs[::-1]),
        replace(settings, top=3),
        replace(settings, thresholds={"enter": 0.6}),
        replace(settings, options={**settings.options, "crops": "ten"}),
        replace(settings, content="features"),
    ):
        assert changed.described() != described
    features = replace(settings, content="features")
    assert replace(features, top=3).described() == features.described()


def test_shards_share_no_video_and_leave_none(settings: BulkSettings, videos: list[str]) -> None:
    jobs = [
        BulkPrediction([*videos, *videos[:3]], "a.jsonl", settings, shard=Shard(n, 5))
        for n in range(1, 6)
    ]
    assert sorted(video for job in jobs for video in job.sources) == videos
    assert [job.path.name for job in jobs] == [f"a-{n}-of-5.jsonl" for n in range(1, 6)]


@pytest.mark.slow
def test_a_job_goes_on_keeps_lines_and_tries_again(
    settings: BulkSettings, videos: list[str], tmp_path: Path
) -> None:
    late = tmp_path / "late.mp4"
    late.write_bytes(b"not yet a video")
    out = tmp_path / "a.jsonl"
    sources = [str(late), *videos[:2], videos[0]]
    outcomes = list(BulkPrediction(sources, out, settings).run())
    assert [(o.source, o.is_kept) for o in outcomes] == [(s, False) for s in sources[:3]]
    first = lines(out)
    assert [bool(outcome.error) for outcome in outcomes] == [True, False, False]
    assert first[str(late)] == {"source": str(late), "error": outcomes[0].error}
    expected = in_this_process(videos[:2], settings)
    assert all(equal_to(expected[video], first[video]) for video in videos[:2])

    again = list(BulkPrediction(sources, out, settings).run(workers=2))
    assert [(o.source, o.error, o.is_kept) for o in again] == [
        (o.source, o.error, True) for o in outcomes
    ]
    with pytest.raises(InputError, match="top was 2, now 1"):
        list(BulkPrediction(sources, out, replace(settings, top=1)).run())
    late.write_bytes(Path(videos[3]).read_bytes())
    more = list(BulkPrediction(sources, out, settings, retry_failed=True).run())
    assert [(o.source, o.error, o.is_kept) for o in more] == [
        (videos[0], None, True),
        (videos[1], None, True),
        (str(late), None, False),
    ]
    assert lines(out).keys() == set(sources)


def lines_written(out: Path) -> int:
    return out.read_bytes().count(b"\n") if out.exists() else 0


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_was(
    settings: BulkSettings,
    runs: tuple[Path, ...],
    tiny_video: Callable[..., Path],
    tmp_path: Path,
) -> None:
    pytest.importorskip("pyarrow")
    videos = [str(tiny_video(f"in/{n}.mp4", num_frames=30 + n, size=(48, 64))) for n in range(24)]
    out = tmp_path / "a.parquet"
    journal = tmp_path / "a.jsonl"
    command = [sys.executable, "-m", "dualstream", "predict", str(tmp_path / "in"), "--out", out]
    command += ["--checkpoint", runs[0], "--checkpoint", runs[1], "--workers", "2", "--top", "2"]
    command += ["--window", "0.2", "--segments", "2"]
    job = subprocess.Popen([str(part) for part in command])
    while lines_written(journal) < 3:
        assert job.poll() is None
        time.sleep(0.002)
    children = psutil.Process(job.pid).children(recursive=True)
    job.kill()
    job.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    before = lines_written(journal)
    assert 3 <= before < len(videos)
    assert not out.exists()
    begun = journal.read_bytes()
    journal.write_bytes(begun + b'{"source": "' + videos[-1].encode())  # killed in a write
    done = subprocess.run(
        [*(str(part) for part in command), "--json"], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)
    assert (told["kept"], told["done"], told["failed"]) == (before, len(videos) - before, 0)
    assert journal.read_bytes().startswith(begun)
    found = lines(journal)
    assert found.keys() == set(videos)
    expected = in_this_process(videos, settings)
    assert all(equal_to(expected[video], found[video]) for video in videos)
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(out)
    assert table["source"].to_pylist() == list(found)
    assert table["timeline"].to_pylist() == [entry["timeline"] for entry in found.values()]


@pytest.mark.slow
def test_a_cluster_writes_what_processes_write(
    settings: BulkSettings, videos: list[str], tmp_path: Path, ray_cluster: str
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    sources = [*videos[:4], str(broken)]
    out = tmp_path / "a.jsonl"
    outcomes = list(BulkPrediction(sources, out, settings).run(ray=ray_cluster))
    assert sorted(outcome.source for outcome in outcomes) == sorted(sources)
    expected, found = in_this_process(sources, settings), lines(out)
    assert found.keys() == expected.keys()
    assert all(equal_to(expected[source], found[source]) for source in sources)
    again = list(BulkPrediction(sources, out, settings).run(ray=ray_cluster))
    assert all(outcome.is_kept for outcome in again)
