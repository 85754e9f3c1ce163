"""A small data set whose classes need both streams: real H.264 files, rendered from a seed.

A class is a pair (look, motion). Every number of a scene (background, silhouette, size, path,
camera shake, colour jitter) is drawn from (seed, index) alone, and each scene is rendered once
for each of the 16 classes. Two exact properties bound the streams:

- A motion is an order of poses. A scene is a cycle of T still pictures, the sprite at T equally
  spaced places of a circle; each picture has its own camera shake and background offset. The
  four motions walk through the same T pictures in four orders. So the frames of one scene are
  the same for all motions, bit for bit: single frames know the look only (top-1 at most 1 / 4).
  With time shuffled nothing of the motion is left, whatever looks at how many frames.
- A look is a pattern of colour without luminance. The luminance of a pixel is the same for all
  looks (to rounding), so flow from luminance is the same too, and the temporal stream knows
  the motion only (top-1 at most 1 / 4). With `blank_texture` the looks are bit-equal.

Steps along the circle, in poses a frame (each visits every pose exactly once in T frames):

    slow      +1 +1 +1 +1 ...
    fast      +3 +3 +3 +3 ...
    stutter   +3 -1 +3 -1 ...
    shuttle   +5 -3 +5 -3 ...

The direction around the circle is drawn for each scene, so a mirrored video keeps its class
and flips and ten-crop views are allowed. Shake and background offset are independent from
picture to picture: a smooth drift would date the frames, and shuffled ones could be put back.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, VideoError
from dualstream.video import probe, write_video

LOOKS = ("checker", "stripes", "dots", "rings")
MOTIONS = ("slow", "fast", "stutter", "shuttle")

HUE_DEGREES = {"checker": 0.0, "stripes": 120.0, "dots": 240.0, "rings": 60.0}
"""Middle of each look's hue: red, green, blue, yellow."""

STEPS: dict[str, tuple[int, ...]] = {
    "slow": (1,),
    "fast": (3,),
    "stutter": (3, -1),
    "shuttle": (5, -3),
}
"""Steps between consecutive poses, repeated to the end of the video."""

RENDERING = 1
"""Raised whenever the same spec gives other pixels, so that old folders are not continued."""

SPEC_FILE = "spec.json"


@dataclass(frozen=True)
class SyntheticSpec:
    """Everything that decides the pixels of a synthetic data set."""

    num_looks: int = 4
    num_motions: int = 4
    train_videos_per_class: int = 20
    test_videos_per_class: int = 10
    num_frames: int = 26
    """T of every video; even and no multiple of 3, so that every motion visits every pose once."""
    size: int = 128
    """Height and width in pixels; all lengths scale with it."""
    fps: float = 25.0
    seed: int = 0
    shuffle_time: bool = False
    """Put the frames of every video in a random order (counter-proof of the temporal stream)."""
    blank_texture: bool = False
    """Give all looks the same grey texture (counter-proof of the spatial stream)."""

    def __post_init__(self) -> None:
        for name, allowed in (("num_looks", LOOKS), ("num_motions", MOTIONS)):
            if not 1 <= getattr(self, name) <= len(allowed):
                raise InputError(
                    f"SyntheticSpec.{name} must be 1..{len(allowed)}, got {getattr(self, name)}."
                )
        for name in ("train_videos_per_class", "test_videos_per_class"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"SyntheticSpec.{name} must be at least 1, got {getattr(self, name)}."
                )
        if self.num_frames < 8 or self.num_frames % 2 or self.num_frames % 3 == 0:
            raise InputError(
                "SyntheticSpec.num_frames must be even, at least 8 and no multiple of 3 "
                f"(8, 10, 14, 16, 20, 22, 26, ...), got {self.num_frames}."
            )
        if self.size < 32 or self.size % 2:
            raise InputError(
                f"SyntheticSpec.size must be even and at least 32 pixels, got {self.size}."
            )
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise InputError(f"SyntheticSpec.fps must be above 0, got {self.fps}.")
        if self.seed < 0:
            raise InputError(f"SyntheticSpec.seed must not be negative, got {self.seed}.")

    @property
    def videos_per_class(self) -> int:
        """Training and test videos of one class; the first `train_videos_per_class` train."""
        return self.train_videos_per_class + self.test_videos_per_class


