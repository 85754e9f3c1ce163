"""The expansion from X2D to X3D: factors, layer sizes, exact cost, candidates. Needs no torch.

A tiny network for single images (X2D, all factors one) grows along one of six axes at a time,
each time to about twice the multiply-adds, until it has the cost that is wanted. Which axis to
take is found by training the candidates (`dualstream.engine.train.expansion`).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple, get_args

from dualstream.errors import InputError

Axis = Literal["frame_rate", "duration", "resolution", "width", "bottleneck", "depth"]
"""In the paper X-Fast, X-Temporal, X-Spatial, X-Width, X-Bottleneck and X-Depth."""

AXES: tuple[Axis, ...] = get_args(Axis)

IMAGE_SIZE = 112
"""Side in pixels of the images of X2D."""

SIZE_STEP = 8
"""Image sizes are multiples of it, as 160, 224 and 312 are."""

STAGES = ((24, 1), (48, 2), (96, 5), (192, 3))
"""Width and blocks of res2 to res5; the stem is as wide as res2."""
HEAD_WIDTH = 2048
"""Channels of the last hidden layer, the same in all variants."""

NETWORK_FACTORS: dict[Axis, str] = {
    "width": "gamma_w",
    "bottleneck": "gamma_b",
    "depth": "gamma_d",
}
"""Factors that are options of the network; the other three lie in the recipe's input."""

FACTOR_STEP = 0.05
"""Grid of the factors of width, bottleneck and depth; 2.25, 2.2 and 1.45 lie on it."""


def _check_factors(**factors: float) -> None:
    for name, value in factors.items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} must be a number above 0, got {value}.")


def _round_half_up(value: float) -> int:
    return math.floor(value + 0.5)


@dataclass(frozen=True)
class Factors:
    """Expansion factors of a network and of the clips that it sees; all one is X2D.

    Raises:
        InputError: a factor is not above 0, or a count of frames is below 1.

    Source:
        Feichtenhofer 2020, section 3.
    """

    gamma_tau: int = 1
    """Frame stride."""
    gamma_t: int = 1
    """Frames of a clip."""
    gamma_s: float = 1.0
    """Resolution, in parts of 112 pixels."""
    gamma_w: float = 1.0
    """Width of all layers; the reference code's WIDTH_FACTOR is twice as large."""
    gamma_b: float = 1.0
    """Width inside a block, in parts of the block's width."""
    gamma_d: float = 1.0
    """Blocks of a stage."""

    def __post_init__(self) -> None:
        _check_factors(**vars(self))

    @property
    def image_size(self) -> int:
        """Side of the pictures in pixels, the nearest multiple of 8: gamma_s 1.414 is 160."""
        return max(1, _round_half_up(IMAGE_SIZE * self.gamma_s / SIZE_STEP)) * SIZE_STEP

    @property
    def span(self) -> int:
        """Frames of the video that a clip stands for."""
        return self.gamma_t * self.gamma_tau


class StageSizes(NamedTuple):
    """Channels and blocks of one residual stage."""

    blocks: int
    inner: int
    """Channels of the channel-wise convolution."""
    width: int
    """Channels after each block."""


def layer_sizes(*, gamma_w: float, gamma_b: float, gamma_d: float) -> tuple[StageSizes, ...]:
    """Channels and blocks of res2 to res5 of an X3D.

    With gamma_w 1, gamma_b 2.25 and gamma_d 2.2 (XS, S, M) the stages have 3, 5, 11 and 7 blocks
    of 24, 48, 96 and 192 channels, inside 54, 108, 216 and 432.

    Raises:
        InputError: a factor is not above 0, or leaves no channel inside a block.
    """
    _check_factors(gamma_w=gamma_w, gamma_b=gamma_b, gamma_d=gamma_d)
    stages = []
    for width, blocks in STAGES:
        rounded = round_width(width * gamma_w)
        if gamma_b * rounded < 1:
            raise InputError(f"gamma_b {gamma_b} leaves no channel of {rounded}; raise it.")
        stages.append(StageSizes(math.ceil(blocks * gamma_d), int(gamma_b * rounded), rounded))
    return tuple(stages)


