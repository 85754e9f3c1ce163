"""Weights at addresses: broken connections, wrong content, and digests that nobody published."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dualstream.errors import WeightsError
from dualstream.models import WEIGHTS, create_model, fetch
from dualstream.models.convert import to_layout
from dualstream.models.weights import has_checksum, state_sha256, verify
from dualstream.models.weights.catalogue import WebFile
from dualstream.models.weights.sources import download_url

NAME = "x3d_xs_kinetics400"


@dataclass
class Server:
    """A web server of one file that misbehaves as told."""

    content: bytes = b""
    breaks_after: list[int] = field(default_factory=list)
    """Bytes of each answer that are sent before the connection breaks."""
    statuses: list[int] = field(default_factory=list)
    """Answers to give first instead of the content."""
    requests: int = 0
    url: str = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    told = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.requests += 1
            if told.statuses:
                self.send_error(told.statuses.pop(0))
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(told.content)))
            self.end_headers()
            end = told.breaks_after.pop(0) if told.breaks_after else None
            self.wfile.write(told.content[:end])

        def log_message(self, format: str, *args: Any) -> None:
            pass

    monkeypatch.setattr("dualstream.models.weights.sources.WAIT_SECONDS", 0.01)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        told.url = f"http://127.0.0.1:{running.server_port}/X3D_XS.pyth"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield told
        running.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def original() -> bytes:
    """What pytorchvideo would publish for X3D-XS, with random weights."""
    torch.manual_seed(5)
    state = to_layout(create_model("x3d_xs", num_classes=400), layout="pytorchvideo")
    buffer = io.BytesIO()
    torch.save({"model_state": state}, buffer)
    return buffer.getvalue()


@pytest.fixture
def published(
    server: Server, original: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Function (sha256_start="") that puts the server in place of the entry's source."""

    def publish(sha256_start: str = "") -> None:
        entry = replace(WEIGHTS[NAME], source=WebFile(server.url, sha256_start))
        monkeypatch.setitem(WEIGHTS, NAME, entry)
        server.content = original

    return publish


class TestDownload:
    def test_whole(self, server: Server, tmp_path: Path) -> None:
        server.content = bytes(range(256)) * 9000
        download_url(server.url, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == server.content
        assert [p.name for p in tmp_path.iterdir()] == ["file"]

    def test_a_passing_fault_of_the_server(self, server: Server, tmp_path: Path) -> None:
        server.content, server.statuses = b"content", [503, 502]
        download_url(server.url, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == b"content"

    @pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (500, 3)])
    def test_a_lasting_fault(
        self, server: Server, tmp_path: Path, status: int, requests: int
    ) -> None:
        server.statuses = [status] * 9
        with pytest.raises(WeightsError, match=f"cannot be downloaded: the server says {status}"):
            download_url(server.url, tmp_path / "file")
        assert server.requests == requests
        assert list(tmp_path.iterdir()) == []

    def test_nobody_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dualstream.models.weights.sources.WAIT_SECONDS", 0.01)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(WeightsError, match=r"cannot be downloaded: .*refused"):
            download_url("http://127.0.0.1:9/file", tmp_path / "file")