@dataclass(frozen=True)
class RenderedVideo:
    """One file of a synthetic data set."""

    name: str
    """Path below `<out>/videos`, as manifests name it."""
    label: int
    part: Literal["train", "test"]
    status: Literal["done", "kept"]
    """`kept`: a complete file of the same spec was already there."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What the 16 videos of one index share. Lengths in pixels."""

    background: NDArray[np.float32]
    """(H + 2M, W + 2M, 3) RGB, M = `_margin_px`."""
    sprite_luma: NDArray[np.float32]
    """(P, P) luminance of the sprite, 75..175."""
    alpha: NDArray[np.float32]
    """(P, P) opacity of the silhouette, 0..1."""
    places: NDArray[np.float64]
    """(T, 2) x, y of the sprite's middle in the picture of each pose."""
    background_offsets: NDArray[np.float64]
    """(T, 2) x, y of the background's shift in the picture of each pose."""
    pattern_angle: float
    """Radians."""
    pattern_period: float
    pattern_phase: tuple[float, float]
    """Shift of the pattern, in periods."""
    hue_shift_degrees: float
    chroma: float
    """Strength of the colour, largest distance of a channel from the luminance."""
    first_pose: int
    direction: Literal[-1, 1]


def class_names(spec: SyntheticSpec) -> tuple[str, ...]:
    """Names `look-motion` in label order: label = look * num_motions + motion."""
    return tuple(
        f"{look}-{motion}"
        for look in LOOKS[: spec.num_looks]
        for motion in MOTIONS[: spec.num_motions]
    )


def pose_order(
    motion: str, *, num_frames: int, first_pose: int = 0, direction: Literal[-1, 1] = 1
) -> NDArray[np.int64]:
    """Pose shown in each frame: a permutation of 0..num_frames-1.

    T = 8, stutter: 0 3 2 5 4 7 6 1 (steps +3 -1 +3 -1 ..., modulo 8).

    Args:
        motion: one of `MOTIONS`.
        num_frames: T, even and no multiple of 3.
        first_pose: pose of frame 0.
        direction: 1 goes up the poses, -1 down.
    """
    steps = np.resize(np.array(STEPS[motion], np.int64), num_frames - 1)
    walked = np.concatenate([[0], np.cumsum(steps)])
    order: NDArray[np.int64] = (first_pose + direction * walked) % num_frames
    return order


def render_video(
    spec: SyntheticSpec, *, look: int, motion: int, index: int
) -> NDArray[np.uint8]:
    """Frames of one video, a function of its arguments only.

    Args:
        spec: the data set.
        look: position in `LOOKS`, below `spec.num_looks`.
        motion: position in `MOTIONS`, below `spec.num_motions`.
        index: number of the scene, from 0; not limited by the spec's counts.

    Returns:
        (T, H, W, 3) uint8 RGB.

    Raises:
        InputError: a position is out of range.
    """
    if not (0 <= look < spec.num_looks and 0 <= motion < spec.num_motions and index >= 0):
        raise InputError(
            f"look {look}, motion {motion}, index {index} do not exist: allowed are "
            f"0..{spec.num_looks - 1}, 0..{spec.num_motions - 1} and 0 or more."
        )
    scene = draw_scene(spec, index)
    if spec.shuffle_time:
        order = _rng(spec, 1, index, look, motion).permutation(spec.num_frames)
    else:
        order = pose_order(
            MOTIONS[motion],
            num_frames=spec.num_frames,
            first_pose=scene.first_pose,
            direction=scene.direction,
        )
    pictures = render_pictures(scene, None if spec.blank_texture else LOOKS[look], spec.size)
    return pictures[order]


def draw_scene(spec: SyntheticSpec, index: int) -> Scene:
    """Scene number `index`, the same whatever look and motion it is rendered with."""
    rng = _rng(spec, 0, index)
    unit = spec.size / 128
    margin = _margin_px(spec.size)
    side = spec.size + 2 * margin
    luma = 125 + 28 * _noise(rng, side, 1.6 * unit)
    tint = np.stack([_noise(rng, side, 10 * unit) for _ in range(3)], axis=-1)
    tint -= (tint @ _LUMA)[..., None]
    background = np.clip(luma, 70, 180)[..., None] + np.clip(14 * tint, -40, 40)

    radius = rng.uniform(20, 26) * unit
    patch = 2 * math.ceil(1.3 * radius) + 3
    brightness = rng.uniform(-10, 10)
    sprite_luma = np.clip(125 + brightness + 28 * _noise(rng, patch, 1.6 * unit), 75, 175)
    x, y = _patch_grid(patch)
    lobes = 1 + 0.12 * np.sin(3 * np.arctan2(y, x) + rng.uniform(0, 2 * math.pi))
    alpha = np.clip(radius * lobes - np.hypot(x, y) + 0.5, 0, 1)

    middle = spec.size / 2 + rng.uniform(-14, 14, size=2) * unit
    orbit = rng.uniform(7.5, 9.5) * unit
    angles = 2 * math.pi * (np.arange(spec.num_frames) / spec.num_frames + rng.uniform())
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    shake = rng.uniform(-0.75, 0.75, size=(spec.num_frames, 2)) * unit
    slide = rng.uniform(-1.25, 1.25, size=(spec.num_frames, 2)) * unit
    return Scene(
        background=background.astype(np.float32),
        sprite_luma=sprite_luma.astype(np.float32),
        alpha=alpha.astype(np.float32),
        places=middle + orbit * circle + shake,
        background_offsets=slide + shake,
        pattern_angle=rng.uniform(0, 2 * math.pi),
        pattern_period=rng.uniform(11, 15) * unit,
        pattern_phase=(rng.uniform(), rng.uniform()),
        hue_shift_degrees=rng.uniform(-20, 20),
        chroma=rng.uniform(55, 70),
        first_pose=int(rng.integers(spec.num_frames)),
        direction=1 if rng.integers(2) else -1,
    )


