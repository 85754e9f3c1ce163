"""Inception-v1's table of channels (Szegedy et al. 2015, table 1), shared by I3D and S3D."""

from __future__ import annotations

Widths = tuple[int, int, int, int, int, int]
"""Channels of a block: branch 0; branch 1 reduced, then out; branch 2 likewise; branch 3."""

WIDTHS: dict[str, Widths] = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}
"""Name of a block -> its channels."""
