"""Which clip a network is looked at with where nobody says."""

from __future__ import annotations

from dualstream.models.inspection.table import InputSize
from dualstream.models.network import Network

USUAL = (16, 112, 112)
"""Frames, height, width; of R3D and C3D."""


def usual_input_size(model: Network, *, wanted: tuple[int, int, int] = USUAL) -> InputSize:
    """A clip that the network takes, as near to `wanted` as may be.

    What full layers or a backbone fix (length, image size) is kept to, and too small is enlarged.

    Args:
        model: any network of this package.
        wanted: frames, height, width.

    Returns:
        C, T, H, W.
    """
    (accepts,) = model.inputs.values()
    return (accepts.channels, *accepts.nearest(wanted))