def render_pictures(scene: Scene, look: str | None, size: int) -> NDArray[np.uint8]:
    """The T pictures of a scene in the order of the poses.

    Args:
        scene: from `draw_scene`.
        look: one of `LOOKS`; None for the grey sprite that all looks share.
        size: H and W.

    Returns:
        (T, H, W, 3) uint8 RGB. Their luminance does not depend on `look` (to rounding).
    """
    sprite = np.repeat(scene.sprite_luma[..., None], 3, axis=-1)
    if look is not None:
        colour = hue_without_luma(HUE_DEGREES[look] + scene.hue_shift_degrees)
        strength = 0.25 + 0.75 * _pattern(scene, look)
        sprite = sprite + scene.chroma * strength[..., None] * colour
    layer = np.concatenate([sprite, np.ones_like(sprite[..., :1])], axis=-1)
    layer = (layer * scene.alpha[..., None]).astype(np.float32)  # (P, P, 4), opacity last

    half, margin = (len(layer) - 1) / 2, _margin_px(size)
    pictures = np.empty((len(scene.places), size, size, 3), np.uint8)
    for pose, (place, offset) in enumerate(
        zip(scene.places, scene.background_offsets, strict=True)
    ):
        under = _shift(scene.background, offset - margin, size)
        over = _shift(layer, place - half, size)
        pictures[pose] = np.rint(under * (1 - over[..., 3:]) + over[..., :3])
    return pictures


def hue_without_luma(degrees: float) -> NDArray[np.float64]:
    """(3,) RGB change of luminance 0 towards a hue, its largest channel 1 in size.

    Luminance is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), as cv2.COLOR_RGB2GRAY has it.
    """
    sector = np.array([5.0, 3.0, 1.0]) + degrees / 60
    pure = 1 - np.clip(np.minimum(sector % 6, 4 - sector % 6), 0, 1)
    change = pure - pure @ _LUMA
    return np.asarray(change / np.abs(change).max(), np.float64)


def render_synthetic(
    out: str | os.PathLike[str], spec: SyntheticSpec, *, workers: int = 1
) -> Iterator[RenderedVideo]:
    """Render a data set that `prepare` reads: videos, then HMDB-51-style split files.

    Writes `spec.json`, `videos/<class>/<class>_<index>.mp4` and, when all are there,
    `splits/<class>_test_split1.txt` with lines `<class>_<index>.mp4 1` (train) or `2` (test).
    A folder of the same spec is continued: files that open with all their frames are kept.

    Args:
        out: folder, made where missing.
        spec: the data set.
        workers: processes that render and encode; 1 works in this one.

    Yields:
        Each video as it is finished, in the order of labels, then indices.

    Raises:
        InputError: `workers` is below 1, or `out` holds another data set.
    """
    if workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}.")
    folder = Path(out)
    _claim_folder(folder, spec)
    jobs = [
        (look, motion, index)
        for look in range(spec.num_looks)
        for motion in range(spec.num_motions)
        for index in range(spec.videos_per_class)
    ]
    if workers == 1:
        for job in jobs:
            yield _render_file(folder, spec, job)
    else:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=context)
        try:
            futures = [pool.submit(_render_file, folder, spec, job) for job in jobs]
            for future in futures:
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    for name in class_names(spec):
        lines = (
            f"{name}_{index:03d}.mp4 {1 if _part(spec, index) == 'train' else 2}\n"
            for index in range(spec.videos_per_class)
        )
        _write_text(folder / "splits" / f"{name}_test_split1.txt", "".join(lines))


