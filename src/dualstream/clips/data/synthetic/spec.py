"""Settings of a synthetic data set, from which all its pixels follow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

from dualstream.errors import InputError

LOOKS = ("checker", "dots", "rings", "stripes")
MOTIONS = ("fast", "shuttle", "slow", "stutter")
"""Both in alphabetical order, which is the order of labels that split files without a class
list are read with."""


@dataclass(frozen=True)
class SyntheticSpec:
    """All settings of a data set; equal specs give equal pixels."""

    num_looks: int = 4
    num_motions: int = 4
    train_videos_per_class: int = 20
    test_videos_per_class: int = 10
    num_frames: int = 26
    """T of every video; even and no multiple of 3, so that every motion visits every place once."""
    size: int = 128
    """Height and width in pixels, even; all lengths scale with it."""
    fps: float = 25.0
    seed: int = 0
    shuffle_time: bool = False
    """Put the frames of every video in a random order (counter-proof of the temporal stream)."""
    blank_texture: bool = False
    """Give all looks the same grey texture (counter-proof of the spatial stream)."""

    def __post_init__(self) -> None:
        frames = self.num_frames
        checks = {
            "num_looks": (1 <= self.num_looks <= len(LOOKS), f"1..{len(LOOKS)}"),
            "num_motions": (1 <= self.num_motions <= len(MOTIONS), f"1..{len(MOTIONS)}"),
            "train_videos_per_class": (self.train_videos_per_class >= 1, "at least 1"),
            "test_videos_per_class": (self.test_videos_per_class >= 1, "at least 1"),
            "num_frames": (
                frames >= 8 and frames % 2 == 0 and frames % 3 > 0,
                "even, at least 8 and no multiple of 3 (8, 10, 14, 16, 20, 22, 26, ...)",
            ),
            "size": (self.size >= 32 and self.size % 2 == 0, "even and at least 32 pixels"),
            "fps": (math.isfinite(self.fps) and self.fps > 0, "above 0"),
            "seed": (self.seed >= 0, "at least 0"),
        }
        for name, (is_good, allowed) in checks.items():
            if not is_good:
                raise InputError(
                    f"SyntheticSpec.{name} must be {allowed}, got {getattr(self, name)}."
                )

    @property
    def videos_per_class(self) -> int:
        """Videos of one class; the first `train_videos_per_class` of them train, the rest test."""
        return self.train_videos_per_class + self.test_videos_per_class


def class_names(spec: SyntheticSpec) -> tuple[str, ...]:
    """Return names `look-motion` in label order: label = look * num_motions + motion."""
    pairs = product(LOOKS[: spec.num_looks], MOTIONS[: spec.num_motions])
    return tuple(f"{look}-{motion}" for look, motion in pairs)
