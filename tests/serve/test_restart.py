"""Ends of all kinds, in processes of their own: asked for, killed, the worker killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from pathlib import Path

import httpx
import psutil
import pytest
from tests.serve.service import Running, until, upload

FINISHED = ("done", "failed", "cancelled")


@pytest.mark.slow
def test_jobs_outlast_a_kill(run: Path, videos: Path, tmp_path: Path) -> None:
    """kill -9 with many jobs in all states: each is done afterwards, or failed by name."""
    options = ("--answer-seconds", "0", "--max-queue", "60", "--max-running", "2")
    first = Running(run, tmp_path, *options)
    with first.client() as client:
        quick = {"window_seconds": 0.5}
        jobs = [upload(client, videos / "long.mp4", **quick).json()["id"] for _ in range(50)]
        half = upload(client, videos / "long.mp4").json()["id"]
        (tmp_path / "jobs" / half / "video.mp4").unlink(missing_ok=True)  # a lost file
    first.end(kill=True)
    left = {path.name for path in (tmp_path / "jobs").iterdir()}
    (tmp_path / "jobs" / ("f" * 32)).mkdir()  # an upload that had not come to its end
    second = Running(run, tmp_path, *options)
    try:
        assert left >= set(jobs)
        with second.client() as client:
            for job in (*jobs, half):
                found = until(
                    lambda job=job: (
                        (one := client.get(f"/v1/jobs/{job}").json())["state"] in FINISHED and one
                    )
                )
                assert found["state"] == "done" or job == half, found
                assert found["state"] == "done" or "long.mp4" in found["failure"]["message"]
        assert not (tmp_path / "jobs" / ("f" * 32)).exists()
        assert second.end() == 0
        assert [entry["event"] for entry in second.log][-2:] == ["stopping", "stopped"]
        assert second.errors == []
    finally:
        second.end(kill=True)


@pytest.mark.slow
def test_a_second_service_a_killed_worker_and_a_gentle_end(
    run: Path, videos: Path, tmp_path: Path
) -> None:
    one = Running(run, tmp_path, "--answer-seconds", "10", "--max-running", "1")
    try:
        other = Running(run, tmp_path)
        assert other.end() == 2
        assert "another `dualstream serve` works with this folder" in "".join(other.errors)

        with one.client() as client:
            kept = upload(client, videos / "long.mp4", wait=False).json()["id"]
            worker = one.events("started")[0]["worker"]
            os.kill(worker, signal.SIGKILL)
            # What the worker had begun is begun again by the next one.
            until(lambda: client.get(f"/v1/jobs/{kept}").json()["state"] == "done")
            assert one.events("worker-died")[0]["exit_code"] == -9
            assert upload(client, videos / "short.mp4").status_code == 200

            # A client that leaves: its job is given up, and nothing of it stays.
            before = {path.name for path in (tmp_path / "jobs").iterdir()}
            with pytest.raises(httpx.TimeoutException):
                client.post(
                    "/v1/predict",
                    files={"file": ("a.mp4", (videos / "long.mp4").read_bytes())},
                    params={"window_seconds": 0.1, "step_seconds": 0.1},
                    timeout=httpx.Timeout(None, read=0.05),
                )
            until(lambda: client.get("/healthz").json()["running"] == 0)
            after = {path.name for path in (tmp_path / "jobs").iterdir()}
            assert len(after - before) <= 1  # it may have been quicker than the client

            # One that leaves in the middle of its upload.
            head = (
                "POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n"
                "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
                'Content-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
            )
            address = ("127.0.0.1", int(one.url.rpartition(":")[2]))
            with socket.create_connection(address) as leaving:
                leaving.sendall(head.encode() + bytes(10_000))
                until(lambda: len(list((tmp_path / "jobs").iterdir())) > len(after))
            until(lambda: {path.name for path in (tmp_path / "jobs").iterdir()} == after)

            # What still waits at the end is there for the next service.
            waiting = [upload(client, videos / "long.mp4", wait=False).json() for _ in range(5)]
            answers: list[int] = []
            asked = threading.Thread(
                target=lambda: answers.append(upload(client, videos / "short.mp4").status_code)
            )
            asked.start()
            until(lambda: len(one.events("job-queued")) >= 8)
            assert one.end() == 0
            asked.join()
        assert answers[0] in (200, 202, 503)
        text = "".join(str(entry) for entry in one.log)
        assert "long.mp4" not in text  # no names of files in the log
        assert len(waiting) == 5
    finally:
        one.end(kill=True)


@pytest.mark.slow
def test_a_video_that_kills_its_worker_twice(run: Path, videos: Path, tmp_path: Path) -> None:
    """A stand-in for what eats all memory: the worker is killed whenever it works on the job."""
    service = Running(run, tmp_path, "--answer-seconds", "0")
    try:
        with service.client() as client:
            job = upload(client, videos / "long.mp4", window_seconds=0.1, step_seconds=0.1).json()

            def killed() -> bool:
                found = client.get(f"/v1/jobs/{job['id']}").json()
                if found["progress"] is not None:
                    for child in psutil.Process(service.process.pid).children():
                        with contextlib.suppress(psutil.Error):
                            if "spawn_main" in " ".join(child.cmdline()):
                                child.kill()
                return found["state"] in FINISHED

            until(killed)
            found = client.get(f"/v1/jobs/{job['id']}").json()
            if found["state"] == "failed":
                assert "long.mp4" in found["failure"]["message"]
                assert len(service.events("worker-died")) >= 2
            assert not (tmp_path / "jobs" / job["id"] / "video.mp4").exists() or (
                found["state"] == "done"
            )
            until(lambda: client.get("/healthz").json()["status"] == "ok")
            assert upload(client, videos / "short.mp4").status_code in (200, 202)
    finally:
        service.end()
