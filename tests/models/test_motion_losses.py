"""Losses of motion against their formulas: still frames, known shifts, numbers by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from dualstream.errors import ShapeError
from dualstream.models.motion_losses import (
    SSIM_TERMS,
    SSIM_WEIGHTS,
    charbonnier,
    in_pixels,
    inside,
    local_response,
    motion_losses,
    smoothness_loss,
    ssim_of_blocks,
    warp,
)


def smooth_picture(height: int, width: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """(1, C, H, W) waves long enough to be halved five times."""
    torch.manual_seed(seed)
    coarse = torch.rand(1, channels, height // 8, width // 8) - 0.5
    return F.interpolate(coarse, size=(height, width), mode="bicubic")


def still(length: int = 3, side: int = 64) -> torch.Tensor:
    """(1, 3, T, H, W), one picture again and again."""
    return smooth_picture(side, side)[:, :, None].expand(1, 3, length, side, side)


def levels_of(value: float, *, length: int = 3, side: int = 64, count: int = 1) -> list:
    """Five levels of the same flow along x, in units of 20 pixels of the frames."""
    levels = []
    for halvings in (5, 4, 3, 2, 1):
        level = torch.zeros(count, length - 1, 2, side >> halvings, side >> halvings)
        level[:, :, 0] = value
        levels.append(level)
    return levels


def test_warping_by_a_known_shift_gives_the_earlier_picture() -> None:
    later = torch.randn(2, 3, 9, 12)
    # What is at (x, y) earlier is 3 to the right and 2 up later.
    earlier = torch.roll(later, (2, -3), dims=(2, 3))
    flow = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(2, 2, 9, 12)
    warped = warp(later, flow)
    torch.testing.assert_close(warped[..., 2:, :-3], earlier[..., 2:, :-3])
    assert (warped[..., :2, :] == 0).all()  # from beyond the border
    assert (warped[..., -3:] == 0).all()


def test_half_a_pixel_is_the_mean_of_two() -> None:
    row = torch.tensor([1.0, 3.0, 7.0]).view(1, 1, 1, 3)
    flow = torch.zeros(1, 2, 1, 3)
    flow[:, 0] = 0.5
    torch.testing.assert_close(warp(row, flow).flatten(), torch.tensor([2.0, 5.0, 3.5]))


def test_no_flow_changes_nothing_whatever_the_size() -> None:
    for size in ((1, 1), (1, 5), (7, 4)):
        image = torch.randn(1, 2, *size)
        torch.testing.assert_close(warp(image, torch.zeros(1, 2, *size)), image)


def test_charbonnier_by_hand() -> None:
    found = charbonnier(torch.tensor([0.0, 3.0, -3.0]), 0.4)
    expected = [1e-6**0.4, (9 + 1e-6) ** 0.4, (9 + 1e-6) ** 0.4]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_local_response_by_hand() -> None:
    pixel = torch.tensor([0.3, -0.6, 0.6]).view(1, 3, 1, 1)
    divisor = (1 + (0.09 + 0.36 + 0.36) / 9) ** 0.7
    torch.testing.assert_close(local_response(pixel), pixel / divisor)


@pytest.mark.parametrize(
    ("side", "left"), [(7, 5), (14, 12), (28, 22), (56, 44), (112, 90), (1, 1), (2, 2), (5, 3)]
)
def test_a_tenth_of_the_side_is_left_out(side: int, left: int) -> None:
    """7 and 5 are rounded up to a border of 1, 14 down to it (the authors' borderMask)."""
    assert inside(torch.zeros(1, side, side + 3)).shape == (1, left, left + 3)


def test_flow_in_pixels_of_a_level() -> None:
    """At 224 pixels the authors' scales: .625, 1.25, 2.5, 5 and 10."""
    for side, scale in ((7, 0.625), (14, 1.25), (28, 2.5), (56, 5.0), (112, 10.0)):
        level = torch.ones(1, 2, side, side)
        assert (in_pixels(level, (224, 224)) == scale).all()
    wide = in_pixels(torch.ones(1, 2, 3, 5), (6, 20))
    assert (wide[:, 0] == 5).all()
    assert (wide[:, 1] == 10).all()


def test_smoothness_of_a_slope() -> None:
    """u = 2x: steps of 2 to the right and 0 down; v is 0. The last column has no neighbour."""
    flow = torch.zeros(1, 2, 4, 4)
    flow[:, 0] = 2 * torch.arange(4.0)
    least, step = 1e-6**0.3, (4 + 1e-6) ** 0.3
    right = (3 * step + least + 4 * least) / 8
    torch.testing.assert_close(smoothness_loss(flow), torch.tensor(right + least))
    assert smoothness_loss(torch.full((1, 2, 20, 30), 5.0)).item() == pytest.approx(2 * least)


def gaussian_window() -> torch.Tensor:
    sigma = 16 / 12
    rows = [
        [math.exp(-((y - 4) ** 2 + (x - 4) ** 2) / (2 * sigma**2)) for x in range(8)]
        for y in range(8)
    ]
    window = torch.tensor(rows, dtype=torch.float64)
    return window / window.sum()


def ssim_by_hand(a: torch.Tensor, b: torch.Tensor, window: torch.Tensor) -> float:
    a, b, window = a.double(), b.double(), window / window.sum()
    mean_a, mean_b = (window * a).sum(), (window * b).sum()
    var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
    covariance = (window * (a - mean_a) * (b - mean_b)).sum()
    luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
    return float(luminance * (2 * covariance + 1e-3) / (var_a + var_b + 1e-3))


def test_structural_similarity_of_whole_and_of_cut_blocks() -> None:
    torch.manual_seed(1)
    a, b = torch.rand(2, 3, 11, 16), torch.rand(2, 3, 11, 16)
    found = ssim_of_blocks(a, b)
    assert found.shape == (2, 3, 2, 2)
    window = gaussian_window()
    whole = ssim_by_hand(a[1, 2, :8, 8:], b[1, 2, :8, 8:], window)
    cut = ssim_by_hand(a[1, 2, 8:, 8:], b[1, 2, 8:, 8:], window[:3])
    assert found[1, 2, 0, 1].item() == pytest.approx(whole, abs=1e-4)
    assert found[1, 2, 1, 1].item() == pytest.approx(cut, abs=1e-4)
    torch.testing.assert_close(ssim_of_blocks(a, a), torch.ones(2, 3, 2, 2))


def test_still_frames_and_no_flow_give_the_least_loss() -> None:
    found = motion_losses(still(), levels_of(0.0))
    assert found.photometric.item() == pytest.approx(5 * 1e-6**0.4, rel=1e-4)
    assert found.smoothness.item() == pytest.approx(5 * 2 * 1e-6**0.3, rel=1e-4)
    assert found.ssim.item() == pytest.approx(0, abs=1e-3)
    assert found.similarity.item() == pytest.approx(1, abs=1e-5)
    moved = motion_losses(still(), levels_of(0.2))
    assert moved.photometric > 2 * found.photometric
    assert moved.ssim > 1
    torch.testing.assert_close(moved.smoothness, found.smoothness)  # it is the same everywhere


def moving_frames(step_px: int, length: int = 3, side: int = 64) -> torch.Tensor:
    """(1, 3, T, side, side): a picture that moves right by `step_px` a frame."""
    wide = smooth_picture(side, 2 * side)
    starts = [40 - step_px * t for t in range(length)]
    return torch.stack([wide[..., s : s + side] for s in starts], dim=2)


def test_the_true_shift_is_better_than_none_half_or_the_opposite() -> None:
    frames = moving_frames(4)
    totals = {px: motion_losses(frames, levels_of(px / 20)).total.item() for px in (4, 2, 0, -4)}
    assert min(totals, key=totals.__getitem__) == 4
    assert totals[4] < 0.5 * totals[0]
    assert totals[0] < totals[-4]


def test_the_gradient_leads_to_the_true_shift() -> None:
    """From no flow: one value for all places, moved against the gradient."""
    shift = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.Adam([shift], lr=0.01)
    frames, ones = moving_frames(4), levels_of(1.0)
    for _ in range(60):
        optimizer.zero_grad()
        motion_losses(frames, [shift * level for level in ones]).total.backward()
        optimizer.step()
    assert 20 * shift.item() == pytest.approx(4, abs=0.3)


def test_gradients_are_those_of_the_losses() -> None:
    torch.manual_seed(0)
    images = torch.rand(1, 2, 6, 7, dtype=torch.float64)
    # Away from whole pixels, where bilinear reading has a kink.
    flow = (torch.rand(1, 2, 6, 7, dtype=torch.float64) * 0.8 + 0.1).requires_grad_()
    target = torch.rand(1, 2, 6, 7, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda f: warp(images, f), (flow,))
    assert torch.autograd.gradcheck(
        lambda f: charbonnier(warp(images, f) - target, 0.4).mean(), (flow,)
    )
    assert torch.autograd.gradcheck(smoothness_loss, (flow,))
    assert torch.autograd.gradcheck(
        lambda f: ssim_of_blocks(warp(images, f), target).mean(), (flow,)
    )


def test_the_weights_are_the_authors() -> None:
    """Weights times terms: blocks of 8 along each side of a level, 10 frames of 3 channels."""
    assert SSIM_WEIGHTS == (0.16, 0.08, 0.04, 0.02, 0.01)
    blocks = [math.ceil(side / 8) ** 2 for side in (7, 14, 28, 56, 112)]
    assert tuple(30 * count for count in blocks) == SSIM_TERMS
    torch.manual_seed(0)
    frames, levels = torch.rand(1, 3, 2, 64, 64), levels_of(0.1, length=2)
    found = motion_losses(frames, levels)
    images = local_response(frames.transpose(1, 2).flatten(0, 1))
    by_hand = 0.0
    for level, weight, terms in zip(levels, SSIM_WEIGHTS, SSIM_TERMS, strict=True):
        first, second = F.interpolate(images, size=level.shape[-2:], mode="area")
        flow = in_pixels(level[:, 0], (64, 64))
        warped = warp(second[None], flow)
        by_hand += weight * terms * (1 - ssim_of_blocks(warped, first[None]).mean().item())
    assert found.ssim.item() == pytest.approx(by_hand, rel=1e-4)


def test_neither_batch_nor_length_changes_the_balance() -> None:
    one = motion_losses(moving_frames(4), levels_of(0.1))
    frames = moving_frames(4).expand(4, 3, 3, 64, 64)
    four = motion_losses(frames, levels_of(0.1, count=4))
    longer = motion_losses(moving_frames(4, length=5), levels_of(0.1, length=5))
    for name in ("photometric", "smoothness", "ssim"):
        torch.testing.assert_close(getattr(four, name), getattr(one, name), rtol=1e-4, atol=1e-4)
        assert getattr(longer, name).item() == pytest.approx(getattr(one, name).item(), rel=0.3)


def test_half_precision_around_them_changes_nothing() -> None:
    frames = moving_frames(4)
    levels = levels_of(0.1)
    expected = motion_losses(frames, levels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = motion_losses(frames, levels)
    assert found.ssim.dtype == torch.float32
    torch.testing.assert_close(found.total, expected.total)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="5 levels, got 4"):
        motion_losses(still(), levels_of(0)[1:])
    with pytest.raises(ShapeError, match="N = 1 and T = 3"):
        motion_losses(still(), levels_of(0, length=4))
    with pytest.raises(ShapeError, match="flow must be"):
        warp(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 4, 5))
