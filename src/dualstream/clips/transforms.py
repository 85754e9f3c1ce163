"""From decoded pictures to what a network sees: cut and resized views, colours, normal values.

Cutting works on bytes in a loader's worker and needs no torch; `normalize` works on the whole
batch, on any device.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.clips.geometry import View, source_box
from dualstream.errors import InputError, ShapeError
from dualstream.types import ClipSpec, StreamSpec

if TYPE_CHECKING:
    import torch

Bytes = NDArray[np.uint8]
Indices = NDArray[np.int64]

_GRAY = np.array([0.299, 0.587, 0.114])
"""Luma of RGB, ITU-R BT.601."""


@dataclass(frozen=True)
class ColorChange:
    """One drawn change of colours; `apply_color` carries it out."""

    brightness: float = 1.0
    """Factor on all values."""
    contrast: float = 1.0
    """Factor on the distance to the frame's mean grey."""
    saturation: float = 1.0
    """Factor on the distance to the pixel's own grey."""
    hue_turns: float = 0.0
    """Turn of the colour circle, -0.5..0.5."""


@dataclass(frozen=True)
class ColorJitter:
    """How far colours may be changed at random while training; 0 leaves a property alone."""

    brightness: float = 0.4
    """Factors are drawn from 1 - brightness .. 1 + brightness; contrast, saturation alike."""
    contrast: float = 0.4
    saturation: float = 0.4
    hue_turns: float = 0.1
    """Turns are drawn from -hue_turns .. hue_turns; at most 0.5."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            largest = 0.5 if name == "hue_turns" else 1
            if not 0 <= value <= largest:
                raise InputError(f"ColorJitter.{name} must lie in 0..{largest}, got {value}.")

    def draw(self, rng: np.random.Generator) -> ColorChange:
        """Draw a change; always takes four numbers from `rng`."""
        a, b, c, d = rng.uniform(-1, 1, 4).tolist()
        factors = 1 + self.brightness * a, 1 + self.contrast * b, 1 + self.saturation * c
        return ColorChange(*factors, hue_turns=self.hue_turns * d)


def apply_color(frames: Bytes, change: ColorChange) -> Bytes:
    """Change hue, brightness, contrast and saturation, in this order, each frame alike.

    Brightness, contrast and saturation are linear and done as one matrix a frame, so values
    are cut to 0..255 once at the end and not after each. Hue is turned in 8-bit HSV.

    Args:
        frames: (T, H, W, 3) RGB.
        change: what to do; the default `ColorChange()` returns `frames` itself.

    Returns:
        (T, H, W, 3) RGB.

    Raises:
        ShapeError: `frames` has another shape or dtype.

    Source:
        The definitions of torchvision's ColorJitter.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ShapeError(f"frames must be (T, H, W, 3) uint8, got {frames.shape} {frames.dtype}.")
    count, height, width, _ = frames.shape
    colored = frames
    if change.hue_turns != 0:
        tall = frames.reshape(count * height, width, 3)  # one picture: one call for all frames
        hsv = cv2.cvtColor(tall, cv2.COLOR_RGB2HSV_FULL)
        # Hue has 256 steps a turn; bytes wrap around as the circle does.
        hsv[..., 0] += np.uint8(round(change.hue_turns * 256) % 256)
        turned = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL), np.uint8)
        colored = turned.reshape(count, height, width, 3)
    if (change.brightness, change.contrast, change.saturation) == (1, 1, 1):
        return colored
    saturate = change.saturation * np.eye(3) + (1 - change.saturation) * _GRAY[None, :]
    affine = np.empty((3, 4))
    affine[:, :3] = change.brightness * change.contrast * saturate
    changed = np.empty_like(colored)
    for frame, out in zip(colored, changed, strict=True):
        mean_gray = change.brightness * float(_GRAY @ cv2.mean(frame)[:3])
        affine[:, 3] = (1 - change.contrast) * mean_gray  # a grey, which saturation leaves alone
        cv2.transform(frame, affine, dst=out)
    return changed


