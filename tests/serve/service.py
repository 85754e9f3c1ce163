"""Services for tests: in this process over ASGI, and in one of its own over a socket."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from fastapi.testclient import TestClient

from dualstream.serve.app import make_app
from dualstream.serve.service import Service
from dualstream.serve.settings import Limits, NetworkSettings, Settings

BASE = "http://127.0.0.1:8000"


def settings_of(run: Path, folder: Path, **values: Any) -> Settings:
    """Settings of a service of one run, with windows of a tenth of a second."""
    limits = Limits(**values.pop("limits", {}))
    networks = NetworkSettings(runs=(run,), options={"window_seconds": 0.1})
    return Settings(networks=networks, folder=folder, limits=limits, **values)


@contextlib.contextmanager
def client_of(settings: Settings, **headers: str) -> Iterator[TestClient]:
    """A client of a service that runs while the block does."""
    app = make_app(Service(settings))
    with TestClient(app, base_url=BASE, headers=headers, raise_server_exceptions=False) as client:
        client.app_state = {"service": app.state.service}  # type: ignore[attr-defined]
        yield client


def upload(
    client: TestClient | httpx.Client, video: Path, *, name: str | None = None, **query: Any
) -> httpx.Response:
    """Upload a file."""
    files = {"file": (name or video.name, video.read_bytes(), "video/mp4")}
    return client.post("/v1/predict", files=files, params=query)


def until(happened: Callable[[], Any]) -> Any:
    """Wait until something is true, and return it; only pytest's time limit ends the waiting."""
    while not (found := happened()):
        time.sleep(0.05)
    return found


class Running:
    """`dualstream serve` in a process of its own.

    Args:
        run: its network; None where the options name another.
        folder: of its jobs.
        options: of the command.
        env: of the process, besides its own.
    """

    def __init__(self, run: Path | None, folder: Path, *options: str, **env: str) -> None:
        command = [sys.executable, "-m", "dualstream", "serve", "--port", "0"]
        command += [] if run is None else [str(run)]
        command += ["--data", str(folder), "--window", "0.1", *options]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        )
        self.folder = folder
        self.log: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.url = line.rpartition(" ")[2].strip().rstrip("/")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.log.append(json.loads(line))
            except ValueError:
                self.errors.append(line)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Lines of the log about an event."""
        return [entry for entry in list(self.log) if entry["event"] == name]

    def client(self, **headers: str) -> httpx.Client:
        """A client of it."""
        return httpx.Client(base_url=self.url, timeout=None, headers=headers)

    def end(self, *, kill: bool = False) -> int:
        """End it, and return its exit code."""
        if self.process.poll() is None:
            self.process.kill() if kill else self.process.terminate()
        code = self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        return code
