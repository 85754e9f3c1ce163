"""`/v1/jobs`: state, events, files, explanations, giving up and forgetting."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tests.serve.service import client_of, settings_of, until, upload

from dualstream.serve.service import Service

NOBODY = "0" * 32


@pytest.fixture(scope="module")
def job(client: TestClient, videos: Path) -> str:
    """Name of a job that is done."""
    return str(upload(client, videos / "short.mp4", enter=0).json()["id"])


def test_events_tell_the_way_to_the_end(client: TestClient, videos: Path) -> None:
    job = upload(client, videos / "long.mp4").json()
    with client.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = "".join(answer.iter_text())
    told = [json.loads(part.partition("data: ")[2]) for part in text.split("\n\n") if part]
    assert told[-1]["state"] == "done"
    assert all(one["result"] is None for one in told)
    order = ["queued", "running", "done"]
    states = [order.index(one["state"]) for one in told]
    assert states == sorted(states)


def test_the_answer_as_files(client: TestClient, job: str) -> None:
    found = client.get(f"/v1/jobs/{job}").json()["result"]
    assert client.get(f"/v1/jobs/{job}/result.json").json() == found
    table = client.get(f"/v1/jobs/{job}/result.csv")
    assert table.headers["content-disposition"] == "attachment; filename*=UTF-8''short.csv"
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [row["label"] for row in rows] == [one["label"] for one in found["segments"]]
    assert {row["source"] for row in rows} == {"short.mp4"}
    subtitles = client.get(f"/v1/jobs/{job}/result.srt").text
    assert subtitles.startswith("1\n00:00:00,000 --> ")
    assert client.get(f"/v1/jobs/{job}/result.txt").status_code == 422


def test_the_video_for_players(client: TestClient, job: str, videos: Path) -> None:
    whole = client.get(f"/v1/jobs/{job}/video")
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.content == (videos / "short.mp4").read_bytes()
    part = client.get(f"/v1/jobs/{job}/video", headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    page = upload(client, videos / "short.mp4", name="page.html").json()["id"]
    kind = client.get(f"/v1/jobs/{page}/video").headers["content-type"]
    assert kind == "application/octet-stream"


def test_an_explanation_is_drawn_once(client: TestClient, job: str) -> None:
    first = client.get(f"/v1/jobs/{job}/explanation", params={"seconds": 0.1})
    assert first.status_code == 200, first.text
    document = first.json()
    assert document["start"] <= 0.1 <= document["end"]
    kinds = {picture["kind"] for picture in document["pictures"]}
    assert kinds == {"frame", "flow", "map"}
    for picture in document["pictures"]:
        answer = client.get(picture["href"])
        assert answer.headers["content-type"] == "image/jpeg"
        assert np.asarray(Image.open(io.BytesIO(answer.content))).shape[-1] == 3
        assert document["start"] - 1e-3 <= picture["seconds"] <= document["end"]
    files = list((client.app_state["service"].settings.folder / "jobs" / job).glob("*/*.json"))
    drawn = files[0].stat().st_mtime_ns
    again = client.get(f"/v1/jobs/{job}/explanation", params={"seconds": 0.1})
    assert again.json() == document
    assert files[0].stat().st_mtime_ns == drawn
    late = client.get(f"/v1/jobs/{job}/explanation", params={"seconds": 1e6}).json()
    assert late["end"] == pytest.approx(0.48)
    for path in ("windows/0/999.jpg", "windows/99/000.jpg"):
        assert client.get(f"/v1/jobs/{job}/{path}").status_code == 404
    assert client.get(f"/v1/jobs/{job}/windows/0/explanation.json").status_code == 422


def test_jobs_that_there_are_not(client: TestClient) -> None:
    for path in (
        "",
        "/events",
        "/result.csv",
        "/explanation?seconds=1",
        "/video",
        "/windows/0/000.jpg",
    ):
        answer = client.get(f"/v1/jobs/{NOBODY}{path}")
        assert (answer.status_code, answer.json()["error"]) == (404, "not-found"), path
    assert client.delete(f"/v1/jobs/{NOBODY}").status_code == 404
    for name in ("../../etc", "%2e%2e%2fjobs.sqlite", "X" * 32, "0" * 31):
        assert client.get(f"/v1/jobs/{name}").status_code in (404, 422)


def test_forgetting_removes_everything(client: TestClient, videos: Path) -> None:
    job = upload(client, videos / "short.mp4").json()["id"]
    folder = client.app_state["service"].settings.folder / "jobs" / job
    assert {path.name for path in folder.iterdir()} == {
        "result.json",
        "timeline.csv",
        "timeline.srt",
        "video.mp4",
    }
    assert client.delete(f"/v1/jobs/{job}").json()["result"] is None
    assert not folder.exists()
    assert client.get(f"/v1/jobs/{job}").status_code == 404


@pytest.mark.slow
def test_one_at_a_time_a_queue_and_giving_up(run: Path, videos: Path, tmp_path: Path) -> None:
    limits = {"concurrency": 1, "queue": 2, "answer_seconds": 0, "keep_seconds": 2.0}
    with client_of(settings_of(run, tmp_path, limits=limits)) as client:
        service = client.app_state["service"]
        step = {"window_seconds": 0.1, "step_seconds": 0.1}
        answers = [upload(client, videos / "long.mp4", **step) for _ in range(6)]
        codes = {answer.status_code for answer in answers}
        assert codes == {202, 429}
        for answer in answers:
            if answer.status_code == 429:
                assert answer.json()["error"] == "queue-full"
                assert 1 <= int(answer.headers["retry-after"]) <= 600
        jobs = [answer.json()["id"] for answer in answers if answer.status_code == 202]
        last = client.delete(f"/v1/jobs/{jobs[-1]}").json()
        if last["state"] != "done":  # a quick machine
            assert last["state"] == "cancelled"
            assert not (tmp_path / "jobs" / jobs[-1]).exists()
        until(
            lambda: all(
                client.get(f"/v1/jobs/{job}").json().get("state") not in ("queued", "running")
                for job in jobs
            )
        )
        until(lambda: not any((tmp_path / "jobs").iterdir()))  # kept for 2 seconds
        assert service.database.ids() == set()


def test_a_job_without_an_answer(client: TestClient, videos: Path) -> None:
    job = upload(client, videos / "long.mp4").json()["id"]
    client.delete(f"/v1/jobs/{job}")
    for path in ("result.csv", "explanation?seconds=1"):
        answer = client.get(f"/v1/jobs/{job}/{path}")
        if client.get(f"/v1/jobs/{job}").status_code == 200:
            assert (answer.status_code, answer.json()["error"]) == (409, "conflict")


def test_what_a_late_worker_leaves_goes_too(client: TestClient, videos: Path) -> None:
    service = client.app_state["service"]
    jobs = service.settings.folder / "jobs"
    kept = upload(client, videos / "short.mp4").json()["id"]
    late = jobs / ("e" * 32)
    late.mkdir()
    (late / "result.json").write_text("{}")
    service._coming.add("d" * 32)
    (jobs / ("d" * 32)).mkdir()
    client.portal.call(_sweep, service)
    assert not late.exists()
    assert (jobs / ("d" * 32)).is_dir()
    assert (jobs / kept / "result.json").is_file()
    service._coming.clear()
    client.portal.call(_sweep, service)
    assert not (jobs / ("d" * 32)).exists()


async def _sweep(service: Service) -> None:
    service.sweep()
