"""optical_flow: all methods, sizes, directions and bad input."""

from typing import get_args

import cv2
import numpy as np
import pytest

from dualstream.errors import FlowError, InputError, ShapeError, UnknownNameError
from dualstream.flow import (
    ComputedFlow,
    DISParams,
    FlowJob,
    FlowStore,
    TVL1Params,
    extract_flow,
    flow_both_ways,
    kernel,
    optical_flow,
    quantize,
    read_flo,
)
from dualstream.flow.images import grey_images, resize_short_side, resized_size
from dualstream.flow.methods.lookup import METHODS as RECORDS
from dualstream.flow.methods.lookup import find_method
from dualstream.flow.methods.params import DEFAULT_METHOD, FlowMethod
from dualstream.flow.methods.record import FlowTask
from dualstream.types import Frames
from dualstream.video import VideoReader

# The whole schedule with a fifth of the work; frames here are tiny.
QUICK = {
    "dis": None,
    "farneback": None,
    "tvl1-fast": None,
    "tvl1": TVL1Params(warps=2, outer_iterations=3),
}
METHODS = tuple(QUICK)


def textured(num_frames: int, size=(64, 80), *, shift=(0, 0), seed=3) -> Frames:
    """Frames of a smooth random texture that moves by `shift` (x, y) pixels a frame."""
    height, width = size
    rng = np.random.default_rng(seed)
    margin = 8 + num_frames * max(map(abs, shift))
    noise = rng.normal(size=(height + 2 * margin, width + 2 * margin, 3)).astype(np.float32)
    texture = cv2.GaussianBlur(noise, (0, 0), 2)
    texture = np.clip(texture * 300 + 128, 0, 255).astype(np.uint8)
    data = np.stack(
        [
            texture[
                margin - t * shift[1] : margin - t * shift[1] + height,
                margin - t * shift[0] : margin - t * shift[0] + width,
            ]
            for t in range(num_frames)
        ]
    )
    return Frames(data, np.arange(num_frames) / 25, "texture")


@pytest.mark.parametrize("method", METHODS)
def test_still_frames_have_no_flow(method):
    still = textured(3)
    flow = optical_flow(still, method=method, params=QUICK[method])
    assert flow.data.shape == (2, 2, 64, 80)
    assert flow.data.dtype == np.float32
    assert (flow.method, flow.source) == (method, "texture")
    # 0.0014 (tvl1) and 1e-4 (farneback, whose edges are off by up to 0.1 in OpenCV itself)
    assert np.abs(flow.data[:, :, 12:-12, 12:-12]).max() < 0.005


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shift", [(1, 0), (0, -1), (2, 1)])
def test_a_translation_is_found(method, shift):
    flow = optical_flow(textured(3, shift=shift), method=method, params=QUICK[method])
    inside = flow.data[:, :, 12:-12, 12:-12]
    assert np.abs(inside[:, 0] - shift[0]).mean() < 0.1
    assert np.abs(inside[:, 1] - shift[1]).mean() < 0.1
    assert np.median(inside[:, 0]) == pytest.approx(shift[0], abs=0.1)
    assert np.median(inside[:, 1]) == pytest.approx(shift[1], abs=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_backward_is_forward_of_swapped_frames(method):
    frames = textured(2, shift=(1, 1))
    swapped = Frames(frames.data[::-1], frames.pts_seconds, "")
    backward = optical_flow(frames, method=method, params=QUICK[method], direction="backward")
    forward = optical_flow(swapped, method=method, params=QUICK[method])
    assert np.array_equal(backward.data, forward.data)
    assert np.median(backward.data[:, 0]) == pytest.approx(-1, abs=0.1)


def test_backward_fields_keep_their_order_in_time():
    moving = textured(2, shift=(1, 0)).data
    frames = Frames(moving[[0, 0, 1]], np.arange(3.0), "")
    flow = optical_flow(frames, direction="backward")
    assert np.median(flow.data[0, 0]) == pytest.approx(0, abs=0.05)
    assert np.median(flow.data[1, 0]) == pytest.approx(-1, abs=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_pairs_do_not_depend_on_each_other(method):
    frames = textured(4, shift=(1, 0))
    together = optical_flow(frames, method=method, params=QUICK[method]).data
    for t in range(3):
        pair = Frames(frames.data[t : t + 2], frames.pts_seconds[t : t + 2], "")
        alone = optical_flow(pair, method=method, params=QUICK[method]).data
        assert np.allclose(alone[0], together[t], atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [0, 255])
def test_constant_frames_stay_finite(method, level):
    data = np.full((2, 33, 47, 3), level, np.uint8)
    data[1] = 255 - level  # no gradient anywhere, but a difference everywhere
    flow = optical_flow(Frames(data, np.arange(2.0), ""), method=method, params=QUICK[method])
    assert np.isfinite(flow.data).all()


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((240, 320), 256, (256, 341)),
        ((320, 240), 256, (341, 256)),
        ((240, 320), 120, (120, 160)),
        ((240, 320), 240, (240, 320)),
        ((240, 320), None, (240, 320)),
        ((100, 150), 1, (1, 2)),  # 1.5 is rounded up
        ((64, 64), 32, (32, 32)),
    ],
)
def test_resized_size(size, short_side, expected):
    assert resized_size(*size, short_side) == expected


