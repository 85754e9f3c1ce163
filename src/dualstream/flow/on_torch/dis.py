"""Dense inverse search in torch: the patches of all pairs of a batch at once.

Patches of 8x8 pixels are searched for in the second image by Gauss-Newton steps, on their own;
then each looks whether the flow that a neighbour found fits it better, and goes on from there,
so that the order of the patches does not matter. At the end every pixel gets the mean of the
flows of its patches, weighted by how well each fits there.

Source:
    Kroeger, Timofte, Dai & Van Gool 2016, sections 2.1 to 2.3, but for the neighbours.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from dualstream.flow.methods.params import PATCH_PX, TVL1FastParams

_BORDER_PX = 2 * PATCH_PX
_AREA = PATCH_PX**2
_LEAST_DETERMINANT = 1e-3
_ALIKE_PX = 0.1
# Patches worked on at once, about 3 KB each: on the CPU few enough for the cache.
_CPU_PATCHES = 2**12
_GPU_PATCHES = 2**18


def patch_images(images: Tensor) -> Tensor:
    """Images (N, H, W) as the search reads them, (N, 3, H + 32, W + 32).

    The channels are brightness inside a border of repeated edges, and its Sobel slopes along x
    and y (half the differences of the neighbours, smoothed across by (1, 2, 1) / 4).
    """
    height, width = images.shape[1:]
    bordered = F.pad(images, (_BORDER_PX,) * 4, mode="replicate")
    rows = [bordered[:, _BORDER_PX + i : _BORDER_PX + i + height] for i in (-1, 0, 1)]

    def columns(row: Tensor, by: int) -> Tensor:
        return row[..., _BORDER_PX + by : _BORDER_PX + by + width]

    above, here, below = (columns(row, 1) - columns(row, -1) for row in rows)
    along_x = 0.25 * here + 0.125 * (above + below)
    left, centre, right = (columns(rows[2], by) - columns(rows[0], by) for by in (-1, 0, 1))
    along_y = 0.25 * centre + 0.125 * (left + right)
    slopes = F.pad(torch.stack((along_x, along_y), 1), (_BORDER_PX,) * 4)
    return torch.cat((bordered[:, None], slopes), 1)


def corners(size: int, stride: int) -> list[int]:
    """First pixels of the patches along an axis of `size` >= 8 px; the last is flush with the edge.

    20 px, stride 5: 0, 5, 10, 12.
    """
    return [*range(0, size - PATCH_PX, stride), size - PATCH_PX]


def search_flow(
    first: Tensor, second: Tensor, coarser: Tensor | None, params: TVL1FastParams
) -> tuple[Tensor, Tensor]:
    """Find the patches of `first` in `second`, and spread what they found over the pixels.

    Args:
        first, second: (N, 3, H + 32, W + 32) of `patch_images`.
        coarser: (N, 2, H // 2, W // 2) flow of the images of half the size, around twice of
            which is searched; None searches around no motion.
        params: stride of the patches, steps and rounds of their search.

    Returns:
        Flow (N, 2, H, W) in pixels, and how much brighter (N, H, W) the patches of `second` are.
    """
    grid = _Grid(first, params.patch_stride)
    flow = grid.under_centres(coarser)
    error = flow.new_empty(len(flow))
    for part in grid.parts():
        patches = _Patches.read(first, grid, part)
        flow[part], error[part] = patches.descend(second, flow[part], params.descent_steps)
    for _ in range(params.rounds):
        _ask_neighbours(first, second, grid, flow, error, params.descent_steps)
    return _spread(first, second, grid, flow)


class _Grid:
    """Places of the patches in N pairs of (N, 3, H + 32, W + 32) images, row after row.

    `x` and `y` (P,) are their corners, `pair` (P,) tells whose they are.
    """

    def __init__(self, images: Tensor, stride: int) -> None:
        self.pairs, device = len(images), images.device
        self.height, self.width = (side - 2 * _BORDER_PX for side in images.shape[2:])
        rows, columns = corners(self.height, stride), corners(self.width, stride)
        self.rows, self.columns = len(rows), len(columns)
        pair, y, x = (torch.tensor(n, device=device) for n in (range(self.pairs), rows, columns))
        self.pair, self.y, self.x = torch.cartesian_prod(pair, y, x).unbind(1)

    def parts(self, which: Tensor | None = None) -> tuple[Tensor, ...]:
        """Indices of the patches (of those in `which`), as many at once as are worked on."""
        if which is None:
            which = torch.arange(len(self.x), device=self.x.device)
        at_once = _CPU_PATCHES if which.device.type == "cpu" else _GPU_PATCHES
        return torch.split(which, at_once)

    def under_centres(self, coarser: Tensor | None) -> Tensor:
        """(N, 2, H // 2, W // 2) -> (P, 2), twice the flow there; zeros for None."""
        if coarser is None:
            return torch.zeros((len(self.x), 2), device=self.x.device)
        height, width = coarser.shape[2:]
        row = ((self.y + PATCH_PX // 2) // 2).clamp(max=height - 1)
        column = ((self.x + PATCH_PX // 2) // 2).clamp(max=width - 1)
        return 2 * coarser[self.pair, :, row, column]

    def neighbours(self) -> Tensor:
        """(4, P) left, right, upper and lower neighbour of each; itself where there is none."""
        patch = torch.arange(len(self.x), device=self.x.device)
        column, row = patch % self.columns, patch // self.columns % self.rows
        left, right = patch - (column > 0).long(), patch + (column < self.columns - 1).long()
        above = patch - self.columns * (row > 0).long()
        below = patch + self.columns * (row < self.rows - 1).long()
        return torch.stack((left, right, above, below))


class _Patches(NamedTuple):
    """Patches of first images, ready to be found in the second."""

    corner: Tensor  # (p, 2) x and y
    start: Tensor  # (p,) where the second image starts in the memory of all
    value: Tensor  # (p, 64) brightness
    slope_x: Tensor  # (p, 64)
    slope_y: Tensor  # (p, 64)
    mean: Tensor  # (p, 2) of the slopes
    inverse: Tensor  # (p, 3): xx, xy, yy of the inverse of the slopes' covariance, times 64

    @classmethod
    def read(cls, images: Tensor, grid: _Grid, part: Tensor) -> Self:
        plane, stride = images[0, 0].numel(), images.shape[3]
        corner = torch.stack((grid.x[part], grid.y[part]), 1)
        start = grid.pair[part] * (3 * plane)
        inside = start + (corner[:, 1] + _BORDER_PX) * stride + corner[:, 0] + _BORDER_PX
        places = inside[:, None] + _offsets(PATCH_PX, stride, images.device)
        memory = images.view(-1)
        value, slope_x, slope_y = (_gather(memory, places + i * plane) for i in range(3))
        mean_x, mean_y = slope_x.mean(1), slope_y.mean(1)
        xx = slope_x.square().sum(1) - _AREA * mean_x.square()
        xy = (slope_x * slope_y).sum(1) - _AREA * mean_x * mean_y
        yy = slope_y.square().sum(1) - _AREA * mean_y.square()
        determinant = (xx * yy - xy * xy).clamp_(min=_LEAST_DETERMINANT)
        inverse = torch.stack((yy, -xy, xx), 1) / determinant[:, None]
        mean = torch.stack((mean_x, mean_y), 1)
        return cls(corner.float(), start, value, slope_x, slope_y, mean, inverse)

    def take(self, rows: Tensor) -> Self:
        """Those at the indices `rows`, or where the mask `rows` is true."""
        return type(self)(*(values[rows] for values in self))

    def difference(self, images: Tensor, flow: Tensor) -> Tensor:
        """(p, 64) brightness of `images` where the flow (p, 2) leads, at most to the border,
        less the patch's own."""
        stride, margin = images.shape[3], _BORDER_PX - 1
        place = self.corner + flow
        right, bottom = (side - _BORDER_PX - 1 - PATCH_PX for side in images.shape[:1:-1])
        x = place[:, 0].clamp(-margin, right)
        y = place[:, 1].clamp(-margin, bottom)
        left, top = x.floor(), y.floor()
        inside = self.start + (top.long() + _BORDER_PX) * stride + left.long() + _BORDER_PX
        places = inside[:, None] + _offsets(PATCH_PX + 1, stride, images.device)
        pixels = _gather(images.view(-1), places).view(-1, PATCH_PX + 1, PATCH_PX + 1)
        wx, wy = (x - left)[:, None, None], (y - top)[:, None, None]
        above = (1 - wx) * (1 - wy) * pixels[:, :-1, :-1] + wx * (1 - wy) * pixels[:, :-1, 1:]
        below = (1 - wx) * wy * pixels[:, 1:, :-1] + wx * wy * pixels[:, 1:, 1:]
        return (above + below).flatten(1) - self.value

    def fit(self, images: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """Squared error (p,) of a flow (p, 2), and the Gauss-Newton step (p, 2) from there;
        brightness is taken relative to the patch's mean."""
        off = self.difference(images, flow)
        total = off.sum(1)
        gx = (off * self.slope_x).sum(1) - total * self.mean[:, 0]
        gy = (off * self.slope_y).sum(1) - total * self.mean[:, 1]
        xx, xy, yy = self.inverse.unbind(1)
        step = torch.stack((-(xx * gx + xy * gy), -(xy * gx + yy * gy)), 1)
        return off.square().sum(1) - total.square() / _AREA, step

    def descend(self, images: Tensor, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Step from `start` (p, 2) for as long as the error shrinks, `steps` times at most.

        Gives flow (p, 2) and its squared error (p,). A patch that strays further than its own
        side is lost and stays where it was.
        """
        first_error, step = self.fit(images, start)
        flow, error = start.clone(), first_error.clone()
        rows, going = torch.arange(len(start), device=start.device), self
        for _ in range(steps):
            there = flow[rows] + step
            near = (there - start[rows]).square().sum(1) <= PATCH_PX**2
            lost = rows[~near]
            flow[lost], error[lost] = start[lost], first_error[lost]
            rows, going, there = rows[near], going.take(near), there[near]
            there_error, step = going.fit(images, there)
            better = there_error < error[rows]
            rows, going, step = rows[better], going.take(better), step[better]
            flow[rows], error[rows] = there[better], there_error[better]
            if not len(rows):
                break
        return flow, error


def _gather(memory: Tensor, places: Tensor) -> Tensor:
    """`memory` at `places` of any shape; several times quicker than indexing."""
    return memory.index_select(0, places.flatten()).view(places.shape)


def _offsets(side: int, stride: int, device: torch.device) -> Tensor:
    """(side * side,) places of a square's pixels relative to its first, in rows of `stride`."""
    along = torch.arange(side, device=device)
    return (along[:, None] * stride + along).flatten()


def _ask_neighbours(
    first: Tensor, second: Tensor, grid: _Grid, flow: Tensor, error: Tensor, steps: int
) -> None:
    """One round in which patches go on from a neighbour's flow where it fits them better.

    Neighbours whose flow is nearly the patch's own are not asked. `flow` (P, 2) and `error` (P,)
    change in place.
    """
    before, neighbours = flow.clone(), grid.neighbours()
    asked = (before[neighbours] - before).square().sum(2) > _ALIKE_PX**2  # (4, P)
    for part in grid.parts(asked.any(0).nonzero()[:, 0]):
        patches = _Patches.read(first, grid, part)
        best, least = before[part], error[part]
        for neighbour, is_asked in zip(neighbours[:, part], asked[:, part], strict=True):
            theirs = before[neighbour]
            fits = patches.fit(second, theirs)[0]
            better = is_asked & (fits < least)
            best = torch.where(better[:, None], theirs, best)
            least = torch.where(better, fits, least)
        rows = (least < error[part]).nonzero()[:, 0]
        found = patches.take(rows).descend(second, best[rows], steps)
        flow[part[rows]], error[part[rows]] = found


def _spread(first: Tensor, second: Tensor, grid: _Grid, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Flow of the patches (P, 2) -> flow (N, 2, H, W) and brightening (N, H, W) of the pixels.

    They are means of the patches that cover a pixel, weighted by 1 / d^2, for differences d in
    brightness above 1.
    """
    sums = flow.new_zeros((4, grid.pairs * grid.height * grid.width))
    corner = (grid.pair * grid.height + grid.y) * grid.width + grid.x
    for part in grid.parts():
        off = _Patches.read(first, grid, part).difference(second, flow[part])
        values = torch.stack((flow[part, 0], flow[part, 1], off.mean(1), off.new_ones(len(off))))
        weight = off.square_().clamp_(min=1).reciprocal_()
        # For one place within the patch all patches add to different pixels, so that the order
        # of the sums is fixed on every device.
        for row in reversed(range(PATCH_PX)):
            for column in reversed(range(PATCH_PX)):
                at = corner[part] + (row * grid.width + column)
                sums[:, at] += values * weight[:, row * PATCH_PX + column]
    planes = sums.view(4, grid.pairs, grid.height, grid.width)
    x, y, brightening = planes[:3] / planes[3]  # (N, H, W) each
    return torch.stack((x, y), 1), brightening.clone()
