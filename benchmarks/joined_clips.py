"""Clips of a data set joined to long files, for benchmarks/intervals.py and benchmarks/teach.py."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import dualstream as ds
from dualstream.clips.data.manifest import Manifest, VideoRecord

FPS = 30
"""Of J-HMDB's clips, which all have one size too, 320x240."""


def by_class(manifest: Manifest, part: str) -> dict[int, list[VideoRecord]]:
    """Return label -> the clips of one part of split 1, in the manifest's order."""
    found: dict[int, list[VideoRecord]] = defaultdict(list)
    for record in manifest.records:
        if record.splits[0] == part:
            found[record.label].append(record)
    return dict(sorted(found.items()))


def write_joined(path: Path, manifest: Manifest, pieces: Iterable[tuple[VideoRecord, int]]) -> None:
    """Write clips one after the other, hard cuts between them.

    Args:
        path: of the video.
        manifest: that the clips are of.
        pieces: (clip, how many of its first frames) of each.

    Raises:
        ShapeError: clips of several sizes.
    """

    def frames() -> Iterator[NDArray[np.uint8]]:
        for record, count in pieces:
            yield from ds.read_video(manifest.video_path(record)).data[:count]

    ds.write_video(path, frames(), fps=FPS)