def test_flow_of_resized_frames_is_in_pixels_of_their_grid():
    frames = textured(2, size=(128, 160), shift=(4, 0))
    flow = optical_flow(frames, short_side=64)
    assert flow.size == (64, 80)
    assert np.median(flow.data[:, 0]) == pytest.approx(2, abs=0.1)
    enlarged = optical_flow(textured(2, size=(64, 80), shift=(1, 0)), short_side=128)
    assert enlarged.size == (128, 160)
    assert np.median(enlarged.data[:, 0]) == pytest.approx(2, abs=0.1)


def test_resizing_averages_whole_areas():
    data = np.zeros((1, 4, 6, 3), np.uint8)
    data[:, ::2] = 100
    assert (resize_short_side(data, 2) == 50).all()
    assert resize_short_side(data, None) is data


@pytest.mark.parametrize(("method", "smallest"), [("dis", 16), ("farneback", 2)])
def test_smallest_sizes(method, smallest):
    frames = textured(2, size=(smallest, smallest))
    flow = optical_flow(frames, method=method, params=QUICK[method])
    assert np.isfinite(flow.data).all()
    frames = textured(2, size=(smallest - 1, 100))
    with pytest.raises(InputError, match=f"at least {smallest}x{smallest} px, got 100x"):
        optical_flow(frames, method=method)


def test_odd_sizes_and_strides():
    frames = textured(3, size=(37, 2 * 53), shift=(0, 1))
    strided = Frames(frames.data[:, :, ::2], frames.pts_seconds, "")
    assert not strided.data.flags.c_contiguous
    for method in METHODS:
        flow = optical_flow(strided, method=method, params=QUICK[method])
        assert flow.data.shape == (2, 2, 37, 53)
        assert np.median(flow.data[:, 1]) == pytest.approx(1, abs=0.2)


def test_bad_input_is_named():
    one = Frames(np.zeros((1, 32, 32, 3), np.uint8), np.zeros(1), "short.mp4")
    with pytest.raises(FlowError, match=r"at least 2 frames; short\.mp4 has 1"):
        optical_flow(one)
    frames = textured(2)
    with pytest.raises(UnknownNameError, match="Unknown flow method 'lk'"):
        optical_flow(frames, method="lk")
    with pytest.raises(UnknownNameError, match="Unknown direction 'both'"):
        optical_flow(frames, direction="both")
    with pytest.raises(InputError, match="'farneback' takes FarnebackParams"):
        optical_flow(frames, method="farneback", params=DISParams())
    with pytest.raises(InputError, match="CPU only, got device 'cuda'"):
        optical_flow(frames, method="dis", device="cuda")
    with pytest.raises(InputError, match="Device 'cuda:99' cannot be used here"):
        optical_flow(frames, method="tvl1", device="cuda:99")
    with pytest.raises(InputError, match="Device 'abacus' cannot be used here"):
        optical_flow(frames, method="tvl1", device="abacus")
    with pytest.raises(InputError, match="short_side must be at least 1"):
        optical_flow(frames, short_side=0)


def test_opencv_threads_are_left_as_they_were():
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        optical_flow(textured(2))
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize(("method", "error"), [("dis", 0.2255), ("farneback", 0.3612)])
def test_error_on_rubberwhale(shared, method, error):
    # opencv-python-headless 5.0.0: cv2's own calls on the grey images give these means
    folder = shared / "flow"
    pair = [cv2.imread(str(folder / f"rubberwhale{i}.png"))[..., ::-1] for i in (1, 2)]
    flow = optical_flow(Frames(np.stack(pair), np.arange(2.0), ""), method=method)
    truth = read_flo(folder / "rubberwhale_gt.flo")
    known = np.abs(truth).max(0) < 1e9
    distance = np.hypot(*(flow.data[0] - truth))[known]
    assert distance.mean() == pytest.approx(error, abs=0.005)


