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
    least = getattr(model, "smallest", (1, 1, 1))
    frames, height, width = (max(a, b) for a, b in zip(wanted, least, strict=True))
    side = getattr(model, "image_size", None)
    fixed = getattr(model, "fixed_size", None) or (side, side)
    return (
        model.in_channels,
        model.length or frames,
        fixed[0] or height,
        fixed[1] or width,
    )
