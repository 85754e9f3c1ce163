"""Stacks of flow fields whose answer is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dualstream.clips.samplers import bidirectional_indices
from dualstream.clips.transforms import trajectory_stack
from dualstream.errors import InputError, ShapeError


@pytest.mark.parametrize(
    ("start", "count", "stride", "num_fields", "forward", "backward"),
    [
        (10, 6, 1, 100, [13, 14, 15], [12, 11, 10]),
        (10, 4, 3, 100, [16, 19], [15, 12]),
        (0, 2, 1, 2, [1], [0]),
        (6, 4, 1, 9, [8, 8], [7, 6]),  # beyond the end: the last field
        (0, 6, 1, 2, [1, 1, 1], [1, 1, 0]),
    ],
)
def test_bidirectional(
    start: int,
    count: int,
    stride: int,
    num_fields: int,
    forward: list[int],
    backward: list[int],
) -> None:
    ahead, behind = bidirectional_indices(
        np.array([start]), count=count, stride=stride, num_fields=num_fields
    )
    assert ahead.tolist() == [forward]
    assert behind.tolist() == [backward]


def test_bidirectional_needs_an_even_count() -> None:
    with pytest.raises(InputError, match="even count, got 5"):
        bidirectional_indices(np.array([0]), count=5, stride=1, num_fields=9)


def test_trajectory_through_a_translation_is_plain_stacking() -> None:
    flow = torch.tensor([1.5, -2.0]).view(1, 2, 1, 1).expand(4, 2, 12, 15).contiguous()
    torch.testing.assert_close(trajectory_stack(flow), flow)


def test_trajectory_reads_each_field_where_the_path_has_come() -> None:
    # Field 0 moves everything by (2, 1). Field k > 0 is the position itself, d(x, y) = (x, y) / 8:
    # p1 = p + (2, 1), d1 = p1 / 8, p2 = p1 * 9 / 8, d2 = p2 / 8.
    height, width = 40, 50
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    position = torch.stack((x, y))
    flow = torch.stack(
        (torch.tensor([2.0, 1.0]).view(2, 1, 1).expand(2, 40, 50), *[position / 8] * 2)
    )
    stacked = trajectory_stack(flow)
    inside = (slice(0, height // 2), slice(0, width // 2))
    first = position + torch.tensor([2.0, 1.0]).view(2, 1, 1)
    torch.testing.assert_close(stacked[0], flow[0])
    torch.testing.assert_close(stacked[1][:, *inside], (first / 8)[:, *inside])
    torch.testing.assert_close(stacked[2][:, *inside], (first * 9 / 64)[:, *inside])


def test_trajectory_of_a_rotation_follows_the_circle() -> None:
    # A pixel at offset r from the centre moves by R r - r each frame, so after k frames it is at
    # R^k r and moves by R^k (R r - r): the stack is the first field turned k times.
    size, angle = 61, np.deg2rad(3.0)
    turn = torch.tensor(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], dtype=torch.float64
    )
    y, x = torch.meshgrid(
        torch.arange(size, dtype=torch.float64),
        torch.arange(size, dtype=torch.float64),
        indexing="ij",
    )
    offset = torch.stack((x - size // 2, y - size // 2))  # (2, H, W)
    field = torch.einsum("ij,jhw->ihw", turn, offset) - offset
    stacked = trajectory_stack(field.expand(5, 2, size, size))
    near = offset.norm(dim=0) < size // 2 - 3  # paths that stay inside the picture
    expected = field
    for k in range(5):
        difference = (stacked[k] - expected).norm(dim=0)[near]
        assert difference.max() < 1e-9, k
        expected = torch.einsum("ij,jhw->ihw", turn, expected)


def test_trajectory_goes_on_along_the_border() -> None:
    # Everything moves 3 right; a field that is x itself is then read at most at the last column.
    first = torch.tensor([3.0, 0.0]).view(2, 1, 1).expand(2, 2, 6)
    ramp = torch.stack((torch.arange(6.0).expand(2, 6), torch.zeros(2, 6)))
    stacked = trajectory_stack(torch.stack((first, ramp)))
    assert stacked[1, 0].tolist() == [[3, 4, 5, 5, 5, 5]] * 2


def test_trajectory_that_left_goes_on_from_the_border() -> None:
    # 3 left, then 1 right, then a ramp: pixels 0 to 3 all stop at column 0 and go on from there.
    left = torch.tensor([-3.0, 0.0]).view(2, 1, 1).expand(2, 2, 6)
    right = torch.tensor([1.0, 0.0]).view(2, 1, 1).expand(2, 2, 6)
    ramp = torch.stack((torch.arange(6.0).expand(2, 6), torch.zeros(2, 6)))
    stacked = trajectory_stack(torch.stack((left, right, ramp)))
    torch.testing.assert_close(stacked[2, 0], torch.tensor([[1.0, 1, 1, 1, 2, 3]] * 2))


def test_trajectory_of_a_batch_and_of_one_pixel() -> None:
    torch.manual_seed(0)
    flow = torch.randn(2, 3, 4, 2, 9, 11)
    stacked = trajectory_stack(flow)
    torch.testing.assert_close(stacked[1, 2], trajectory_stack(flow[1, 2]))
    torch.testing.assert_close(stacked[:, :, 0], flow[:, :, 0])
    pixel = torch.full((3, 2, 1, 1), 4.0)
    torch.testing.assert_close(trajectory_stack(pixel), pixel)


def test_trajectory_names_a_wrong_shape() -> None:
    with pytest.raises(ShapeError, match="float"):
        trajectory_stack(torch.zeros(3, 2, 4, 4, dtype=torch.uint8))
    with pytest.raises(ShapeError, match=r"\(3, 4, 4\)"):
        trajectory_stack(torch.zeros(3, 4, 4))
