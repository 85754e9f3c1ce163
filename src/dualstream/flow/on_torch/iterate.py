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

from dataclasses import dataclass

import torch
from torch import Tensor

from dualstream.flow.methods.params import Energy, Schedule
from dualstream.flow.on_torch.batch import Batch
from dualstream.flow.on_torch.fused import Fused
from dualstream.flow.on_torch.image import sample
from dualstream.flow.on_torch.median import median_filter

_FLAT = 1e-10
"""Squared gradient up to which a pixel says nothing about the flow."""

_BLOCK = 5
"""Iterations between two looks at how much the flow still changes."""


@dataclass
class Variables(Batch):
    """The unknowns of N pairs."""

    flow: Tensor  # (N, 2, H, W): U
    dual_x: Tensor  # (N, 2, H, W): p along x, between a pixel and the next; 0 in the last column
    dual_y: Tensor  # (N, 2, H, W): p along y; 0 in the last row


@dataclass
class Linearised(Batch):
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
        running.variables.flow = median_filter(running.variables.flow, schedule.median_size)
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
        self.variables = variables.take(self._rows)
        self._problem = problem
        self.change = variables.flow.new_full((len(self._rows),), torch.inf)
        """(N,) sum of the squared changes of U in the last iteration."""
        self.change_of_round = self.change
        """(N,) what it was when the last round of iterations ended."""

    def __len__(self) -> int:
        return len(self._rows)

    def iterate(self, count: int, tau: float) -> None:
        pairs, problem = self.variables, self._problem
        linear = problem.normal, problem.offset, problem.limit
        before = pairs.flow
        for _ in range(count):
            before, duals = pairs.flow, (pairs.dual_x, pairs.dual_y)
            pairs.flow, pairs.dual_x, pairs.dual_y = iteration(before, *duals, *linear, tau)
        self.change = (pairs.flow - before).square_().sum((1, 2, 3))

    def keep(self, going: Tensor) -> None:
        """Go on with the pairs of the mask (N,); the others are done."""
        if bool(going.all()):
            return
        done = ~going
        self._all.put(self._rows[done], self.variables.take(done))
        self._rows = self._rows[going]
        self.variables, self._problem = self.variables.take(going), self._problem.take(going)
        self.change, self.change_of_round = self.change[going], self.change_of_round[going]


def _iteration(
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


def _example(device: torch.device) -> tuple[Tensor | float, ...]:
    field, plane = torch.zeros((5, 2, 7, 11), device=device), torch.zeros((5, 7, 11), device=device)
    return field, field.clone(), field.clone(), field.clone(), plane, plane.clone(), 0.25


iteration = Fused(_iteration, example=_example)


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
        normal, offset, limit = linearise(
            first, second, variables.flow, brightening, scale, energy.tau * energy.lambda_
        )
        problem = Linearised(normal, offset, limit)
        minimise(variables, problem, schedule, tau=energy.tau, scale=scale)
    return variables.flow / scale


def _linearise(
    first: Tensor, second: Tensor, flow: Tensor, brightening: Tensor, scale: float, limit: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Linearise the difference of the images around a flow.

    The gradient is the mean of the first image's and the warped second's. Where the flow leads
    out of the second image nothing is known of it but its smoothness.

    `flow` (N, 2, H, W) is U = scale times pixels, `scale` c, `limit` tau lambda; the others are
    as in `solve_level`.

    Returns:
        normal (N, 2, H, W), offset (N, H, W) and limit (N, H, W) of `Linearised`.
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


def _linearise_example(device: torch.device) -> tuple[Tensor | float, ...]:
    def ones(*shape: int) -> Tensor:
        return torch.ones(shape, device=device)

    images = ones(5, 3, 7, 11), ones(5, 3, 7, 11)
    return *images, ones(5, 2, 7, 11), ones(5, 7, 11), 0.8, 0.04


linearise = Fused(_linearise, example=_linearise_example)