@pytest.mark.parametrize("digest", ["", "of the file"])
def test_a_connection_that_breaks_leaves_nothing(
    published: Callable[..., None], server: Server, original: bytes, cache: Path, digest: str
) -> None:
    published(hashlib.sha256(original).hexdigest()[:8] if digest else "")
    server.breaks_after = [len(original) // 2]
    with pytest.raises(WeightsError, match="expected" if digest else "it is damaged"):
        fetch(NAME)
    assert list(cache.iterdir()) == []
    assert fetch(NAME).is_file()


def test_unknown_digest_is_recorded_and_holds_from_then_on(
    published: Callable[..., None], server: Server, original: bytes, cache: Path
) -> None:
    published()
    path = fetch(NAME)
    record = json.loads((cache / f"{NAME}.json").read_text())
    state = load_file(path)
    assert record == {
        "original_sha256": hashlib.sha256(original).hexdigest(),
        "tensors_sha256": state_sha256(state),
    }
    assert sorted(p.name for p in cache.iterdir()) == [f"{NAME}.json", path.name]
    assert verify(NAME) == fetch(NAME) == path
    assert server.requests == 1

    state["classifier.bias"][0] += 1
    save_file(state, path)
    with pytest.raises(WeightsError, match=f"damaged or not {NAME}"):
        verify(NAME)
    assert fetch(NAME) == verify(NAME)  # made anew from the same original
    assert server.requests == 2

    path.unlink()
    server.content = original + b"\x00"
    with pytest.raises(WeightsError, match="was recorded when these weights were fetched first"):
        fetch(NAME)
    assert not path.exists()


def test_a_broken_record_is_named(published: Callable[..., None], cache: Path) -> None:
    published()
    fetch(NAME)
    (cache / f"{NAME}.json").write_text("{")
    with pytest.raises(WeightsError, match=rf"{NAME}\.json.*cannot be read"):
        verify(NAME)


def test_a_converted_file_alone_is_checked_by_names_and_shapes(
    published: Callable[..., None], server: Server, cache: Path
) -> None:
    published()
    path = fetch(NAME)
    record = cache / f"{NAME}.json"
    first = json.loads(record.read_text())
    record.unlink()
    assert verify(NAME) == path
    assert not has_checksum(NAME)  # checking alone makes no file the right one
    assert fetch(NAME) == path
    assert has_checksum(NAME)
    assert json.loads(record.read_text()) == {**first, "original_sha256": None}
    record.unlink()
    save_file({"classifier.bias": torch.zeros(400)}, path)
    with pytest.raises(WeightsError, match="damaged"):
        verify(NAME)


@pytest.mark.parametrize("right", [True, False])
def test_the_start_of_a_digest_is_checked(
    published: Callable[..., None], original: bytes, cache: Path, right: bool
) -> None:
    digest = hashlib.sha256(original).hexdigest()
    published(digest[:8] if right else "00000000")
    if right:
        assert fetch(NAME).is_file()
        return
    with pytest.raises(WeightsError, match=rf"sha256 {digest} .* expected 00000000\.\.\."):
        fetch(NAME)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("damage", ["truncated", "not torch", "other network", "no state"])
def test_a_wrong_file_without_known_digest(
    published: Callable[..., None], server: Server, original: bytes, cache: Path, damage: str
) -> None:
    published()
    buffer = io.BytesIO()
    torch.save({"model_state": {"conv.weight": torch.zeros(1)}}, buffer)
    no_state = io.BytesIO()
    torch.save({"epoch": 3}, no_state)
    server.content, message = {
        "truncated": (original[:-1000], "it is damaged, or no state dict that torch saved"),
        "not torch": (b"<html>", "it is damaged, or no state dict that torch saved"),
        "other network": (buffer.getvalue(), "1 not of this network: conv.weight"),
        "no state": (no_state.getvalue(), "holds no state dict"),
    }[damage]
    with pytest.raises(WeightsError, match=message):
        fetch(NAME)
    assert list(cache.iterdir()) == []


def test_a_download_is_interrupted_and_leaves_nothing(
    published: Callable[..., None], server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published()

    def interrupted(url: str, target: Path) -> None:
        target.write_bytes(b"part")
        raise KeyboardInterrupt

    monkeypatch.setattr("dualstream.models.weights.sources.download_url", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(NAME)
    assert list(cache.iterdir()) == []


def test_placed_by_hand(
    published: Callable[..., None], server: Server, original: bytes, cache: Path
) -> None:
    published()
    server.statuses = [404]
    with pytest.raises(WeightsError) as raised:
        fetch(NAME)
    path = cache / "X3D_XS.pyth"
    assert f"download {server.url} -- and copy it to {path}" in str(raised.value)
    path.write_bytes(original)
    assert fetch(NAME).is_file()


def test_the_network_gets_the_published_weights(
    published: Callable[..., None], original: bytes
) -> None:
    published()
    model = create_model("x3d_xs", weights=NAME)
    state = torch.load(io.BytesIO(original), weights_only=True)["model_state"]
    converted = to_layout(model, layout="pytorchvideo")
    assert converted.keys() == state.keys()
    assert all(torch.equal(converted[key], state[key]) for key in state)
    assert model.spec == WEIGHTS[NAME].spec
    assert model.classes[399] == "zumba"
