"""Weights at addresses: broken connections, wrong content, and digests that nobody published."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import socket
import struct
import threading
import time
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
from dualstream.models.weights.sources import WebFile
from dualstream.models.weights.web_download import download_url

NAME = "x3d_xs_kinetics400"
TAG = '"first version"'


@dataclass
class Server:
    """A web server of one file that misbehaves as told."""

    content: bytes = b""
    tag: str = TAG
    breaks_after: list[int] = field(default_factory=list)
    """Bytes of each answer that are sent before the connection breaks."""
    resets: bool = False
    """Break with a reset instead of an end."""
    statuses: list[int] = field(default_factory=list)
    """Answers to give first instead of the content."""
    ranges: list[str] = field(default_factory=list)
    """The Range of each request, "" without."""
    ignores_range: bool = False
    wrong_range: bool = False
    url: str = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    told = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            told.ranges.append(wanted)
            if told.statuses:
                self.send_error(told.statuses.pop(0))
                return
            goes_on = wanted and self.headers.get("If-Range") == told.tag
            start = int(wanted[6:-1]) if goes_on and not told.ignores_range else 0
            body = told.content[start:]
            self.send_response(206 if start else 200)
            if start:
                shown = start - 1 if told.wrong_range else start
                total = len(told.content)
                self.send_header("Content-Range", f"bytes {shown}-{total - 1}/{total}")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", told.tag)
            self.end_headers()
            breaks = bool(told.breaks_after)
            self.wfile.write(body[: told.breaks_after.pop(0)] if breaks else body)
            if breaks and told.resets:
                time.sleep(0.2)  # a reset would take away what the other side has not read yet
                self.connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                self.connection.close()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    monkeypatch.setattr("dualstream.models.weights.web_download.WAIT_SECONDS", 0.01)
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
        assert server.ranges == [""]

    def test_goes_on_after_breaks(self, server: Server, tmp_path: Path) -> None:
        server.content = bytes(range(256)) * 9000
        server.breaks_after = [700_000, 1_200_000]
        download_url(server.url, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == server.content
        assert server.ranges == ["", "bytes=700000-", "bytes=1900000-"]

    def test_goes_on_after_resets(self, server: Server, tmp_path: Path) -> None:
        server.content = bytes(range(256)) * 20_000
        server.breaks_after, server.resets = [3 << 20], True
        download_url(server.url, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == server.content
        first, second = server.ranges
        assert first == ""
        assert int(second.removeprefix("bytes=").removesuffix("-")) >= 1 << 20

    def test_starts_anew_when_the_file_has_changed(self, server: Server, tmp_path: Path) -> None:
        server.content = b"a" * 1000
        server.breaks_after = [400]
        changed = b"b" * 900

        class Changing(list):  # type: ignore[type-arg]
            def append(self, value: object) -> None:
                super().append(value)
                if len(self) == 2:
                    server.content, server.tag = changed, '"second version"'

        server.ranges = Changing()
        download_url(server.url, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == changed

    @pytest.mark.parametrize("fault", ["ignores_range", "weak_tag", "wrong_range"])
    def test_servers_that_cannot_go_on(self, server: Server, tmp_path: Path, fault: str) -> None:
        server.content = bytes(range(256)) * 40
        server.breaks_after = [3000]
        if fault == "weak_tag":
            server.tag = 'W/"1"'
        else:
            setattr(server, fault, True)
        download_url(server.url, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == server.content

    def test_a_passing_fault_of_the_server(self, server: Server, tmp_path: Path) -> None:
        server.content, server.statuses = b"content", [503, 502]
        download_url(server.url, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == b"content"

    @pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (500, 4)])
    def test_a_lasting_fault(
        self, server: Server, tmp_path: Path, status: int, requests: int
    ) -> None:
        server.statuses = [status] * 9
        with pytest.raises(WeightsError, match=f"cannot be downloaded.*the server says {status}"):
            download_url(server.url, tmp_path / "file")
        assert len(server.ranges) == requests

    def test_always_breaking_off(self, server: Server, tmp_path: Path) -> None:
        server.content, server.breaks_after = b"x" * 1000, [0, 0, 0, 0]
        with pytest.raises(WeightsError, match=r"in 4 attempts: .* 1000 bytes before the end"):
            download_url(server.url, tmp_path / "file")

    def test_nobody_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dualstream.models.weights.web_download.WAIT_SECONDS", 0.01)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(WeightsError, match=r"in 4 attempts: .*refused"):
            download_url("http://127.0.0.1:9/file", tmp_path / "file")


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
    assert len(server.ranges) == 1

    state["classifier.bias"][0] += 1
    save_file(state, path)
    with pytest.raises(WeightsError, match=f"damaged or not {NAME}"):
        verify(NAME)
    assert fetch(NAME) == verify(NAME)  # made anew from the same original
    assert len(server.ranges) == 2

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
