"""Dry runs."""

from dataclasses import replace

import pytest

from dualstream.errors import FlowError
from dualstream.flow import FlowJob, FlowStore, extract_flow
from dualstream.flow.extract import estimate as estimate_module
from dualstream.flow.extract.estimate import estimate_flow, num_pairs
from dualstream.flow.extract.run import flow_settings


@pytest.fixture
def settings(tmp_path):
    return flow_settings(tmp_path / "store", method="dis")


@pytest.mark.parametrize("layout", ["store", "folders"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_sample_of_all_gives_what_the_run_stores(tmp_path, tiny_video, settings, layout, workers):
    jobs = [FlowJob(f"{n}.mp4", str(tiny_video(f"{n}.mp4", num_frames=n))) for n in (12, 20, 5)]
    settings = replace(settings, layout=layout)
    estimate = estimate_flow(jobs, settings, workers=workers)
    assert not (tmp_path / "store").exists()
    counts = (estimate.num_videos, estimate.num_pairs, estimate.num_sampled, estimate.workers)
    assert counts == (3, 34, 3, workers)
    list(extract_flow(jobs, tmp_path / "store", method="dis", layout=layout))
    stored = sum(f.stat().st_size for f in (tmp_path / "store").rglob("*") if f.is_file())
    assert estimate.gigabytes.value == pytest.approx(stored / 1e9, rel=0.01)
    for spread in (estimate.pairs_per_second, estimate.hours, estimate.gigabytes):
        assert 0 < spread.low <= spread.value <= spread.high
    hours = 34 / estimate.pairs_per_second.value / 3600 / workers
    assert estimate.hours.value == pytest.approx(hours)


def test_a_sample_stands_for_the_rest(tmp_path, tiny_video, settings, monkeypatch):
    monkeypatch.setattr(estimate_module, "SAMPLE_VIDEOS", 2)
    monkeypatch.setattr(estimate_module, "SAMPLE_FIELDS", 16)
    path = str(tiny_video("long.mp4", num_frames=60))
    jobs = [FlowJob(f"{n}.mp4", path, num_frames=60) for n in range(10)]
    estimate = estimate_flow(jobs, settings)
    assert (estimate.num_sampled, estimate.num_pairs, estimate.num_unreadable) == (2, 590, 0)
    list(extract_flow(jobs[:1], tmp_path / "store", method="dis"))
    stored = FlowStore(tmp_path / "store").path("0.mp4").stat().st_size
    assert estimate.gigabytes.value == pytest.approx(10 * stored / 1e9, rel=0.1)


def test_lengths(tmp_path, tiny_video):
    path = str(tiny_video("a.mp4", num_frames=7))
    (tmp_path / "text.mp4").write_text("no video")
    assert num_pairs(FlowJob("a.mp4", path, num_frames=100)) == 99  # the manifest is believed
    assert num_pairs(FlowJob("a.mp4", path)) == 6
    assert num_pairs(FlowJob("a.mkv", str(tiny_video("a.mkv", num_frames=7)))) == 6
    assert num_pairs(FlowJob("a.mp4", path, num_frames=1)) == 0
    assert num_pairs(FlowJob("text.mp4", str(tmp_path / "text.mp4"))) == 0
    assert num_pairs(FlowJob("absent.mp4", str(tmp_path / "absent.mp4"))) == 0


def test_what_cannot_be_read_is_left_out(tmp_path, tiny_video, settings):
    (tmp_path / "text.mp4").write_text("no video")
    bad = FlowJob("text.mp4", str(tmp_path / "text.mp4"))
    good = FlowJob("a.mp4", str(tiny_video("a.mp4")))
    promised = replace(bad, num_frames=10)
    estimate = estimate_flow([bad, good, replace(promised, name="b.mp4")], settings)
    assert (estimate.num_unreadable, estimate.num_sampled, estimate.num_pairs) == (1, 1, 20)
    with pytest.raises(FlowError, match="from 1 videos: none of them can be read"):
        estimate_flow([bad], settings)
    with pytest.raises(FlowError, match=r"text\.mp4.* is not a media file"):
        estimate_flow([promised], settings)


def test_the_same_seed_takes_the_same_videos(tiny_video, settings, monkeypatch):
    monkeypatch.setattr(estimate_module, "SAMPLE_VIDEOS", 1)
    jobs = [FlowJob(f"{n}.mp4", str(tiny_video(f"{n}.mp4", num_frames=n))) for n in (3, 9, 30)]
    sizes = {seed: estimate_flow(jobs, settings, seed=seed).gigabytes.value for seed in (1, 1, 5)}
    again = {seed: estimate_flow(jobs, settings, seed=seed).gigabytes.value for seed in (1, 5)}
    assert sizes == again