def cut_frames(
    frames: Bytes,
    view: View,
    *,
    reference: tuple[int, int],
    size: int,
    steps: Indices | None = None,
    color: ColorChange | None = None,
    out: Bytes | None = None,
) -> Bytes:
    """Cut one view out of frames of any resolution, resize it, flip it, change its colours.

    Args:
        frames: (F, H, W, 3) RGB.
        view: box on the reference grid.
        reference: (H, W) of that grid.
        size: side of the result in pixels.
        steps: (T,) which of the frames, in which order; by default all.
        color: change of colours, if any.
        out: contiguous (3, T, size, size) array to write to and return.

    Raises:
        InputError: the view leaves the reference grid.
        ShapeError: `out` cannot take the result.
    """
    rows, columns, method = _place(view, reference, frames.shape[1:3], size)
    chosen = range(len(frames)) if steps is None else steps
    count = len(chosen)
    cut = np.empty((count, size, size, 3), np.uint8)
    for t, step in enumerate(chosen):
        cv2.resize(frames[step, rows, columns], (size, size), dst=cut[t], interpolation=method)
    if view.flip:
        tall = cut.reshape(count * size, size, 3)
        cv2.flip(tall, 1, dst=tall)
    if color is not None:
        cut = apply_color(cut, color)
    result = _result(out, (3, count, size, size))
    # (T, size, size, 3) -> (3, T, size, size); split writes to the planes it is given.
    cv2.split(cut.reshape(count * size, size, 3), list(result.reshape(3, count * size, size)))
    return result


def cut_flow(
    fields: Bytes,
    view: View,
    *,
    reference: tuple[int, int],
    size: int,
    steps: Indices | None = None,
    out: Bytes | None = None,
) -> Bytes:
    """Cut one view out of stored flow fields and resize it; a flip also negates x.

    Displacements keep their unit, pixels of the grid that flow was computed on: resizing the
    picture does not scale them.

    Args:
        fields: (F, 2, H, W) bytes as `flow.quantize` makes them; the rest is as in `cut_frames`.

    Returns:
        (2, L, size, size), `out` if it was given.

    Raises:
        InputError, ShapeError: as in `cut_frames`.
    """
    rows, columns, method = _place(view, reference, fields.shape[2:], size)
    chosen = range(len(fields)) if steps is None else steps
    result = _result(out, (2, len(chosen), size, size))
    for t, step in enumerate(chosen):
        for channel in range(2):
            plane = fields[step, channel, rows, columns]
            cv2.resize(plane, (size, size), dst=result[channel, t], interpolation=method)
    if view.flip:
        for plane in result.reshape(-1, size, size):
            cv2.flip(plane, 1, dst=plane)
        # The byte of the opposite displacement is 256 - b, and 255 for 0.
        along_x = np.maximum(result[0], 1, out=result[0])
        np.negative(along_x, out=along_x)
    return result


def trajectory_stack(flow: torch.Tensor) -> torch.Tensor:
    """Sample each field where the motion has carried the pixels of the first frame.

    p(1) = (u, v) and p(k) = p(k-1) + d(k-1)(p(k-1)); result k at (u, v) is d(k)(p(k)), read
    bilinearly. Paths that leave the picture go on along its border.

    Args:
        flow: (..., L, 2, H, W) floating point; displacements in pixels of this grid, x then y.

    Returns:
        (..., L, 2, H, W), the first field unchanged.

    Raises:
        ShapeError: `flow` has another shape or is not floating point.

    Source:
        Simonyan & Zisserman 2014, section 3.1.
    """
    import torch

    if flow.ndim < 4 or flow.shape[-3] != 2 or not flow.is_floating_point():
        raise ShapeError(
            f"flow must be (..., L, 2, H, W) floating point, got {tuple(flow.shape)} {flow.dtype}."
        )
    length, _, height, width = flow.shape[-4:]
    fields = flow.reshape(-1, length, 2, height, width)
    limit = torch.tensor([width - 1.0, height - 1.0], dtype=flow.dtype, device=flow.device)
    rows = torch.arange(height, dtype=flow.dtype, device=flow.device)
    columns = torch.arange(width, dtype=flow.dtype, device=flow.device)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    points = torch.stack((x, y), dim=-1).expand(len(fields), height, width, 2)
    result = torch.empty_like(fields)
    result[:, 0] = fields[:, 0]
    for k in range(1, length):
        step = result[:, k - 1].permute(0, 2, 3, 1)  # (B, 2, H, W) -> (B, H, W, 2)
        points = torch.minimum((points + step).clamp_min(0), limit)
        # grid_sample wants -1..1 from the first to the last pixel; a side of 1 pixel has one place.
        grid = points / limit.clamp_min(1) * 2 - 1
        result[:, k] = torch.nn.functional.grid_sample(
            fields[:, k], grid, mode="bilinear", padding_mode="border", align_corners=True
        )
    return result.reshape(flow.shape)


