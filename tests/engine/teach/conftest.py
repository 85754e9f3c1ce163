"""Projects of small videos in which a square moves right, moves down or rests."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.engine.tiny import tiny_recipe, untrained_run

import dualstream as ds
from dualstream.engine.teach.settings import TeachSettings

FPS = 10

PLAN = (("right", 0, 4), ("down", 4, 8), ("rest", 8, 10))
"""What the square of each video does, and from when to when in seconds."""


def acted(seed: int) -> np.ndarray:
    """(T, H, W, 3) frames of a video that goes by `PLAN`."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(60, 255, (20, 20, 3), dtype=np.uint8)
    frames = np.full((PLAN[-1][2] * FPS, 48, 64, 3), 25, np.uint8)
    x, y = 4, 4
    for t, frame in enumerate(frames):
        action = next(name for name, start, end in PLAN if start * FPS <= t < end * FPS)
        x = (x + 3 * (action == "right")) % 44
        y = (y + 2 * (action == "down")) % 28
        frame[y : y + 20, x : x + 20] = texture
    return frames


@pytest.fixture(scope="session")
def acted_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a.mp4, b.mp4 and c.mp4; do not change it."""
    folder = tmp_path_factory.mktemp("acted")
    for seed, name in enumerate("abc"):
        ds.write_video(folder / f"{name}.mp4", acted(seed), fps=FPS)
    return folder


@pytest.fixture(scope="session")
def tiny_settings(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TeachSettings:
    """Settings with a network that takes no time, untrained."""
    run = tmp_path_factory.mktemp("frozen") / "rgb"
    untrained_run(tiny_recipe(), tiny_data, run)
    return TeachSettings(rgb=str(run))


@pytest.fixture(scope="session")
def taught_folder(
    acted_videos: Path, tiny_settings: TeachSettings, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A trained project of all three videos, each but c.mp4 marked; do not change it."""
    folder = tmp_path_factory.mktemp("taught") / "project"
    teacher = ds.Teacher(folder, tiny_settings)
    for file in sorted(acted_videos.iterdir()):
        teacher.add_video(file)
    mark_by_plan(teacher, "a.mp4")
    mark_by_plan(teacher, "b.mp4")
    teacher.train()
    return folder


@pytest.fixture
def taught(taught_folder: Path, tmp_path: Path) -> ds.Teacher:
    """A copy of the trained project."""
    shutil.copytree(taught_folder, tmp_path / "project")
    return ds.Teacher(tmp_path / "project")


@pytest.fixture
def new_teacher(
    tmp_path: Path, acted_videos: Path, tiny_settings: TeachSettings
) -> Callable[..., ds.Teacher]:
    """Function (*names of videos) -> a new project with them."""

    def make(*names: str) -> ds.Teacher:
        teacher = ds.Teacher(tmp_path / "new", tiny_settings)
        for name in names:
            teacher.add_video(acted_videos / name)
        return teacher

    return make


def mark_by_plan(teacher: ds.Teacher, video: str, *, rest: bool = True) -> None:
    """Mark what the square does in a video."""
    for label, start, end in PLAN:
        if label != "rest":
            teacher.mark(video, start, end, label)
        elif rest:
            teacher.set_reviewed(video)