def round_width(width: float) -> int:
    """Nearest multiple of 8, at least 8, and not below 90% of `width`: 34.8 -> 32, 11 -> 16."""
    rounded = max(8, _round_half_up(width / 8) * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


def squeezed_width(inner: int) -> int:
    """Channels in the middle of a squeeze-and-excitation: a 16th, rounded as widths are."""
    return round_width(inner / 16)


def is_squeezed(block: int) -> bool:
    """Whether block 0, 1, ... of a stage has a squeeze-and-excitation: every second has."""
    return block % 2 == 0


def multiply_adds(factors: Factors, *, num_classes: int = 400, in_channels: int = 3) -> int:
    """Exact multiply-adds of one clip in all convolutions and linear layers.

    Norms, activations, means and sums are not counted, as in the published figures.
    """
    stages = layer_sizes(gamma_w=factors.gamma_w, gamma_b=factors.gamma_b, gamma_d=factors.gamma_d)
    frames, side, width = factors.gamma_t, _halved(factors.image_size), stages[0].width
    total = frames * side**2 * width * (9 * in_channels + 5)  # the stem
    for stage in stages:
        places, side = frames * side**2, _halved(side)
        halved = frames * side**2
        total += places * width * stage.inner  # the first block, which halves
        total += halved * (stage.inner * (27 + stage.width) + width * stage.width)
        total += (stage.blocks - 1) * halved * stage.inner * (2 * stage.width + 27)
        num_squeezed = (stage.blocks + 1) // 2  # see `is_squeezed`
        total += num_squeezed * 2 * stage.inner * squeezed_width(stage.inner)
        width = stage.width
    conv5 = stages[-1].inner
    return total + frames * side**2 * width * conv5 + HEAD_WIDTH * (conv5 + num_classes)


@dataclass(frozen=True)
class Candidate:
    """A network that one expansion leads to."""

    axis: Axis
    factors: Factors
    multiply_adds: int


def expand(
    factors: Factors, *, target: float, num_classes: int = 400, in_channels: int = 3
) -> tuple[Candidate, ...]:
    """Networks that differ from this one along one axis and cost about `target`.

    - frame_rate: more frames of the same span of time, the stride falls
    - duration: more frames at the same stride
    - resolution: larger pictures, in steps of 8 pixels
    - width, bottleneck, depth: the factor rises in steps of 0.05

    On each axis, in the order of `AXES`, the value with the cost nearest to the target is taken; an
    axis whose nearest is more than half the way off (in the logarithm) is left out. A stride of one
    cannot fall, so X2D, whose clip is one frame, needs a larger gamma_tau (the frames that its
    frame stands for) to have its frame rate raised.

    Raises:
        InputError: the target is not above the present cost.

    Source:
        Feichtenhofer 2020, section 3.2. The paper's X-Temporal raises the frame rate as well;
        here the two axes are kept apart.
    """
    cost = partial(multiply_adds, num_classes=num_classes, in_channels=in_channels)
    present = cost(factors)
    if not (math.isfinite(target) and target > present):
        raise InputError(
            f"target must be above the present {present:,} multiply-adds, got {target:,}."
        )
    near = math.log(target / present) / 2
    candidates = [c for axis in AXES if (c := _nearest(factors, axis, cost, target))]
    return tuple(c for c in candidates if abs(math.log(c.multiply_adds / target)) <= near)


def _nearest(
    factors: Factors, axis: Axis, cost: Callable[[Factors], int], target: float
) -> Candidate | None:
    """The one nearest to the target on an axis; None where the axis has no other factors."""

    def cost_after(steps: int) -> int:
        return cost(_grown(factors, axis, steps))

    # The frame rate rises until the stride is one.
    most = factors.span - factors.gamma_t if axis == "frame_rate" else 2**62
    reach = 1
    while reach < most and cost_after(reach) < target:
        reach *= 2
    steps = range(1, min(reach, most) + 1)
    above = bisect_left(steps, target, key=cost_after)
    around = [_grown(factors, axis, step) for step in steps[max(0, above - 1) : above + 1]]
    candidates = (Candidate(axis, grown, cost(grown)) for grown in around)
    return min(candidates, key=lambda found: abs(found.multiply_adds - target), default=None)


def _grown(factors: Factors, axis: Axis, steps: int) -> Factors:
    """The factors after so many of the smallest steps on one axis."""
    if axis == "frame_rate":
        frames = factors.gamma_t + steps
        stride = max(1, _round_half_up(factors.span / frames))
        return replace(factors, gamma_t=frames, gamma_tau=stride)
    if axis == "duration":
        return replace(factors, gamma_t=factors.gamma_t + steps)
    if axis == "resolution":
        return replace(factors, gamma_s=(factors.image_size + steps * SIZE_STEP) / IMAGE_SIZE)
    name = NETWORK_FACTORS[axis]
    raised = round(getattr(factors, name) + steps * FACTOR_STEP, 2)
    return replace(factors, **{name: raised})


def _halved(side: int) -> int:
    """Side after a 3x3 convolution of stride 2: 112 -> 56, 39 -> 20."""
    return -(-side // 2)
