"""The short form of the campaigns: files damaged by chance, in a child process."""

from __future__ import annotations

import os
import time

import pytest
from benchmarks.campaigns.children import Child
from benchmarks.campaigns.containers import write_sources
from benchmarks.campaigns.mutations import find_boxes
from benchmarks.campaigns.records import read_records, run_cases, table

from benchmarks.campaigns import files, service, sound_files, videos
from dualstream.errors import VideoError

FORMATS = ("mp4", "matroska", "avi", "mpegts", "ivf")
ENCODERS = ("libx264", "mpeg4", "ffv1", "libvpx")


def end(case):
    """Stands for a case of a campaign: it ends as it is told."""
    if case == "refused":
        raise VideoError("broken")
    if case == "foreign":
        raise KeyError("x")
    if case == "crashed":
        os.abort()
    if case == "hung":
        time.sleep(1000)
    if case == "lost":
        return len(bytearray(300 * 2**20))
    return case


def test_a_crash_a_hang_and_an_error_are_told_apart(tmp_path):
    ends = ("read", "refused", "foreign", "crashed", "hung", "lost", "read")
    options = {"cpu_seconds": 50.0, "idle_seconds": 2.0, "most_bytes": 200 * 2**20}
    with Child(f"{__name__}:end", log=tmp_path / "log", **options) as child:
        assert tuple(child.ask(case).verdict for case in ends) == ends


def test_records_go_on_and_make_a_table(tmp_path):
    path = tmp_path / "a.jsonl"
    asked = []

    def record_of(seed):
        asked.append(seed)
        return {"kind": "odd" if seed % 2 else "even", "verdict": "read"}

    run_cases(range(3), path, record_of)
    path.write_text(path.read_text() + '{"seed": 3, "ki')
    records = run_cases(range(5), path, record_of)
    assert asked == [0, 1, 2, 3, 4]
    assert records == read_records(path)
    assert "| even | 3 | 0 | 3 |" in table(records, by="kind", title="kind")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("campaign") / "sources"
    return folder, write_sources(folder, formats=FORMATS, only_encoders=ENCODERS)


def test_a_seed_makes_the_same_file_again(sources):
    folder, names = sources
    made = [videos.damaged(seed, folder, names) for seed in (3, 3, 4)]
    assert made[0] == made[1] != made[2]
    for name in ("mp4.libx264", "avi.mpeg4", "matroska.ffv1"):
        assert len(find_boxes((folder / name).read_bytes())) > 5


def test_damaged_videos_are_read_or_refused(sources, tmp_path):
    folder, names = sources
    with videos.child(tmp_path) as child:
        records = [videos.record_of(seed, folder, names, child) for seed in range(30)]
    bad = [record for record in records if record["verdict"] not in ("read", "refused")]
    assert not bad


def test_damaged_annotations_and_recipes_are_read_or_refused(tmp_path):
    (tmp_path / "sources").mkdir()
    sound_files.write_small(tmp_path / "sources")
    with files.child(tmp_path) as child:
        seeds = [s for s in range(120) if files.kind_of(s) in files.SMALL][:60]
        records = [files.record_of(seed, tmp_path / "sources", child) for seed in seeds]
    bad = [record for record in records if record["verdict"] not in ("read", "refused")]
    assert not bad


@pytest.mark.slow
def test_a_service_that_is_killed_loses_no_job(tmp_path):
    pytest.importorskip("fastapi", reason="the service is not installed (dualstream[serve])")
    record = service.record_of(4, tmp_path, jobs=12, kills=2)
    assert record["verdict"] == "read", record
    assert record["done"] + record.get("failed", 0) == record["jobs"] >= 12