_LUMA = np.array([0.299, 0.587, 0.114])


def _rng(spec: SyntheticSpec, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=key))


def _margin_px(size: int) -> int:
    """Background beyond each border: shake and slide reach 2 / 128 of the size."""
    return math.ceil(2 * size / 128) + 1


def _noise(rng: np.random.Generator, side: int, sigma_px: float) -> NDArray[np.float64]:
    """(side, side) smooth noise of mean 0 and standard deviation 1."""
    noise = cv2.GaussianBlur(rng.standard_normal((side, side)), (0, 0), sigma_px)
    return np.asarray((noise - noise.mean()) / noise.std(), np.float64)


def _patch_grid(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y of each pixel of a (side, side) patch, 0 in its middle."""
    line = np.arange(side) - (side - 1) / 2
    x, y = np.meshgrid(line, line)
    return x, y


def _shift(image: NDArray[np.float32], offset: NDArray[np.float64], size: int) -> NDArray[Any]:
    """(size, size, C) window on which pixel (0, 0) of `image` lies at `offset` (x, y); 0 outside."""
    matrix = np.array([[1.0, 0.0, offset[0]], [0.0, 1.0, offset[1]]])
    return np.asarray(cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR))


def _pattern(scene: Scene, look: str) -> NDArray[np.float64]:
    """(P, P) values 0..1 with edges about 2 px wide; half of the area or so is 1."""
    x, y = _patch_grid(len(scene.alpha))
    cos, sin = math.cos(scene.pattern_angle), math.sin(scene.pattern_angle)
    u = (cos * x + sin * y) / scene.pattern_period + scene.pattern_phase[0]
    v = (cos * y - sin * x) / scene.pattern_period + scene.pattern_phase[1]
    wave_u, wave_v = np.sin(2 * math.pi * u), np.sin(2 * math.pi * v)
    if look == "checker":
        height = wave_u * wave_v
    elif look == "stripes":
        height = wave_u
    elif look == "dots":
        height = 3 * (0.36 - np.hypot(u - np.rint(u), v - np.rint(v)))
    else:  # rings
        around = np.hypot(x, y) / scene.pattern_period + scene.pattern_phase[0]
        height = np.sin(2 * math.pi * around)
    return np.asarray(np.clip(0.5 + 2 * height, 0, 1))


def _part(spec: SyntheticSpec, index: int) -> Literal["train", "test"]:
    return "train" if index < spec.train_videos_per_class else "test"


def _render_file(folder: Path, spec: SyntheticSpec, job: tuple[int, int, int]) -> RenderedVideo:
    """Render one (look, motion, index) unless its file is already complete."""
    look, motion, index = job
    label = look * spec.num_motions + motion
    class_name = class_names(spec)[label]
    name = f"{class_name}/{class_name}_{index:03d}.mp4"
    path = folder / "videos" / name
    complete = _is_complete(path, spec)
    if not complete:
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = render_video(spec, look=look, motion=motion, index=index)
        write_video(path, frames, fps=spec.fps)
    return RenderedVideo(name, label, _part(spec, index), "kept" if complete else "done")


def _is_complete(path: Path, spec: SyntheticSpec) -> bool:
    """Whether the file opens and holds T frames; its spec was compared before."""
    try:
        info = probe(path)
    except VideoError:
        return False
    return info.num_frames_from_header == spec.num_frames and info.width == spec.size


def _claim_folder(folder: Path, spec: SyntheticSpec) -> None:
    """Write spec.json, or compare with the one that is there."""
    path = folder / SPEC_FILE
    wanted = {"rendering": RENDERING, **asdict(spec)}
    if not path.exists():
        if (folder / "videos").exists():
            raise InputError(
                f"{folder} holds a folder 'videos' but no {SPEC_FILE}, so it is no synthetic data "
                "set that could be continued. Name another folder."
            )
        _write_text(path, json.dumps(wanted, indent=2) + "\n")
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path} is not readable JSON ({error}). Delete {folder} or name another folder."
        ) from error
    if found != wanted:
        found = found if isinstance(found, dict) else {}
        differing = ", ".join(
            f"{key} {found.get(key)!r} (asked for {wanted.get(key)!r})"
            for key in sorted(found.keys() | wanted.keys())
            if found.get(key) != wanted.get(key)
        )
        raise InputError(
            f"{folder} holds a synthetic data set with {differing}. Delete it or name another "
            "folder."
        )


def _write_text(path: Path, text: str) -> None:
    """Write a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
