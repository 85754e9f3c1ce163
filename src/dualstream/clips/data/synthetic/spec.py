"""Settings of a synthetic data set, from which all its pixels follow."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
        for name, allowed in (("num_looks", LOOKS), ("num_motions", MOTIONS)):
            if not 1 <= getattr(self, name) <= len(allowed):
                raise InputError(
                    f"SyntheticSpec.{name} must be 1..{len(allowed)}, got {getattr(self, name)}."
                )
        for name in ("train_videos_per_class", "test_videos_per_class"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"SyntheticSpec.{name} must be at least 1, got {getattr(self, name)}."
                )
        if self.num_frames < 8 or self.num_frames % 2 or self.num_frames % 3 == 0:
            raise InputError(
                "SyntheticSpec.num_frames must be even, at least 8 and no multiple of 3 "
                f"(8, 10, 14, 16, 20, 22, 26, ...), got {self.num_frames}."
            )
        if self.size < 32 or self.size % 2:
            raise InputError(
                f"SyntheticSpec.size must be even and at least 32 pixels, got {self.size}."
            )
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise InputError(f"SyntheticSpec.fps must be above 0, got {self.fps}.")
        if self.seed < 0:
            raise InputError(f"SyntheticSpec.seed must not be negative, got {self.seed}.")

    @property
    def videos_per_class(self) -> int:
        """Videos of one class; the first `train_videos_per_class` of them train, the rest test."""
        return self.train_videos_per_class + self.test_videos_per_class


def class_names(spec: SyntheticSpec) -> tuple[str, ...]:
    """Names `look-motion` in label order: label = look * num_motions + motion."""
    return tuple(
        f"{look}-{motion}"
        for look in LOOKS[: spec.num_looks]
        for motion in MOTIONS[: spec.num_motions]
    )
