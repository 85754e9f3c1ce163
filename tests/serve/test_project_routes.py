"""`/v1/projects`: marks, trainings and proposals over HTTP, in a service that is always there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.serve.service import until

pytest.importorskip("dualstream.engine.teach", reason="this dualstream cannot teach")

import numpy as np

from dualstream.engine.teach.settings import TeachSettings
from dualstream.engine.teach.teacher import Teacher
from dualstream.video import write_video


def acted(seed: int) -> np.ndarray:
    """(T, H, W, 3): a square that moves right for 4 s, then down for 4 s, at 10 frames a second."""
    texture = np.random.default_rng(seed).integers(60, 255, (20, 20, 3), dtype=np.uint8)
    frames = np.full((80, 48, 64, 3), 25, np.uint8)
    for t, frame in enumerate(frames):
        x, y = (3 * t % 44, 4) if t < 40 else (4, 2 * t % 28)
        frame[y : y + 20, x : x + 20] = texture
    return frames


@pytest.fixture(scope="module")
def acted_videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("acted")
    return [
        write_video(folder / f"{n}.mp4", acted(s), fps=10) or folder / f"{n}.mp4"
        for s, n in enumerate("ab")
    ]


@pytest.fixture
def base(client: TestClient, run: Path, request: pytest.FixtureRequest) -> str:
    """Address of a new project with a small network."""
    name = request.node.name.replace("_", "-")[:40]
    folder = client.app_state["service"].settings.folder / "projects" / name
    Teacher(folder, TeachSettings(rgb=str(run)))
    return f"/v1/projects/{name}"


def add(client: TestClient, base: str, video: Path, **headers: str) -> Any:
    files = {"file": (video.name, video.read_bytes())}
    return client.post(f"{base}/videos", files=files, headers=headers)


def mark(client: TestClient, base: str, *values: Any, **more: Any) -> Any:
    body = dict(zip(("video", "start", "end", "label"), values, strict=True)) | more
    return client.post(f"{base}/marks", json=body)


@pytest.mark.slow
def test_marks_become_a_timeline(client: TestClient, base: str, acted_videos: list[Path]) -> None:
    for video in acted_videos:
        assert add(client, base, video).status_code == 200
        for label, start, end in (("right", 0, 4), ("down", 4, 8)):
            answer = mark(client, base, video.name, start, end, label)
            assert answer.status_code == 200, answer.text
    project = answer.json()
    assert project["classes"] == ["down", "right"]
    assert [video["seconds"] for video in project["videos"]] == [8.0, 8.0]
    assert (project["trained"], project["training"]["state"]) == (False, "never")
    assert client.get(f"{base}/review").status_code == 409

    begun = client.post(f"{base}/training")
    assert (begun.status_code, begun.json()["state"]) == (202, "running")
    assert client.post(f"{base}/training").status_code == 409
    ended = until(
        lambda: (one := client.get(f"{base}/training").json())["state"] != "running" and one
    )
    assert ended["state"] == "done", ended
    project = client.get(base).json()
    assert (project["trained"], project["stale"]) == (True, False)
    assert set(project["report"]["per_class"]) == {"right", "down"}
    found = client.get(f"{base}/timeline", params={"video": "a.mp4", "enter": 0.1}).json()
    assert {segment["label"] for segment in found["segments"]} <= {"right", "down"}
    assert found["segments"]
    assert client.get(f"{base}/review").json() == {"windows": []}  # all of them are marked

    table = client.get(f"{base}/intervals.csv").text.splitlines()
    assert table[0] == "path,start_seconds,end_seconds,label"
    assert len(table) == 5
    erased = {"video": "a.mp4", "start": 0, "end": 4}
    project = client.post(f"{base}/unmark", json=erased).json()
    assert (len(project["marks"]), project["stale"]) == (3, True)
    project = client.post(f"{base}/reviewed", json={"video": "b.mp4", "reviewed": True}).json()
    assert [video["reviewed"] for video in project["videos"]] == [False, True]


def test_what_is_refused(client: TestClient, base: str, acted_videos: list[Path]) -> None:
    def refused(answer: Any, status: int, text: str) -> None:
        assert answer.status_code == status, answer.text
        assert text in answer.json()["message"]
        assert str(client.app_state["service"].settings.folder) not in answer.text

    assert add(client, base, acted_videos[0]).status_code == 200
    assert mark(client, base, "a.mp4", 1, 3, "right").status_code == 200
    refused(mark(client, base, "a.mp4", 2, 4, "down"), 422, "overlaps")
    assert mark(client, base, "a.mp4", 2, 4, "down", replace=True).status_code == 200
    refused(mark(client, base, "a.mp4", 3, 3, "down"), 422, "")
    refused(mark(client, base, "a.mp4", 7, 60, "down"), 422, "leaves a.mp4")
    refused(mark(client, base, "no.mp4", 1, 3, "down"), 404, "no.mp4")
    refused(mark(client, base, "a.mp4", "x", 3, "down"), 422, "start")
    refused(mark(client, base, "a.mp4", 1, 3, ""), 422, "label")
    refused(client.get(f"{base}-no"), 404, "no project")
    refused(
        client.put("/v1/projects/new", json={"window_seconds": 1.5, "step_seconds": 1}), 422, ""
    )
    for name in ("..", ".hidden", "a%2Fb", "x" * 61):
        assert client.get(f"/v1/projects/{name}").status_code in (404, 422), name

    text = client.post(f"{base}/videos", files={"file": ("a.mp4", b"no video")})
    refused(text, 422, "not a media file")
    folder = client.app_state["service"].settings.folder / "projects" / base.rpartition("/")[2]
    assert [path.name for path in (folder / "videos").iterdir()] == ["a.mp4"]
    again = add(client, base, acted_videos[1])
    assert again.status_code == 200
    refused(client.get(f"{base}/timeline", params={"video": "a.mp4"}), 409, "train")


def test_videos_of_a_project(client: TestClient, base: str, acted_videos: list[Path]) -> None:
    add(client, base, acted_videos[0])
    second = add(client, base, acted_videos[0]).json()
    assert [video["name"] for video in second["videos"]] == ["a (2).mp4", "a.mp4"]
    whole = client.get(f"{base}/video", params={"video": "a.mp4"})
    assert whole.content == acted_videos[0].read_bytes()
    left = client.delete(f"{base}/videos", params={"video": "a (2).mp4"}).json()
    assert [video["name"] for video in left["videos"]] == ["a.mp4"]
    folder = client.app_state["service"].settings.folder / "projects" / base.rpartition("/")[2]
    assert [path.name for path in (folder / "videos").iterdir()] == ["a.mp4"]
    assert base.rpartition("/")[2] in client.get("/v1/projects").json()["projects"]


def test_a_training_that_cannot_be(client: TestClient, base: str) -> None:
    client.post(f"{base}/training")
    ended = until(
        lambda: (one := client.get(f"{base}/training").json())["state"] != "running" and one
    )
    assert ended["state"] == "failed"
    assert ended["message"]
