"""Inputs of networks, as short as tests want them."""

from __future__ import annotations

from typing import Any

from dualstream.clips.dataset import FlowStores
from dualstream.flow import FlowStore
from dualstream.types import BeyondEnd, ClipSpec, Modality, StreamSpec


def one_stream(
    modality: Modality,
    *,
    short_side: int = 48,
    crop_size: int = 32,
    fps: float | None = None,
    beyond_end: BeyondEnd = "hold",
    **stream: Any,
) -> ClipSpec:
    """A clip of one stream, named like its modality."""
    streams = {modality: StreamSpec(modality, **stream)}
    return ClipSpec(
        streams, short_side=short_side, crop_size=crop_size, fps=fps, beyond_end=beyond_end
    )


def joined(*specs: ClipSpec) -> ClipSpec:
    """A clip of the streams of all, of the size of the first."""
    first = specs[0]
    streams = {name: stream for spec in specs for name, stream in spec.streams.items()}
    return ClipSpec(streams, short_side=first.short_side, crop_size=first.crop_size, fps=first.fps)


def stored(store: FlowStore, backward: FlowStore | None = None) -> dict[str, FlowStores]:
    """The stores of the stream `flow`."""
    return {"flow": FlowStores(store, backward)}
