"""`dualstream flow`."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import typer
from typer.testing import CliRunner

from dualstream.cli.flow import find_jobs, flow
from dualstream.clips.data.manifest import Manifest, VideoRecord
from dualstream.errors import FlowStoreError, InputError, UnknownNameError
from dualstream.flow import FlowJob, FlowStore
from dualstream.flow.methods.params import DEFAULT_METHOD


def run(*arguments):
    app = typer.Typer()
    app.command()(flow)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def prepared(folder, videos, sha256=""):
    """Manifest of `videos` (paths below `folder`/videos) in `folder`/work."""
    records = tuple(VideoRecord(name, 0, ("train",), 12, 25.0, 64, 48, sha256) for name in videos)
    Manifest(records, ("class",), folder / "videos").write(folder / "work")
    return folder / "work"


def test_a_manifest_gets_its_flow_beside_it(tmp_path, tiny_video):
    tiny_video("videos/c/a.mp4")
    tiny_video("videos/c/b.mp4", num_frames=5)
    work = prepared(tmp_path, ["c/a.mp4", "c/b.mp4"])
    result = run(work)
    assert result.exit_code == 0
    assert "2 videos done, 0 kept, 0 failed; 15 flow fields" in result.stdout
    with FlowStore(work / "flow").open("c/b.mp4") as file:
        assert file.num_fields == 4
    result = run(work / "manifest.csv", "--json")
    summary = json.loads(result.stdout)
    assert summary.pop("seconds") > 0
    assert summary == {
        "store": str(work / "flow"),
        "shard": None,
        "done": 0,
        "kept": 2,
        "failed": 0,
        "fields": 15,
        "pairs_per_second": None,  # nothing was computed
        "failures": {},
    }
    anew = json.loads(run(work, "--overwrite", "--json").stdout)
    assert (anew["done"], anew["fields"]) == (2, 15)
    assert (anew["pairs_per_second"] + 0.05) * (anew["seconds"] + 0.0005) >= 15  # both are rounded


def test_options_reach_the_extraction(tmp_path, tiny_video):
    video = tiny_video("a.mp4", num_frames=4)
    options = (
        "--method",
        "dis",
        "--param",
        "preset=fast",
        "--bound",
        8,
        "--short-side",
        32,
        "--quality",
        90,
    )
    result = run(video, "--out", tmp_path / "flow", *options, "--direction", "backward")
    assert result.exit_code == 0
    with FlowStore(tmp_path / "flow").open("a.mp4") as file:
        meta = file.meta
    assert (meta.method, meta.params, meta.direction) == ("dis", {"preset": "fast"}, "backward")
    assert (meta.bound_px, meta.short_side, meta.quality) == (8.0, 32, 90)
    run(video, "--out", tmp_path / "images", "--format", "folders", "--method", "farneback")
    assert (tmp_path / "images" / "a" / "flow_y_00003.jpg").is_file()


def test_both_directions_go_to_two_stores(tmp_path, tiny_video):
    tiny_video("videos/a.mp4", num_frames=4)
    work = prepared(tmp_path, ["a.mp4"])
    result = run(work, "--direction", "both")
    assert "1 videos done, 0 kept, 0 failed; 3 flow fields" in result.stdout
    for store, direction in (("flow", "forward"), ("flow_backward", "backward")):
        with FlowStore(work / store).open("a.mp4") as file:
            assert (file.meta.method, file.meta.direction) == (DEFAULT_METHOD, direction)
    assert "1 kept, 0 failed" in run(work, "--direction", "both", "--verify").stdout
    (work / "flow_backward" / "a.mp4.zip").unlink()
    assert "1 kept, 0 failed" in run(work, "--verify").stdout
    assert "0 kept, 1 failed" in run(work, "--direction", "both", "--verify").stdout
    assert "1 videos done, 0 kept" in run(work, "--direction", "both").stdout
    assert (work / "flow_backward" / "a.mp4.zip").is_file()


def test_failed_videos_are_listed_and_the_exit_code_is_1(tmp_path, tiny_video):
    tiny_video("in/good.mp4", num_frames=3)
    (tmp_path / "in" / "bad.mp4").write_text("no video")
    result = run(tmp_path / "in", "--out", tmp_path / "flow")
    assert result.exit_code == 1
    assert "1 videos done, 0 kept, 1 failed" in result.stdout
    assert "bad.mp4: " in result.stderr
    result = run(tmp_path / "in", "--out", tmp_path / "flow", "--json")
    assert result.exit_code == 1
    assert list(json.loads(result.stdout)["failures"]) == ["bad.mp4"]


def test_verify_finds_what_is_missing_or_broken(tmp_path, tiny_video):
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        tiny_video(f"in/{name}", num_frames=3)
    out = tmp_path / "flow"
    run(tmp_path / "in", "--out", out)
    assert (
        "3 kept, 0 failed; 6 flow fields" in run(tmp_path / "in", "--out", out, "--verify").stdout
    )
    (out / "a.mp4.zip").unlink()
    data = bytearray((out / "b.mp4.zip").read_bytes())
    data[200] ^= 0xFF
    (out / "b.mp4.zip").write_bytes(data)
    result = run(tmp_path / "in", "--out", out, "--verify", "--json")
    assert result.exit_code == 1
    failures = json.loads(result.stdout)["failures"]
    assert list(failures) == ["a.mp4", "b.mp4"]
    assert "does not exist" in failures["a.mp4"]
    assert "checksum" in failures["b.mp4"]
    assert not (out / "a.mp4.zip").exists()


def test_where_videos_are_looked_for(tmp_path, tiny_video):
    video = tiny_video("in/c/A.MP4")
    (tmp_path / "in" / "notes.txt").write_text("")
    out = tmp_path / "flow"
    assert find_jobs(video, out) == ([FlowJob("A.MP4", str(video))], out)
    assert find_jobs(tmp_path / "in", out) == ([FlowJob("c/A.MP4", str(video))], out)
    with pytest.raises(InputError, match="give --out FOLDER"):
        find_jobs(video, None)
    with pytest.raises(InputError, match="does not exist"):
        find_jobs(tmp_path / "absent", out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no manifest\.csv and no video file"):
        find_jobs(tmp_path / "empty", out)


def test_jobs_of_a_manifest_carry_its_checksums(tmp_path):
    work = prepared(tmp_path, ["c/a.mp4"], "ab" * 32)
    jobs, store = find_jobs(work, None)
    path = tmp_path / "videos" / "c" / "a.mp4"
    assert jobs == [FlowJob("c/a.mp4", str(path), "ab" * 32, num_frames=12)]
    assert store == work / "flow"
    assert find_jobs(work, tmp_path / "other")[1] == tmp_path / "other"


def test_shards_together_make_the_whole(tmp_path, tiny_video):
    names = [f"{n}.mp4" for n in range(5)]
    for name in names:
        tiny_video(f"videos/{name}", num_frames=4)
    work = prepared(tmp_path, names)
    parts = [json.loads(run(work, "--shard", f"{i}/3", "--json").stdout) for i in (1, 2, 3)]
    assert [part["shard"] for part in parts] == ["1/3", "2/3", "3/3"]
    assert [(part["done"], part["kept"]) for part in parts] == [(2, 0), (2, 0), (1, 0)]
    result = run(work, "--verify")
    assert "5 kept, 0 failed; 15 flow fields" in result.stdout
    assert "part 2/3): 0 videos done, 2 kept" in run(work, "--shard", "2/3").stdout
    assert "part 9/9): 0 videos done, 0 kept" in run(work, "--shard", "9/9").stdout
    with pytest.raises(InputError, match="A shard is i/n"):
        run(work, "--shard", "4/3")


def test_a_dry_run_stores_nothing(tmp_path, tiny_video):
    names = ["a.mp4", "b.mp4"]
    for name in names:
        tiny_video(f"videos/{name}")
    work = prepared(tmp_path, names)
    estimate = json.loads(run(work, "--dry-run", "--workers", 2, "--json").stdout)
    assert not (work / "flow").exists()
    assert (estimate["num_pairs"], estimate["num_sampled"], estimate["workers"]) == (22, 2, 2)
    assert set(estimate["hours"]) == {"low", "value", "high"}
    text = run(work, "--dry-run").stdout
    assert text.startswith("2 videos, 22 pairs; 2 sampled\npairs/s of a worker: ")
    assert "hours with 1 worker: " in text
    assert "gigabytes: " in text
    assert "Nothing was stored" in text


def test_a_full_disk_is_told_after_what_was_done(tmp_path, tiny_video, monkeypatch):
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        tiny_video(f"in/{name}", num_frames=3)
    sync, synced = os.fsync, []

    def full_from_the_second_on(descriptor):
        synced.append(descriptor)
        if len(synced) > 1:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr("os.fsync", full_from_the_second_on)
    app = typer.Typer()
    app.command()(flow)
    result = CliRunner().invoke(app, [str(tmp_path / "in"), "--out", str(tmp_path / "flow")])
    assert isinstance(result.exception, FlowStoreError)
    assert "1 videos left" in str(result.exception)
    assert "1 videos done, 0 kept, 1 failed; 2 flow fields" in result.stdout
    assert "b.mp4: " in result.stderr
    assert "No space left on device" in result.stderr


def test_motion_vectors_and_warped_flow(tmp_path, tiny_video):
    video = tiny_video("a.mp4", num_frames=4)
    for name, options in (
        ("motion-vectors", ("--method", "motion-vectors")),
        ("warped-farneback", ("--method", "farneback", "--warped")),
    ):
        assert run(video, "--out", tmp_path / "flow", *options).exit_code == 0
        with FlowStore(tmp_path / "flow").open("a.mp4") as file:
            assert (file.meta.method, file.num_fields) == (name, 3)


def test_wrong_calls(tmp_path, tiny_video):
    video = tiny_video("a.mp4", num_frames=3)
    with pytest.raises(UnknownNameError, match="Unknown flow method 'lk'"):
        run(video, "--out", tmp_path / "flow", "--method", "lk")
    with pytest.raises(UnknownNameError, match="setting of tvl1-fast 'speed'"):
        run(video, "--out", tmp_path / "flow", "--param", "speed=fast")
    for options, message in (
        (("--dry-run", "--verify"), "one of --dry-run and --verify"),
        (("--dry-run", "--ray", "auto"), "one of --dry-run and --ray"),
        (("--verify", "--ray", "auto"), "one of --verify and --ray"),
    ):
        with pytest.raises(InputError, match=message):
            run(video, "--out", tmp_path / "flow", *options)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_leaves_whole_files_and_goes_on(tmp_path, tiny_video, workers):
    for i in range(8):
        tiny_video(f"in/{i}.mp4", num_frames=8)
    out = tmp_path / "flow"
    code = (
        "import sys; from pathlib import Path; from dualstream.cli.flow import flow\n"
        "flow(Path(sys.argv[1]), out=Path(sys.argv[2]), workers=int(sys.argv[3]),\n"
        "     method='farneback', param=['iterations=1000'])\n"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "in"), str(out), str(workers)]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
        while len(list(out.glob("*.zip"))) < 2 or not list(out.glob(".*.tmp")):
            assert process.poll() is None
            time.sleep(0.005)
        children = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGKILL)
        process.wait()
    _, alive = psutil.wait_procs(children, timeout=300)
    assert not alive
    stored = sorted(path.name.removesuffix(".zip") for path in out.glob("*.zip"))
    assert 2 <= len(stored) < 8
    for name in stored:
        with FlowStore(out).open(name) as file:
            file.verify()
    again = ("--method", "farneback", "--param", "iterations=1000", "--json")
    result = run(tmp_path / "in", "--out", out, *again)
    counts = json.loads(result.stdout)
    assert (counts["done"], counts["kept"]) == (8 - len(stored), len(stored))
    assert sorted(path.name for path in out.iterdir()) == [f"{i}.mp4.zip" for i in range(8)]
    assert run(tmp_path / "in", "--out", out, "--verify").exit_code == 0
