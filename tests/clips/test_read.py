"""`read_clip`: from frames and flow of any source to the bytes of a clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tests.clips.specs import joined, one_stream

from dualstream.clips.plan import Cropping, Sampling, plan_clip
from dualstream.clips.read import read_clip
from dualstream.types import ClipSpec, Flow, Frames, StreamSpec
from dualstream.video.source import FrameArray

HEIGHT, WIDTH, NUM_FRAMES = 48, 64, 10


class PlainFlow:
    """Fields whose x is byte 100 + t forward, 50 + t backward."""

    num_fields = NUM_FRAMES - 1
    size = (HEIGHT, WIDTH)

    def __init__(self, *, bound_px: float | None = 20.0) -> None:
        self.bound_px = bound_px
        self.reads: list[tuple[str, list[int]]] = []

    def read(self, indices: Sequence[int], *, direction: str = "forward") -> Flow:
        self.reads.append((direction, list(indices)))
        first = 100 if direction == "forward" else 50
        values = np.zeros((len(indices), 2, HEIGHT, WIDTH), np.uint8)
        values[:, 0] = first + np.asarray(indices)[:, None, None]
        if self.bound_px is None:
            pixels = (values.astype(np.float32) - 128) * np.float32(20 / 127.5)
            return Flow(pixels, "test")
        return Flow(values, "test", bound_px=self.bound_px)


def frames() -> FrameArray:
    data = np.empty((NUM_FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    data[...] = (20 * np.arange(NUM_FRAMES))[:, None, None, None]
    return FrameArray(Frames(data, np.arange(NUM_FRAMES) / 25))


def test_views_come_snippet_by_snippet_and_box_by_box() -> None:
    spec = joined(one_stream("rgb", num_frames=2), one_stream("flow", num_frames=3))
    plan = plan_clip(
        spec,
        timeline=np.arange(NUM_FRAMES),
        size=(HEIGHT, WIDTH),
        sampling=Sampling("evenly_spaced", segments=2),
        cropping=Cropping("three"),
    )
    source = PlainFlow()
    clip = read_clip(plan, frames(), {"flow": source}, spec, label=1, name="a.mp4")
    assert (int(clip.label), clip.name) == (1, ("a.mp4",))
    assert clip.data["rgb"].shape == (6, 3, 2, 32, 32)
    assert clip.data["rgb"][:, 0, :, 0, 0].tolist() == [[0, 20]] * 3 + [[120, 140]] * 3
    assert clip.data["flow"].shape == (6, 2, 3, 32, 32)
    expected = [[100, 101, 102]] * 3 + [[106, 107, 108]] * 3
    assert clip.data["flow"][:, 0, :, 0, 0].tolist() == expected
    assert source.reads == [("forward", [0, 1, 2, 6, 7, 8])]  # in one go


def test_flow_in_pixels_becomes_the_bytes_of_the_stream() -> None:
    spec = one_stream("flow", num_frames=2)
    plan = plan_clip(
        spec,
        timeline=np.arange(NUM_FRAMES),
        size=(HEIGHT, WIDTH),
        sampling=Sampling("evenly_spaced", segments=2),
        cropping=Cropping("center"),
    )
    clips = [
        read_clip(plan, None, {"flow": PlainFlow(bound_px=bound)}, spec) for bound in (20.0, None)
    ]
    assert torch.equal(clips[0].data["flow"], clips[1].data["flow"])
    # Bytes of a bound of 10 px are half the motion: 28 steps below zero become 14.
    half = read_clip(plan, None, {"flow": PlainFlow(bound_px=10.0)}, spec)
    assert half.data["flow"][0, 0, 0, 0, 0] == 114


def test_bidirectional_streams_read_both_directions() -> None:
    spec = one_stream("flow", num_frames=4, stacking="bidirectional")
    plan = plan_clip(
        spec,
        timeline=np.arange(NUM_FRAMES),
        size=(HEIGHT, WIDTH),
        sampling=Sampling("evenly_spaced", segments=1),
        cropping=Cropping("center"),
    )
    source = PlainFlow()
    clip = read_clip(plan, None, {"flow": source}, spec)
    # Start 2, tau 4: forward 4, 5; backward 3, 2.
    assert clip.data["flow"][0, 0, :, 0, 0].tolist() == [104, 105, 53, 52]
    assert source.reads == [("forward", [4, 5]), ("backward", [2, 3])]


def test_several_streams_read_flow_of_their_own() -> None:
    stream = StreamSpec("flow", num_frames=2)
    spec = ClipSpec({"near": stream, "far": stream}, short_side=48, crop_size=32)
    plan = plan_clip(
        spec,
        timeline=np.arange(NUM_FRAMES),
        size=(HEIGHT, WIDTH),
        sampling=Sampling("segment_centers"),
        cropping=Cropping("center"),
    )
    sources = {"near": PlainFlow(), "far": PlainFlow(bound_px=10.0)}
    clip = read_clip(plan, None, sources, spec)
    assert clip.data["near"][0, 0, 0, 0, 0] == 104
    assert clip.data["far"][0, 0, 0, 0, 0] == 116  # half of -24 steps
