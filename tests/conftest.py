"""Fixtures shared by all tests: real data where it lies, tiny real files where it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the real data; tests that need it skip where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data are not at {SHARED_DATA}")
    return SHARED_DATA


def moving_square(num_frames: int, size: tuple[int, int], step_px: int = 2) -> np.ndarray:
    """(T, H, W, 3) frames of a textured square that moves right by `step_px` a frame."""
    height, width = size
    rng = np.random.default_rng(7)
    texture = rng.integers(40, 255, (height // 2, width // 3, 3), dtype=np.uint8)
    frames = np.full((num_frames, height, width, 3), 30, np.uint8)
    for t in range(num_frames):
        left = (t * step_px) % (width - texture.shape[1])
        top = height // 4
        frames[t, top : top + texture.shape[0], left : left + texture.shape[1]] = texture
    return frames


@pytest.fixture
def tiny_video(tmp_path: Path) -> Callable[..., Path]:
    """Function (name, num_frames=12, size=(48, 64), fps=25.0) -> path of a real H.264 file."""

    def write(
        name: str = "tiny.mp4",
        *,
        num_frames: int = 12,
        size: tuple[int, int] = (48, 64),
        fps: float = 25.0,
    ) -> Path:
        from dualstream.video import write_video

        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, moving_square(num_frames, size), fps=fps)
        return path

    return write
