"""Where flow is read from: one protocol for flow that is stored and flow that is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dualstream.flow.methods.params import Direction
from dualstream.types import Flow


class FlowSource(Protocol):
    """Random access to the flow fields between the frames of one video."""

    @property
    def num_fields(self) -> int:
        """Number of fields: frames minus one."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels of the grid that the flow is on."""
        ...

    def read(self, indices: Sequence[int], *, direction: Direction = "forward") -> Flow:
        """Fields `indices`, in any order and with repeats.

        Args:
            indices: n fields; field i lies between frames i and i + 1.
            direction: `forward` leads from frame i to i + 1, `backward` from i + 1 to i.

        Returns:
            Flow of n fields; as bytes (`Flow.bound_px` is a number) where bytes are what is
            stored.

        Raises:
            InputError: an index outside 0..num_fields - 1, or a direction that is not there.
            FlowError: the flow cannot be read or computed.
        """
        ...
