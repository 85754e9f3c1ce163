"""TV-L1 on one image size, in torch: warping, linearising, and iterating all pairs of a batch.

With c = tau / theta the flow is kept as U = c u, so that no gradient needs a factor:

    V = U - clamp(rho + n . U, -m, m) n      n = g / |g|,  m = tau lambda |g|,
                                             rho = c (I1w - I0 - g . u0) / |g|
    U = V + tau div p
    p = (p + grad U) / (1 + |grad U|)

Source:
    Zach, Pock & Bischof 2007, equations 10 to 15.
"""

from __future__ import annotations

import functools
import logging
import subprocess
import warnings
from collections.abc import Callable, Collection
from typing import NamedTuple, ParamSpec, TypeVar, cast

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from dualstream.flow.methods.params import Energy, Schedule
from dualstream.flow.on_torch.image import sample

_P = ParamSpec("_P")
_R = TypeVar("_R")

_FLAT = 1e-10
"""Squared gradient up to which a pixel says nothing about the flow."""

_BLOCK = 5
"""Iterations between two looks at how much the flow still changes."""

# Example sizes to compile with. Sizes that are equal by chance are taken to be equal always, and a
# function is compiled anew when they are not; so they differ.
_PLANE, _FIELD, _IMAGES = (5, 7, 11), (5, 2, 7, 11), (5, 3, 7, 11)

_log = logging.getLogger(__name__)


