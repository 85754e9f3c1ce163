"""Cutting, colours and normal values; torchvision is the reference for colours."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as reference

from dualstream.clips.geometry import View
from dualstream.clips.transforms import (
    ColorChange,
    ColorJitter,
    Normalizer,
    apply_color,
    cut_flow,
    cut_frames,
    normalize,
    trajectory_stack,
)
from dualstream.errors import InputError, ShapeError
from dualstream.flow import dequantize, quantize
from dualstream.types import ClipSpec, StreamSpec


@pytest.fixture
def frames() -> NDArray[np.uint8]:
    """(3, 20, 24, 3), smooth, with all hues and no value that a mild change would cut off."""
    y, x = np.mgrid[0:20, 0:24]
    base = np.stack((60 + 5 * x, 70 + 4 * y, 180 - 2 * x - 3 * y), axis=-1)
    return np.stack((base, base[::-1], base[:, ::-1])).astype(np.uint8)


def as_video(frames: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (ColorChange(brightness=1.2), lambda v: reference.adjust_brightness(v, 1.2)),
        (ColorChange(brightness=0.6), lambda v: reference.adjust_brightness(v, 0.6)),
        (ColorChange(contrast=0.5), lambda v: reference.adjust_contrast(v, 0.5)),
        (ColorChange(contrast=1.2), lambda v: reference.adjust_contrast(v, 1.2)),
        (ColorChange(saturation=0.0), lambda v: reference.adjust_saturation(v, 0.0)),
        (ColorChange(saturation=1.3), lambda v: reference.adjust_saturation(v, 1.3)),
        (
            ColorChange(brightness=0.9, contrast=1.1, saturation=0.7),
            lambda v: reference.adjust_saturation(
                reference.adjust_contrast(reference.adjust_brightness(v, 0.9), 1.1), 0.7
            ),
        ),
    ],
)
def test_color_agrees_with_torchvision(frames, change, expected) -> None:  # type: ignore[no-untyped-def]
    ours = as_video(apply_color(frames, change)).float()
    theirs = 255 * expected(as_video(frames).float() / 255)  # floats: no rounding between steps
    assert (ours - theirs).abs().max() <= 1  # rounding, and OpenCV's matrix of 10-bit fractions


@pytest.mark.parametrize("turns", [0.1, -0.25, 0.5])
def test_hue_agrees_with_torchvision(frames: NDArray[np.uint8], turns: float) -> None:
    ours = as_video(apply_color(frames, ColorChange(hue_turns=turns))).to(torch.int16)
    theirs = reference.adjust_hue(as_video(frames), turns).to(torch.int16)
    # A hue step of 8-bit HSV is 1.4 degrees, up to 6 levels of a full-range channel.
    assert (ours - theirs).abs().max() <= 6
    assert (ours - theirs).abs().float().mean() < 1.5


def test_no_change_gives_the_frames_themselves(frames: NDArray[np.uint8]) -> None:
    assert apply_color(frames, ColorChange()) is frames


def test_color_leaves_its_input_alone(frames: NDArray[np.uint8]) -> None:
    before = frames.copy()
    apply_color(frames, ColorChange(1.1, 0.9, 1.2, 0.3))
    np.testing.assert_array_equal(frames, before)


def test_color_is_cut_to_bytes() -> None:
    frames = np.array([[[[0, 10, 250]]]], np.uint8)
    assert apply_color(frames, ColorChange(brightness=2.0)).tolist() == [[[[0, 20, 255]]]]


def test_color_jitter_draws_within_its_ranges() -> None:
    jitter = ColorJitter(brightness=0.4, contrast=0.2, saturation=0.0, hue_turns=0.1)
    rng = np.random.default_rng(0)
    changes = [jitter.draw(rng) for _ in range(500)]
    for name, low, high in (("brightness", 0.6, 1.4), ("contrast", 0.8, 1.2)):
        values = [getattr(change, name) for change in changes]
        assert low <= min(values) < low + 0.01
        assert high - 0.01 < max(values) <= high
    assert {change.saturation for change in changes} == {1.0}
    assert max(abs(change.hue_turns) for change in changes) <= 0.1
    assert jitter.draw(np.random.default_rng(5)) == jitter.draw(np.random.default_rng(5))


def test_jitter_ranges_are_checked() -> None:
    with pytest.raises(InputError, match="contrast must lie in"):
        ColorJitter(contrast=1.5)
    with pytest.raises(InputError, match="hue_turns"):
        ColorJitter(hue_turns=0.6)
    with pytest.raises(ShapeError, match="uint8"):
        apply_color(np.zeros((2, 2, 3), np.uint8), ColorChange(brightness=1.1))


def test_cut_frames_without_resizing_is_a_slice(frames: NDArray[np.uint8]) -> None:
    cut = cut_frames(frames, View(3, 2, 8, 8), reference=(20, 24), size=8)
    np.testing.assert_array_equal(cut, frames[:, 2:10, 3:11].transpose(3, 0, 1, 2))


def test_cut_frames_flips_after_cutting(frames: NDArray[np.uint8]) -> None:
    plain = cut_frames(frames, View(3, 2, 8, 8), reference=(20, 24), size=8)
    flipped = cut_frames(frames, View(3, 2, 8, 8, flip=True), reference=(20, 24), size=8)
    np.testing.assert_array_equal(flipped, plain[..., ::-1])


def test_cut_frames_takes_steps_in_their_order_and_writes_to_out(
    frames: NDArray[np.uint8],
) -> None:
    out = np.zeros((3, 3, 8, 8), np.uint8)
    view = View(0, 0, 8, 8)
    result = cut_frames(
        frames, view, reference=(20, 24), size=8, steps=np.array([2, 0, 2]), out=out
    )
    assert result is out
    expected = frames[[2, 0, 2], :8, :8].transpose(3, 0, 1, 2)
    np.testing.assert_array_equal(out, expected)


def test_cut_frames_maps_the_box_to_the_source_resolution() -> None:
    # A ramp of 2 per source column, twice as fine as the reference grid. Box x = 4..12 of 16 is
    # columns 8..24 of 32; halved to 8 pixels, pixel i is the mean of columns 8 + 2i and 9 + 2i.
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    frames[...] = (2 * np.arange(32))[None, None, :, None]
    cut = cut_frames(frames, View(4, 4, 8, 8), reference=(16, 16), size=8)
    assert cut[0, 0, 0].tolist() == [17, 21, 25, 29, 33, 37, 41, 45]


def test_strong_shrinking_averages() -> None:
    # One-pixel stripes shrunk by 3: picking pixels would keep stripes, averaging leaves grey.
    frames = np.zeros((1, 96, 96, 3), np.uint8)
    frames[:, :, ::2] = 240
    cut = cut_frames(frames, View(0, 0, 96, 96), reference=(96, 96), size=32)
    assert cut.min() >= 79
    assert cut.max() <= 161


def test_cut_frames_changes_colours_of_the_cut() -> None:
    # Contrast 0 leaves each frame's mean grey, here that of the cut, not of the whole frame.
    frames = np.full((1, 8, 8, 3), 200, np.uint8)
    frames[:, :4, :4] = 100
    cut = cut_frames(
        frames, View(0, 0, 4, 4), reference=(8, 8), size=4, color=ColorChange(contrast=0.0)
    )
    assert np.unique(cut).tolist() == [100]


def test_flip_of_flow_negates_x_and_keeps_y() -> None:
    fields = np.zeros((1, 2, 1, 4), np.uint8)
    fields[0, 0] = [[0, 1, 128, 255]]
    fields[0, 1] = [[10, 20, 30, 40]]
    view = View(0, 0, 4, 1, flip=True)
    # `size` is the side of a square: read the first of its equal rows.
    cut = cut_flow(fields, view, reference=(1, 4), size=4)
    assert cut[0, 0, 0].tolist() == [1, 128, 255, 255]
    assert cut[1, 0, 0].tolist() == [40, 30, 20, 10]


def test_flipped_flow_is_the_flow_of_the_flipped_video() -> None:
    rng = np.random.default_rng(0)
    flow = rng.uniform(-15, 15, (2, 2, 6, 6)).astype(np.float32)
    mirrored = flow[..., ::-1] * np.array([-1, 1], np.float32)[:, None, None]
    view = View(0, 0, 6, 6, flip=True)
    cut = cut_flow(quantize(flow), view, reference=(6, 6), size=6)
    np.testing.assert_array_equal(cut, quantize(mirrored).transpose(1, 0, 2, 3))


def test_cut_flow_keeps_pixels_of_the_stored_grid() -> None:
    fields = np.full((2, 2, 12, 16), 140, np.uint8)
    cut = cut_flow(fields, View(2, 2, 8, 8), reference=(12, 16), size=24)
    assert cut.shape == (2, 2, 24, 24)
    assert np.unique(cut).tolist() == [140]


def test_cut_flow_orders_channels_before_time() -> None:
    fields = np.arange(6, dtype=np.uint8).reshape(3, 2, 1, 1).repeat(4, axis=2).repeat(4, axis=3)
    cut = cut_flow(fields, View(0, 0, 4, 4), reference=(4, 4), size=4, steps=np.array([2, 0]))
    assert cut[:, :, 0, 0].tolist() == [[4, 0], [5, 1]]  # x of fields 2 and 0, then y


def test_a_view_outside_is_an_error(frames: NDArray[np.uint8]) -> None:
    with pytest.raises(InputError, match="leaves the 20 x 24"):
        cut_frames(frames, View(20, 0, 8, 8), reference=(20, 24), size=8)


def test_out_must_be_able_to_take_the_result(frames: NDArray[np.uint8]) -> None:
    view = View(0, 0, 8, 8)
    gaps = np.empty((3, 3, 8, 16), np.uint8)[..., ::2]
    with pytest.raises(ShapeError, match=r"contiguous \(3, 3, 8, 8\)"):
        cut_frames(frames, view, reference=(20, 24), size=8, out=gaps)
    fields = np.zeros((3, 2, 20, 24), np.uint8)
    short = np.empty((2, 2, 8, 8), np.uint8)
    with pytest.raises(ShapeError, match=r"got \(2, 2, 8, 8\)"):
        cut_flow(fields, view, reference=(20, 24), size=8, out=short)


def test_normalize_rgb() -> None:
    spec = StreamSpec("rgb", num_frames=2, mean=(0.5, 0.0, 1.0), std=(0.5, 1.0, 2.0))
    data = torch.zeros(4, 3, 2, 5, 6, dtype=torch.uint8)
    data[:, 0] = 255
    data[:, 1] = 51
    result = normalize(data, spec)
    assert result.shape == data.shape
    assert result.dtype == torch.float32
    for channel, value in enumerate((1.0, 0.2, -0.5)):
        torch.testing.assert_close(result[:, channel], torch.full((4, 2, 5, 6), value))


def test_normalize_flow_is_dequantize() -> None:
    spec = StreamSpec("flow", num_frames=3, mean=(0.0, 0.0), std=(1.0, 1.0), flow_bound_px=15.0)
    data = torch.randint(0, 256, (2, 2, 3, 4, 5), dtype=torch.uint8)
    expected = torch.from_numpy(dequantize(data.numpy(), bound_px=15.0))
    torch.testing.assert_close(normalize(data, spec), expected)
    still = torch.full((2, 3, 4, 5), 128, dtype=torch.uint8)
    assert normalize(still, spec).abs().max() == 0


def test_normalize_subtracts_the_mean_vector_of_each_field() -> None:
    spec = StreamSpec(
        "flow", num_frames=2, mean=(0.0, 0.0), std=(2.0, 2.0), subtract_mean_flow=True
    )
    data = torch.full((2, 2, 4, 4), 128, dtype=torch.uint8)
    data[0, 0] = 190  # a pure translation in x of the first field: nothing is left
    data[1, 1, :2] = 148  # half of the second field moves by 20 steps in y: +-10 steps are left
    result = normalize(data, spec)
    step_px = 20 / 127.5
    assert result[:, 0].abs().max() < 1e-6
    torch.testing.assert_close(result[1, 1, :2], torch.full((2, 4), 10 * step_px / 2))
    torch.testing.assert_close(result[1, 1, 2:], torch.full((2, 4), -10 * step_px / 2))


def test_normalize_flow_mean_and_std_are_in_pixels() -> None:
    spec = StreamSpec("flow", mean=(1.0, -1.0), std=(2.0, 4.0))
    data = torch.full((2, 1, 2, 2), 128, dtype=torch.uint8)
    assert normalize(data, spec)[:, 0, 0, 0].tolist() == [-0.5, 0.25]


def test_normalize_rgb_diff_takes_differences_in_time() -> None:
    spec = StreamSpec("rgb_diff", num_frames=2, mean=(0.9, 0.9, 0.9), std=(0.5, 1.0, 2.0))
    data = torch.zeros(2, 3, 3, 4, 4, dtype=torch.uint8)
    data[:, :, 1] = 255
    data[:, :, 2] = 204
    result = normalize(data, spec)
    assert result.shape == (2, 3, 2, 4, 4)
    # 1 - 0 and 0.8 - 1, over std; the mean has no part
    expected = torch.tensor([[2.0, -0.4], [1.0, -0.2], [0.5, -0.1]])
    torch.testing.assert_close(result[1, :, :, 2, 3], expected)


def test_normalize_names_what_does_not_fit() -> None:
    spec = StreamSpec("rgb_diff", num_frames=5)
    with pytest.raises(ShapeError, match="C = 3 and T = 6"):
        normalize(torch.zeros(1, 3, 5, 4, 4, dtype=torch.uint8), spec)
    with pytest.raises(ShapeError, match="float32"):
        normalize(torch.zeros(1, 3, 6, 4, 4), spec)


def test_normalize_leaves_its_input_alone() -> None:
    data = torch.full((3, 1, 2, 2), 7, dtype=torch.uint8)
    normalize(data, StreamSpec("rgb"))
    assert data.unique().tolist() == [7]


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


def test_normalizer_gives_the_numbers_of_normalize() -> None:
    spec = ClipSpec(
        {
            "rgb": StreamSpec("rgb", num_frames=2),
            "flow": StreamSpec("flow", num_frames=3, std=(2.0, 4.0), subtract_mean_flow=True),
            "change": StreamSpec("rgb_diff", num_frames=2),
        },
        short_side=8,
        crop_size=8,
    )
    normalizer = Normalizer(spec)
    generator = torch.Generator().manual_seed(0)
    kept: list[int] = []
    for views in (4, 2, 6, 6):  # the memory of four serves for two, not for six
        data = {
            name: torch.randint(
                0,
                256,
                (views, stream.channels, stream.steps, 8, 8),
                dtype=torch.uint8,
                generator=generator,
            )
            for name, stream in spec.streams.items()
        }
        before = {name: value.clone() for name, value in data.items()}
        found = normalizer(data)
        for name, stream in spec.streams.items():
            assert torch.equal(found[name], normalize(data[name], stream))
            assert torch.equal(data[name], before[name])
        kept.append(found["rgb"].data_ptr())
    assert kept[0] == kept[1]
    assert kept[2] == kept[3]


def test_threads_do_not_write_into_each_others_numbers() -> None:
    normalizer = Normalizer(ClipSpec({"rgb": StreamSpec("rgb")}, short_side=8, crop_size=8))
    clips = [torch.full((1, 3, 1, 8, 8), value, dtype=torch.uint8) for value in (7, 200)]
    first = normalizer({"rgb": clips[0]})["rgb"]
    expected = first.clone()
    with ThreadPoolExecutor(1) as other:
        second = other.submit(normalizer, {"rgb": clips[1]}).result()["rgb"]
    assert torch.equal(first, expected)
    assert not torch.equal(first, second)


def test_memory_of_a_prediction_serves_training() -> None:
    normalizer = Normalizer(ClipSpec({"rgb": StreamSpec("rgb")}, short_side=8, crop_size=8))
    data = {"rgb": torch.full((2, 3, 1, 8, 8), 7, dtype=torch.uint8)}
    with torch.inference_mode():
        normalizer(data)
    weight = torch.ones(3, requires_grad=True)
    (normalizer(data)["rgb"].mean(dim=(2, 3, 4)) * weight).sum().backward()
    assert weight.grad is not None
