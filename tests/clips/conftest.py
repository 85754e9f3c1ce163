"""Videos and flow whose values tell their positions: frame t is grey level 6 t, field t of the
store is byte 100 + 2 t in x and 60 + 2 t in y."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualstream.clips.manifest import Manifest, VideoRecord
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


class FlowWriter:
    """Writes flow of counting bytes into a new store."""

    def __init__(self, root: Path) -> None:
        self.store = FlowStore(root)

    def add(self, name: str, num_fields: int, *, offset: int = 0, **changes: Any) -> None:
        """Fields of bytes 100 + offset + 2 t (x) and 60 + offset + 2 t (y); `changes` of meta."""
        fields = np.empty((num_fields, 2, HEIGHT, WIDTH), np.uint8)
        fields[:, 0] = (100 + offset + 2 * np.arange(num_fields))[:, None, None]
        fields[:, 1] = (60 + offset + 2 * np.arange(num_fields))[:, None, None]
        self.write(name, fields, **changes)

    def write(self, name: str, fields: np.ndarray, **changes: Any) -> None:
        """Any fields (n, 2, H, W); `changes` of meta."""
        facts = {"method": "dis", "fps": 25.0, "source": name, "version": "0"} | changes
        self.store.write(name, [fields], FlowMeta(**facts))


@pytest.fixture
def flow_writer(tmp_path: Path) -> FlowWriter:
    """Writer of an empty store."""
    return FlowWriter(tmp_path / "written")


@pytest.fixture
def grey_store(tmp_path: Path, grey_manifest: Manifest) -> FlowStore:
    """Forward flow of the three videos."""
    writer = FlowWriter(tmp_path / "forward")
    for record in grey_manifest.records:
        writer.add(record.path, record.frames - 1)
    return writer.store