def fused(
    *example: tuple[int, ...] | float, device_types: Collection[str] = ("cuda",)
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Decorate a function that `torch.compile` compiles where its first argument lies on a GPU.

    A GPU then runs it as one or two kernels instead of dozens. It is compiled for all sizes at
    once, in the first call. Elsewhere, and where it cannot be compiled (no Triton, no C
    compiler), it runs as it is written. It takes a tensor first and changes no argument.

    Args:
        example: small arguments to compile with; a tuple is the shape of a tensor.
        device_types: where it is worth compiling.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.cache
        def chosen(device: torch.device) -> Callable[_P, _R]:
            compiled = torch.compile(function, dynamic=True)
            try:
                with warnings.catch_warnings():  # advice on settings that are not ours to change
                    warnings.simplefilter("ignore")
                    arguments = (
                        torch.ones(a, device=device) if isinstance(a, tuple) else a for a in example
                    )
                    cast(Callable[..., _R], compiled)(*arguments)
            except (RuntimeError, ImportError, OSError, subprocess.SubprocessError) as error:
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                _log.debug("%s runs uncompiled: %s", function.__name__, reason)
                return function
            return compiled

        @functools.wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            device = cast(Tensor, args[0]).device
            run = chosen(device) if device.type in device_types else function
            return run(*args, **kwargs)

        return call

    return decorate


class Variables(NamedTuple):
    """The unknowns of N pairs."""

    flow: Tensor  # (N, 2, H, W): U
    dual_x: Tensor  # (N, 2, H, W): p along x, between a pixel and the next; 0 in the last column
    dual_y: Tensor  # (N, 2, H, W): p along y; 0 in the last row


class Linearised(NamedTuple):
    """The difference of N pairs of images as a linear function of the flow."""

    normal: Tensor  # (N, 2, H, W): n, or 0 where nothing is known
    offset: Tensor  # (N, H, W): rho
    limit: Tensor  # (N, H, W): m


def minimise(
    variables: Variables, problem: Linearised, schedule: Schedule, *, tau: float, scale: float
) -> None:
    """Iterate each pair until its flow stands still; `variables` change in place.

    `problem` is linearised around their flow, `tau` is the step of the dual update, `scale` c.
    """
    height, width = problem.offset.shape[1:]
    enough = (schedule.epsilon * scale) ** 2 * (height * width)
    running = _Running(variables, problem)
    for _ in range(schedule.outer_iterations):
        flow = median_filter(running.variables.flow, schedule.median_size)
        running.variables = running.variables._replace(flow=flow)
        for done in range(0, schedule.inner_iterations, _BLOCK):
            running.iterate(min(_BLOCK, schedule.inner_iterations - done), tau)
            running.keep(running.change > enough)
            if not len(running):
                return
        if schedule.epsilon:
            # Where filter and data term undo each other's work, more rounds settle nothing.
            running.keep(running.change < running.change_of_round)
            if not len(running):
                return
        running.change_of_round = running.change
    running.keep(torch.zeros_like(running.change, dtype=torch.bool))


class _Running:
    """The pairs that are still iterated; the others' variables are back in their place."""

    def __init__(self, variables: Variables, problem: Linearised) -> None:
        self._all = variables
        self._rows = torch.arange(len(variables.flow), device=variables.flow.device)
        self.variables, self._problem = variables, problem
        self.change = variables.flow.new_full((len(self._rows),), torch.inf)
        """(N,) sum of the squared changes of U in the last iteration."""
        self.change_of_round = self.change
        """(N,) what it was when the last round of iterations ended."""

    def __len__(self) -> int:
        return len(self._rows)

    def iterate(self, count: int, tau: float) -> None:
        before = self.variables.flow
        for _ in range(count):
            before = self.variables.flow
            self.variables = Variables(*iteration(*self.variables, *self._problem, tau))
        self.change = (self.variables.flow - before).square_().sum((1, 2, 3))

    def keep(self, going: Tensor) -> None:
        """Go on with the pairs of the mask (N,); the others are done."""
        if bool(going.all()):
            return
        for place, values in zip(self._all, self.variables, strict=True):
            place[self._rows[~going]] = values[~going]
        self._rows = self._rows[going]
        self.variables = Variables(*(values[going] for values in self.variables))
        self._problem = Linearised(*(values[going] for values in self._problem))
        self.change, self.change_of_round = self.change[going], self.change_of_round[going]


@fused(_FIELD, _FIELD, _FIELD, _FIELD, _PLANE, _PLANE, 0.25)
def iteration(
    flow: Tensor,
    dual_x: Tensor,
    dual_y: Tensor,
    normal: Tensor,
    offset: Tensor,
    limit: Tensor,
    tau: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """One iteration: flow, dual_x and dual_y after it; see `Variables` and `Linearised`."""
    excess = torch.addcmul(offset, normal[:, 0], flow[:, 0]).addcmul_(normal[:, 1], flow[:, 1])
    excess = torch.clamp(excess, -limit, limit)
    flow = torch.addcmul(flow, normal, excess[:, None], value=-1)
    divergence = dual_x + dual_y
    divergence[..., 1:].sub_(dual_x[..., :-1])
    divergence[..., 1:, :].sub_(dual_y[..., :-1, :])
    # Multiplied apart: as `alpha` of add_() a step size would be compiled in.
    flow.add_(divergence.mul_(tau))
    along_x, along_y = -flow, -flow
    along_x[..., :-1].add_(flow[..., 1:])
    along_x[..., -1].zero_()  # no gradient across the far edges
    along_y[..., :-1, :].add_(flow[..., 1:, :])
    along_y[..., -1, :].zero_()
    shrink = (along_x * along_x).addcmul_(along_y, along_y).sqrt_().add_(1).reciprocal_()
    dual_x = along_x.add_(dual_x).mul_(shrink)
    dual_y = along_y.add_(dual_y).mul_(shrink)
    return flow, dual_x, dual_y


def solve_level(
    first: Tensor,
    second: Tensor,
    flow: Tensor,
    *,
    brightening: Tensor | None = None,
    energy: Energy,
    schedule: Schedule,
) -> Tensor:
    """Improve the flow of each pair.

    Args:
        first: (N, 3, H, W) images with gradient.
        second: (N, 3, H, W).
        flow: (N, 2, H, W) pixels to start from.
        brightening: (N, H, W) how much brighter the second image is expected to be along the
            flow; None for not at all.
        energy, schedule: what is minimised, and how.

    Returns:
        (N, 2, H, W) pixels. The flow of a pair does not depend on the others.
    """
    scale = energy.tau / energy.theta
    flow = flow * scale
    variables = Variables(flow, torch.zeros_like(flow), torch.zeros_like(flow))
    if brightening is None:
        brightening = flow.new_zeros(flow[:, 0].shape)
    for _ in range(schedule.warps):
        limit = energy.tau * energy.lambda_
        parts = linearise(first, second, variables.flow, brightening, scale, limit)
        minimise(variables, Linearised(*parts), schedule, tau=energy.tau, scale=scale)
    return variables.flow / scale


@fused(_IMAGES, _IMAGES, _FIELD, _PLANE, 0.8, 0.04)
def linearise(
    first: Tensor, second: Tensor, flow: Tensor, brightening: Tensor, scale: float, limit: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Linearise the difference of the images around a flow: the tensors of `Linearised`.

    The gradient is the mean of the first image's and the warped second's. Where the flow leads
    out of the second image nothing is known of it but its smoothness.

    `flow` (N, 2, H, W) is U = scale times pixels, `scale` c, `limit` tau lambda; the others are
    as in `solve_level`.
    """
    height, width = first.shape[2:]
    x = torch.arange(width, device=flow.device) + flow[:, 0] * (1 / scale)
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1] * (1 / scale)
    x_inside, y_inside = x.clamp(0, width - 1), y.clamp(0, height - 1)
    there, slopes = sample(second, x_inside, y_inside)
    gradient = 0.5 * (first[:, 1:] + slopes)
    squared = gradient[:, 0].square() + gradient[:, 1].square()
    known = (squared > _FLAT) & (x == x_inside) & (y == y_inside)
    inverse = torch.where(known, squared.rsqrt(), 0)
    normal = gradient * inverse[:, None]
    difference = (there - first[:, 0] - brightening) * (scale * inverse)
    offset = difference - (normal[:, 0] * flow[:, 0] + normal[:, 1] * flow[:, 1])
    return normal, offset, limit * (squared * inverse)


def median_filter(planes: Tensor, size: int) -> Tensor:
    """Median of the size x size pixels around each pixel of (N, C, H, W) float32 planes.

    Edges are repeated; `size` is 1 (nothing changes), 3 or 5.
    """
    if size == 1:
        return planes
    if planes.device.type != "cpu":
        return median_by_selection(planes, size)
    out = torch.empty_like(planes, memory_format=torch.contiguous_format)
    sources, targets = planes.contiguous().numpy(), out.numpy()
    for source, target in zip(
        sources.reshape(-1, *planes.shape[2:]), targets.reshape(-1, *planes.shape[2:]), strict=True
    ):
        cv2.medianBlur(source, size, dst=target)
    return out


@fused(_FIELD, 5)
def median_by_selection(planes: Tensor, size: int) -> Tensor:
    """`median_filter` by minima and maxima of whole planes.

    Of the size^2 shifted planes, just over half are kept. Their smallest and their largest
    cannot be the median, so both are dropped and the next plane joins, until one is left.
    """
    half = size // 2
    padded = F.pad(planes, (half, half, half, half), mode="replicate")
    height, width = planes.shape[2:]
    shifted = [padded[..., y : y + height, x : x + width] for y in range(size) for x in range(size)]
    keep = len(shifted) // 2 + 2
    kept, waiting = shifted[:keep], shifted[keep:]
    while len(kept) > 1:
        kept = _without_extremes(kept)
        if waiting:
            kept.append(waiting.pop())
    return kept[0]


def _without_extremes(planes: list[Tensor]) -> list[Tensor]:
    """n >= 3 planes -> n - 2 that hold, at each pixel, all values but a smallest and a largest."""
    low = [torch.minimum(a, b) for a, b in zip(planes[::2], planes[1::2], strict=False)]
    high = [torch.maximum(a, b) for a, b in zip(planes[::2], planes[1::2], strict=False)]
    kept: list[Tensor] = []
    if len(planes) % 2:  # the one without a partner: no smaller than low[0], no larger than high[0]
        odd = planes[-1]
        low[0], odd = torch.minimum(low[0], odd), torch.maximum(low[0], odd)
        high[0], odd = torch.maximum(high[0], odd), torch.minimum(high[0], odd)
        kept.append(odd)
    smallest, largest = low[0], high[0]
    for plane in low[1:]:
        kept.append(torch.maximum(smallest, plane))
        smallest = torch.minimum(smallest, plane)
    for plane in high[1:]:
        kept.append(torch.minimum(largest, plane))
        largest = torch.maximum(largest, plane)
    return kept