@pytest.mark.parametrize("method", METHODS)
def test_both_ways_are_forward_and_backward(method):
    frames = textured(3, shift=(1, 0))
    forward, backward = flow_both_ways(frames, method=method, params=QUICK[method])
    assert (forward.method, backward.method) == (method, method)
    expected = optical_flow(frames, method=method, params=QUICK[method])
    assert np.array_equal(forward.data, expected.data)
    expected = optical_flow(frames, method=method, params=QUICK[method], direction="backward")
    assert np.array_equal(backward.data, expected.data)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_bytes_are_quantised_flow(method, direction):
    frames = textured(3, shift=(2, -1))
    options = {"method": method, "params": QUICK[method], "direction": direction, "short_side": 48}
    flow = optical_flow(frames, **options).data
    record = find_method(method)
    is_forward = direction == "forward"
    task = FlowTask(
        images=resize_short_side(frames.data, 48),
        params=record.resolve(QUICK[method]),
        directions=(direction,),
        bound_px=5.0,
    )
    pair = record.compute(task)
    assert np.array_equal(pair[0 if is_forward else 1], quantize(flow, bound_px=5.0))
    assert pair[1 if is_forward else 0] is None


@pytest.mark.parametrize("method", ["tvl1", "tvl1-fast"])
def test_torch_serves_where_the_kernel_was_not_built(method, monkeypatch):
    frames = textured(2, shift=(1, 0))
    with_kernel = optical_flow(frames, method=method, params=QUICK[method])
    monkeypatch.setattr(kernel, "_tvl1", None)
    by_torch = optical_flow(frames, method=method, params=QUICK[method])
    assert np.abs(by_torch.data - with_kernel.data).mean() < 0.02
    assert by_torch.method == method


def test_the_default_method_is_stored_where_the_kernel_was_not_built(
    tmp_path, tiny_video, monkeypatch
):
    monkeypatch.setattr(kernel, "_tvl1", None)
    video = str(tiny_video("a.mp4", num_frames=4))
    (outcome,) = extract_flow([FlowJob("a.mp4", video)], tmp_path)
    assert outcome.status == "done", outcome.error
    with FlowStore(tmp_path).open("a.mp4") as file, VideoReader(video) as reader:
        assert file.meta.method == "tvl1-fast"
        computed = ComputedFlow(reader, range(4)).read(range(3))
        assert np.array_equal(computed.data, file.read(range(3)))


@pytest.mark.parametrize("method", ["tvl1", "tvl1-fast"])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 2), (15, 61)])
def test_tiny_and_odd_frames(method, size):
    data = np.random.default_rng(1).integers(0, 256, (3, *size, 3)).astype(np.uint8)
    flow = optical_flow(Frames(data, np.arange(3.0), ""), method=method)
    assert flow.size == size
    assert np.isfinite(flow.data).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_scene_cut_stays_finite(method):
    first, second = textured(1, seed=1), textured(1, seed=2)
    cut = Frames(np.concatenate([first.data, 255 - second.data]), np.arange(2.0), "")
    flow = optical_flow(cut, method=method, params=QUICK[method])
    assert np.isfinite(flow.data).all()


def test_there_is_a_record_of_every_method():
    assert set(RECORDS) == set(get_args(FlowMethod))
    assert DEFAULT_METHOD == "tvl1-fast"
    assert optical_flow(textured(2)).method == "tvl1-fast"


@pytest.mark.parametrize("method", METHODS)
def test_plain_arrays_are_frames(method):
    frames = textured(3, shift=(1, 0))
    options = {"method": method, "params": QUICK[method]}
    expected = optical_flow(frames, **options).data
    flow = optical_flow(frames.data, **options)
    assert np.array_equal(flow.data, expected)
    assert flow.source == ""
    grey = grey_images(frames.data)
    assert np.array_equal(optical_flow(grey, **options).data, expected)
    assert optical_flow(grey, short_side=32, **options).size == (32, 40)


def test_grey_arrays_for_a_method_that_sees_colour():
    grey = grey_images(textured(2, shift=(1, 0)).data)
    three = np.repeat(grey[..., None], 3, axis=3)
    flow = optical_flow(grey, method="warped-dis")
    assert np.array_equal(flow.data, optical_flow(three, method="warped-dis").data)


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (np.zeros((2, 32, 32, 3), np.float32), r"\(2, 32, 32, 3\) float32"),
        (np.full((2, 32, 32), np.nan), r"\(2, 32, 32\) float64"),
        (np.zeros((2, 32, 32, 4), np.uint8), r"\(2, 32, 32, 4\) uint8"),
        (np.zeros((32, 32), np.uint8), r"\(32, 32\) uint8"),
        (np.zeros((2, 0, 32), np.uint8), r"\(2, 0, 32\) uint8"),
        ([[1, 2], [3, 4]], "list"),
    ],
)
def test_arrays_that_are_no_frames(images, found):
    with pytest.raises(ShapeError, match=f"of uint8, got {found}"):
        optical_flow(images)


def test_arrays_of_other_types_are_refused_by_name():
    for dtype in (np.float64, np.uint16):
        with pytest.raises(ShapeError, match=np.dtype(dtype).name):
            Frames(np.zeros((2, 32, 32, 3), dtype), np.arange(2.0), "")
