"""A trained run and a service that tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import moving_square
from tests.engine.tiny import tiny_recipe, untrained_run

pytest.importorskip("fastapi", reason="the service is not installed (dualstream[serve])")

from fastapi.testclient import TestClient
from tests.serve.service import client_of, settings_of

from dualstream.video import write_video


@pytest.fixture(scope="session")
def run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small network that sees RGB."""
    return untrained_run(tiny_recipe("rgb"), tiny_data, tmp_path_factory.mktemp("serve") / "rgb")


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with short.mp4 (half a second) and long.mp4 (3 seconds); do not change it."""
    folder = tmp_path_factory.mktemp("served")
    write_video(folder / "short.mp4", moving_square(12, (48, 64)), fps=25)
    write_video(folder / "long.mp4", moving_square(75, (48, 64)), fps=25)
    return folder


@pytest.fixture(scope="session")
def client(
    run: Path, videos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    """A client of a service for all tests that leave it as it is."""
    folder = tmp_path_factory.mktemp("jobs")
    limits = {
        "answer_seconds": 1.0,
        "upload_bytes": 200_000,
        "side_px": 1000,
        "video_seconds": 20.0,
    }
    with client_of(settings_of(run, folder, root=videos, limits=limits)) as found:
        yield found
