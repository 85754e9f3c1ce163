"""`POST /v1/predict`: answers, jobs, limits, and what is refused without a trace."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.cli.command import succeed
from tests.conftest import moving_square
from tests.serve.service import until, upload

from dualstream.serve import intake
from dualstream.serve.refusal import RefusedError
from dualstream.video import write_video


def folders(client: TestClient) -> list[str]:
    """Folders of jobs on disk."""
    service = client.app_state["service"]
    return sorted(path.name for path in (service.settings.folder / "jobs").iterdir())


@pytest.fixture
def untouched(client: TestClient) -> Iterator[None]:
    """The test leaves no file behind."""
    before = folders(client)
    yield
    until(lambda: folders(client) == before)


def refused(answer: Any, status: int, kind: str) -> str:
    """The message of a refusal."""
    assert (answer.status_code, answer.json()["error"]) == (status, kind), answer.text
    return str(answer.json()["message"])


def test_a_short_video_is_answered_as_predict_does(
    client: TestClient, run: Path, videos: Path
) -> None:
    answer = upload(client, videos / "short.mp4", top=2, enter=0.1)
    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert job["state"] == "done"
    assert job["name"] == "short.mp4"
    options = ("--window", 0.1, "--top", 2, "--enter", 0.1, "--json")
    printed = succeed("predict", videos / "short.mp4", "--checkpoint", run, *options)
    (expected,) = json.loads(printed)["videos"]
    found = job["result"]
    assert found["video"] == {"width": 64, "height": 48, "fps": 25, "frames": 12, "seconds": 0.48}
    for key in ("top", "streams", "timeline", "segments", "cuts"):
        assert found[key] == expected[key], key
    (total, *_) = found["totals"]
    assert total["label"] == found["segments"][0]["label"]
    assert all(len(curve) == len(found["timeline"]) for curve in found["curves"].values())


def test_a_long_video_becomes_a_job(client: TestClient, videos: Path) -> None:
    answer = upload(client, videos / "long.mp4")
    assert answer.status_code == 202
    job = answer.json()
    place = answer.headers["location"]
    assert place == f"/v1/jobs/{job['id']}"
    done = until(lambda: (found := client.get(place).json())["state"] == "done" and found)
    assert done["result"]["timeline"][-1]["end"] == pytest.approx(3.0)


def test_a_short_video_becomes_a_job_on_demand(client: TestClient, videos: Path) -> None:
    assert upload(client, videos / "short.mp4", wait=False).status_code == 202


def test_options_change_windows_and_segments(client: TestClient, videos: Path) -> None:
    found = upload(client, videos / "short.mp4", window_seconds=0.24, enter=1).json()["result"]
    assert [window["end"] for window in found["timeline"]] == [0.24, 0.48]
    assert found["segments"] == []


@pytest.mark.parametrize(
    "query",
    [{"top": 0}, {"enter": 2}, {"leave": 0.9}, {"window_seconds": "nan"}, {"unknown": 1}],
)
def test_options_out_of_range(
    client: TestClient, videos: Path, query: dict[str, Any], untouched: None
) -> None:
    message = refused(upload(client, videos / "short.mp4", **query), 422, "invalid")
    assert next(iter(query)) in message


def test_a_path_under_the_root(client: TestClient, videos: Path) -> None:
    answer = client.post("/v1/predict", json={"path": "short.mp4"})
    assert answer.status_code == 200
    assert answer.json()["name"] == "short.mp4"
    assert (videos / "short.mp4").is_file()
    assert client.delete(f"/v1/jobs/{answer.json()['id']}").status_code == 200
    assert (videos / "short.mp4").is_file()


def test_paths_out_of_the_root(
    client: TestClient, videos: Path, tmp_path: Path, untouched: None
) -> None:
    secret = tmp_path / "secret.mp4"
    write_video(secret, moving_square(4, (48, 64)), fps=25)
    link, folder_link = videos / "link.mp4", videos / "folder"
    link.symlink_to(secret)
    folder_link.symlink_to(tmp_path)
    try:
        up = "../" * 20
        for path in (
            f"{up}etc/passwd",
            f"{up}nothing",
            str(secret),
            "link.mp4",
            "folder/secret.mp4",
        ):
            refused(client.post("/v1/predict", json={"path": path}), 403, "forbidden")
    finally:
        link.unlink()
        folder_link.unlink()
    for path in ("nothing.mp4", ".", "a\0b", "x" * 5000, "short.mp4/x"):
        refused(client.post("/v1/predict", json={"path": path}), 404, "not-found")
    for body in ({}, {"path": "a", "url": "b"}, {"file": "a"}, [], "x", {"path": 3}):
        refused(client.post("/v1/predict", json=body), 422, "invalid")
    content = {"content-type": "application/json"}
    refused(
        client.post("/v1/predict", content=b'{"path": "\\ud800"}', headers=content), 422, "invalid"
    )
    refused(client.post("/v1/predict", content=b" " * 70_000, headers=content), 413, "too-large")


def test_neither_paths_nor_addresses_unless_they_are_allowed(
    client: TestClient, run: Path, untouched: None
) -> None:
    answer = client.post("/v1/predict", json={"url": "http://127.0.0.1/a.mp4"})
    assert "--allow-urls" in refused(answer, 403, "forbidden")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.mp4", b"this is no video", "not a media file"),
        ("empty.mp4", b"", "empty or cut off"),
        ("script.mp4", b"ffconcat version 1.0\nfile short.mp4\n", "ffconcat"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n", "playlists"),
        ("a.sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 1 RTP/AVP 96\n", "not a media file"),
    ],
)
def test_uploads_that_are_no_video(
    client: TestClient, tmp_path: Path, name: str, content: bytes, message: str, untouched: None
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    answer = upload(client, file)
    assert answer.status_code == 422
    assert message in answer.json()["message"]
    assert str(client.app_state["service"].settings.folder) not in answer.text


def test_a_video_that_is_cut_off(
    client: TestClient, videos: Path, tmp_path: Path, untouched: None
) -> None:
    file = tmp_path / "cut.mp4"
    file.write_bytes((videos / "long.mp4").read_bytes()[:400])
    refused(upload(client, file), 422, "video")


def test_what_exceeds_the_limits(client: TestClient, tmp_path: Path, untouched: None) -> None:
    wide = tmp_path / "wide.mp4"
    write_video(wide, moving_square(2, (48, 1200)), fps=25)
    assert "1200 x 48" in refused(upload(client, wide), 413, "too-large")
    slow = tmp_path / "slow.mp4"
    write_video(slow, moving_square(3, (48, 64)), fps=0.1)
    assert "--max-seconds" in refused(upload(client, slow), 413, "too-large")
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(300_000))
    assert "--max-upload-mb" in refused(upload(client, large), 413, "too-large")

    def pieces() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
        for _ in range(30):
            yield bytes(10_000)

    kind = {"content-type": "multipart/form-data; boundary=x"}
    refused(client.post("/v1/predict", content=pieces(), headers=kind), 413, "too-large")


def claiming(video: Path, *, frames: int | None = None, side: int | None = None) -> bytes:
    """The file with other claims in its header: samples of one size, or width and height."""
    data = bytearray(video.read_bytes())
    if frames is not None:
        place = data.index(b"stsz") + 8
        data[place : place + 8] = (100).to_bytes(4, "big") + frames.to_bytes(4, "big")
        place = data.index(b"stts") + 12
        data[place : place + 4] = frames.to_bytes(4, "big")
    if side is not None:
        place = data.index(b"avc1") + 28
        data[place : place + 4] = side.to_bytes(2, "big") * 2
    return bytes(data)


@pytest.mark.parametrize("claim", [{"frames": 10**6}, {"side": 30_000}])
def test_claims_of_a_header(
    client: TestClient, videos: Path, tmp_path: Path, claim: dict[str, int]
) -> None:
    file = tmp_path / "claims.mp4"
    file.write_bytes(claiming(videos / "short.mp4", **claim))
    answer = upload(client, file)
    assert answer.status_code in (200, 413, 422), answer.text  # what is there, or a refusal
    assert client.get("/healthz").json()["status"] == "ok"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "multipart/form-data; boundary=x"),
        (b"--x--\r\n", "multipart/form-data; boundary=x"),
        (b"rubbish", "multipart/form-data; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\na\r\n--x--', None),
        (b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nab', None),
        (b"\r\n".join([b'--x\r\nContent-Disposition: form-data; filename="a"\r\n\r\na'] * 2), None),
    ],
)
def test_forms_that_cannot_be_used(
    client: TestClient, body: bytes, kind: str | None, untouched: None
) -> None:
    headers = {"content-type": kind or "multipart/form-data; boundary=x"}
    refused(client.post("/v1/predict", content=body, headers=headers), 422, "invalid")


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data", "", "video/mp4"])
def test_other_types(client: TestClient, kind: str, untouched: None) -> None:
    answer = client.post("/v1/predict", content=b"x", headers={"content-type": kind})
    refused(answer, 415, "unsupported-type")


@pytest.mark.parametrize(
    ("given", "shown", "stored"),
    [
        ("../../etc/a b.mp4", "a b.mp4", "video.mp4"),
        ("C:\\videos\\a.AVI", "a.AVI", "video.avi"),
        ("a\r\nb.mp4", "ab.mp4", "video.mp4"),
        ("x.mp4;rm -rf", "x.mp4;rm -rf", "video"),
        ("", "video", "video"),
        ("é" * 300, "é" * 200, "video"),
    ],
)
def test_names_of_clients_are_harmless(given: str, shown: str, stored: str) -> None:
    assert intake.clean_name(given) == shown
    assert intake.stored_name(intake.clean_name(given)) == stored


def test_a_full_disk(client: TestClient, videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = folders(client)

    def full(form: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(intake._Form, "flush", full)
    refused(upload(client, videos / "short.mp4"), 507, "disk-full")
    assert folders(client) == before
    monkeypatch.undo()
    assert upload(client, videos / "short.mp4", wait=False).status_code == 202


class _Addresses(BaseHTTPRequestHandler):
    video: bytes

    def do_GET(self) -> None:
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.video if self.path == "/a%20b.mp4" else bytes(300_000))

    def log_message(self, *_: object) -> None:
        pass


def test_addresses_are_fetched_like_uploads(videos: Path, tmp_path: Path) -> None:
    _Addresses.video = (videos / "short.mp4").read_bytes()
    server = HTTPServer(("127.0.0.1", 0), _Addresses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    try:
        path, name = intake.fetch(f"{base}/a%20b.mp4", tmp_path, most_bytes=200_000)
        assert (path.name, name) == ("video.mp4", "a b.mp4")
        assert path.read_bytes() == _Addresses.video
        path.unlink()
        with pytest.raises(RefusedError, match=r"larger than 0\.2 MB"):
            intake.fetch(f"{base}/large", tmp_path, most_bytes=200_000)
        for url in (
            *(f"{base}/elsewhere", "file:///etc/passwd", "ftp://127.0.0.1/a", "http://", "x"),
            *("concat:a|b", "http://127.0.0.1:1/a", "http://[::1", "http://a b/"),
        ):
            with pytest.raises(RefusedError) as refusal:
                intake.fetch(url, tmp_path, most_bytes=200_000)
            assert refusal.value.kind == "invalid", url
    finally:
        server.shutdown()
        server.server_close()
