"""Videos and flow whose values tell their positions: frame t is grey level 6 t, field t of the
store is byte 100 + 2 t in x and 60 + 2 t in y."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualstream.clips.data.manifest import Manifest, VideoRecord
from dualstream.flow import FlowMeta, FlowStore
from dualstream.video import write_video

HEIGHT, WIDTH = 48, 64


@pytest.fixture
def grey_manifest(tmp_path: Path) -> Manifest:
    """Three videos of 30, 12 and 4 grey frames of 48 x 64, 25 fps."""
    records = []
    for label, count in enumerate((30, 12, 4)):
        frames = np.empty((count, HEIGHT, WIDTH, 3), np.uint8)
        frames[...] = (6 * np.arange(count))[:, None, None, None]
        write_video(tmp_path / f"videos/c{label}.mp4", frames, fps=25)
        records.append(
            VideoRecord(f"c{label}.mp4", label, ("train",), count, 25.0, WIDTH, HEIGHT, "")
        )
    return Manifest(tuple(records), ("a", "b", "c"), tmp_path / "videos")


def _write_flow(
    store: FlowStore, name: str, fields: int | np.ndarray, *, offset: int = 0, **changes: Any
) -> None:
    if isinstance(fields, int):
        count = fields
        fields = np.empty((count, 2, HEIGHT, WIDTH), np.uint8)
        fields[:, 0] = (100 + offset + 2 * np.arange(count))[:, None, None]
        fields[:, 1] = (60 + offset + 2 * np.arange(count))[:, None, None]
    facts = {"method": "dis", "fps": 25.0, "source": name, "version": "0"} | changes
    store.write(name, [fields], FlowMeta(**facts))


@pytest.fixture
def write_flow() -> Callable[..., None]:
    """Function (store, name, number of fields or fields (n, 2, H, W), offset=0, changes of meta);
    a number gives fields of bytes 100 + offset + 2 t in x and 60 + offset + 2 t in y."""
    return _write_flow


@pytest.fixture
def grey_store(tmp_path: Path, grey_manifest: Manifest) -> FlowStore:
    """Forward flow of the three videos."""
    store = FlowStore(tmp_path / "forward")
    for record in grey_manifest.records:
        _write_flow(store, record.path, record.frames - 1)
    return store