def normalize(
    data: torch.Tensor, stream: StreamSpec, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Turn bytes into the numbers that the network was made for, on the data's own device.

    rgb: value / 255, minus `mean`, over `std`.
    flow: pixels, (byte - 128) * bound / 127.5; each field minus its mean vector if
    `subtract_mean_flow`; minus `mean`, over `std`.
    rgb_diff: value / 255 of each frame minus that of the frame before, over `std`; the mean is
    not used, as it drops out of a difference.

    Args:
        data: (..., C, T, H, W) uint8; T is num_frames, one more for rgb_diff.
        stream: input of the network, which C and T must fit.
        out: float32 tensor of the result's shape to write to and return.

    Returns:
        (..., C, T, H, W) float32; for rgb_diff one frame less than came in.

    Raises:
        ShapeError: another dtype, or C or T do not fit the stream.
    """
    import torch

    if data.dtype != torch.uint8 or data.ndim < 4:
        raise ShapeError(
            f"normalize needs (..., C, T, H, W) uint8, got {tuple(data.shape)} {data.dtype}."
        )
    if data.shape[-4] != stream.channels or data.shape[-3] != stream.steps:
        raise ShapeError(
            f"normalize of {stream.modality} with num_frames={stream.num_frames} needs "
            f"C = {stream.channels} and T = {stream.steps}, got {tuple(data.shape)}."
        )
    std = torch.tensor(stream.std, device=data.device).view(-1, 1, 1, 1)
    if stream.modality == "rgb_diff":
        after, before = data[..., 1:, :, :], data[..., :-1, :, :]
        values = after.to(torch.float32) if out is None else out.copy_(after)
        return values.sub_(before).div_(255 * std)
    # A byte b stands for (b - zero) * unit.
    zero, unit = (128, stream.flow_bound_px / 127.5) if stream.is_flow else (0, 1 / 255)
    mean = torch.tensor(stream.mean, device=data.device).view(-1, 1, 1, 1)
    values = torch.sub(data, zero + mean / unit, out=out)
    if stream.subtract_mean_flow:
        values = values.sub_(values.mean(dim=(-2, -1), keepdim=True)).sub_(mean / unit)
    return values.mul_(unit / std)


class Normalizer:
    """Turns the bytes of clips into numbers for a network, in memory that is kept.

    Large temporaries would be taken from the system and given back to it for every clip, page by
    page. The numbers of one call are overwritten by the next one of the same thread. `spec` is the
    network's input.
    """

    def __init__(self, spec: ClipSpec) -> None:
        self.spec = spec
        self._threads = threading.local()

    def __call__(self, data: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """`normalize` every stream: name -> (..., C, T, H, W), uint8 to float32."""
        import torch

        memory: dict[str, torch.Tensor] = self._threads.__dict__  # of this thread
        numbers: dict[str, torch.Tensor] = {}
        for name, stream in self.spec.streams.items():
            clips = data[name]
            shape = (*clips.shape[:-3], stream.num_frames, *clips.shape[-2:])
            kept = memory.get(name)
            if kept is None or kept.numel() < math.prod(shape) or kept.device != clips.device:
                # A tensor that is made in inference mode could not serve training later.
                with torch.inference_mode(False):
                    kept = torch.empty(math.prod(shape), dtype=torch.float32, device=clips.device)
                memory[name] = kept
            numbers[name] = normalize(clips, stream, out=kept[: math.prod(shape)].view(shape))
        return numbers


def _result(out: Bytes | None, shape: tuple[int, ...]) -> Bytes:
    if out is None:
        return np.empty(shape, np.uint8)
    if out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ShapeError(
            f"out must be a contiguous {shape} uint8 array, got {out.shape} {out.dtype}."
        )
    return out


def _place(
    view: View, reference: tuple[int, int], source: tuple[int, int], size: int
) -> tuple[slice, slice, int]:
    """Rows and columns of a view in a picture of (H, W) `source`, and how they are resized."""
    left, top, right, bottom = source_box(view, reference=reference, source=source)
    # Bilinear reads 2 x 2 pixels: shrinking by more than 2 would skip some and alias. Averaging
    # over the area costs five times as much, so it is kept for that case.
    shrinks = max(bottom - top, right - left) > 2 * size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return slice(top, bottom), slice(left, right), int(method)
