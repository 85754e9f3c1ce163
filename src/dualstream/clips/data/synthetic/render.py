"""Settings of a synthetic data set; scenes, their pictures, and videos as orders of pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, UnknownNameError

LOOKS = ("checker", "dots", "rings", "stripes")
MOTIONS = ("fast", "shuttle", "slow", "stutter")
"""Both in alphabetical order, which is the order of labels that split files without a class
list are read with."""
SHAKE_PX = 0.75
"""Largest shift of the camera in x and in y, for a size of 128."""
SLIDE_PX = 1.25
"""Largest shift of the background against the camera, for a size of 128."""
HUE_DEGREES = {"checker": 0.0, "dots": 240.0, "rings": 60.0, "stripes": 120.0}
"""Middle of each look's hue: red, blue, yellow, green."""

LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114])
"""Luminance of R, G, B (ITU-R BT.601), as H.264 files of small size and cv2.COLOR_RGB2GRAY
have it."""
STEPS: dict[str, tuple[int, ...]] = {
    "fast": (3,),
    "shuttle": (5, -3),
    "slow": (1,),
    "stutter": (3, -1),
}
"""Steps between the places of consecutive frames, repeated to the end of the video.

Pairs are odd and add up to 2: from place 0, even frames are at the even places and odd frames at
the odd ones.
"""


@dataclass(frozen=True)
class SyntheticSpec:
    """All settings of a data set; equal specs give equal pixels."""

    num_looks: int = 4
    num_motions: int = 4
    train_videos_per_class: int = 20
    test_videos_per_class: int = 10
    num_frames: int = 26
    """T of every video; even and no multiple of 3, so that every motion visits every place once."""
    size: int = 128
    """Height and width in pixels, even; all lengths scale with it."""
    fps: float = 25.0
    seed: int = 0
    shuffle_time: bool = False
    """Put the frames of every video in a random order (counter-proof of the temporal stream)."""
    blank_texture: bool = False
    """Give all looks the same grey texture (counter-proof of the spatial stream)."""

    def __post_init__(self) -> None:
        frames = self.num_frames
        checks = {
            "num_looks": (1 <= self.num_looks <= len(LOOKS), f"1..{len(LOOKS)}"),
            "num_motions": (1 <= self.num_motions <= len(MOTIONS), f"1..{len(MOTIONS)}"),
            "train_videos_per_class": (self.train_videos_per_class >= 1, "at least 1"),
            "test_videos_per_class": (self.test_videos_per_class >= 1, "at least 1"),
            "num_frames": (
                frames >= 8 and frames % 2 == 0 and frames % 3 > 0,
                "even, at least 8 and no multiple of 3 (8, 10, 14, 16, 20, 22, 26, ...)",
            ),
            "size": (self.size >= 32 and self.size % 2 == 0, "even and at least 32 pixels"),
            "fps": (math.isfinite(self.fps) and self.fps > 0, "above 0"),
            "seed": (self.seed >= 0, "at least 0"),
        }
        for name, (is_good, allowed) in checks.items():
            if not is_good:
                raise InputError(
                    f"SyntheticSpec.{name} must be {allowed}, got {getattr(self, name)}."
                )

    @property
    def videos_per_class(self) -> int:
        """Videos of one class; the first `train_videos_per_class` of them train, the rest test."""
        return self.train_videos_per_class + self.test_videos_per_class


def class_names(spec: SyntheticSpec) -> tuple[str, ...]:
    """Return names `look-motion` in label order: label = look * num_motions + motion."""
    pairs = product(LOOKS[: spec.num_looks], MOTIONS[: spec.num_motions])
    return tuple(f"{look}-{motion}" for look, motion in pairs)


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything that the videos of one index have in common, whatever their class."""

    background: NDArray[np.float32]
    """(H + 2M, W + 2M, 3) RGB 0..255, M the margin of `_margin_px`."""
    sprite_luma: NDArray[np.float32]
    """(P, P) luminance of the sprite, 75..175."""
    opacity: NDArray[np.float32]
    """(P, P) silhouette, 0..1."""
    places_px: NDArray[np.float64]
    """(T, 2) x, y of the sprite's middle in each picture."""
    background_shifts_px: NDArray[np.float64]
    """(T, 2) x, y shift of the background in each picture."""
    pattern_angle: float
    """Radians."""
    pattern_period_px: float
    pattern_phase: tuple[float, float]
    """Periods."""
    hue_shift_degrees: float
    chroma: float
    """Largest distance of a channel from the luminance, of 255."""
    first_place: int
    direction: Literal[-1, 1]


def render_video(spec: SyntheticSpec, *, look: int, motion: int, index: int) -> NDArray[np.uint8]:
    """Return the frames of one video, a function of its arguments only.

    Args:
        spec: the data set.
        look: position in `LOOKS`, below `spec.num_looks`.
        motion: position in `MOTIONS`, below `spec.num_motions`.
        index: number of the scene, from 0; the counts of the spec do not limit it.

    Returns:
        (T, H, W, 3) uint8 RGB.

    Raises:
        InputError: a position is out of range.
    """
    if not (0 <= look < spec.num_looks and 0 <= motion < spec.num_motions and index >= 0):
        raise InputError(
            f"There is no video of look {look}, motion {motion}, index {index}: allowed are looks "
            f"0..{spec.num_looks - 1}, motions 0..{spec.num_motions - 1} and indices from 0."
        )
    scene = draw_scene(spec, index)
    if spec.shuffle_time:
        order = _generator(spec, 1, index, look, motion).permutation(spec.num_frames)
    else:
        order = place_order(
            MOTIONS[motion],
            num_frames=spec.num_frames,
            first=scene.first_place,
            direction=scene.direction,
        )
    pictures = render_pictures(
        scene, look=None if spec.blank_texture else LOOKS[look], size=spec.size
    )
    return pictures[order]


def draw_scene(spec: SyntheticSpec, index: int) -> Scene:
    """Return scene number `index`, which depends neither on look nor on motion."""
    rng = _generator(spec, 0, index)
    unit = spec.size / 128
    side = spec.size + 2 * _margin_px(spec.size)
    luma = np.clip(125 + 28 * _noise(rng, side, 2.5 * unit), 70, 180)
    tint = np.stack([_noise(rng, side, 10 * unit) for _ in range(3)], axis=-1)
    tint -= (tint @ LUMA_WEIGHTS)[..., None]

    radius = rng.uniform(20, 26) * unit
    patch = 2 * math.ceil(1.12 * radius) + 3
    brightness = rng.uniform(115, 135)
    sprite_luma = np.clip(brightness + 28 * _noise(rng, patch, 2.5 * unit), 75, 175)
    x, y = patch_grid(patch)
    lobes = 1 + 0.12 * np.sin(3 * np.arctan2(y, x) + rng.uniform(0, 2 * math.pi))

    middle = spec.size / 2 + rng.uniform(-14, 14, size=2) * unit
    circle_radius = rng.uniform(7.5, 9.5) * unit
    angles = 2 * math.pi * (np.arange(spec.num_frames) / spec.num_frames + rng.uniform())
    circle = circle_radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)  # (T, 2)
    shake = rng.uniform(-SHAKE_PX, SHAKE_PX, size=(spec.num_frames, 2)) * unit
    slide = rng.uniform(-SLIDE_PX, SLIDE_PX, size=(spec.num_frames, 2)) * unit
    return Scene(
        background=(luma[..., None] + np.clip(14 * tint, -40, 40)).astype(np.float32),
        sprite_luma=sprite_luma.astype(np.float32),
        opacity=np.clip(radius * lobes - np.hypot(x, y) + 0.5, 0, 1).astype(np.float32),
        places_px=middle + circle + shake,
        background_shifts_px=slide + shake,
        pattern_angle=rng.uniform(0, 2 * math.pi),
        pattern_period_px=rng.uniform(11, 15) * unit,
        pattern_phase=(rng.uniform(), rng.uniform()),
        hue_shift_degrees=rng.uniform(-20, 20),
        chroma=rng.uniform(55, 70),
        first_place=int(rng.integers(spec.num_frames)),
        direction=1 if rng.integers(2) else -1,
    )


def render_pictures(scene: Scene, *, look: str | None, size: int) -> NDArray[np.uint8]:
    """Return the (T, H, W, 3) RGB bytes of a scene's pictures in the order of the places.

    `look` is one of `LOOKS`, None the grey sprite; H and W are `size`. Their luminance is the same
    for every look, to rounding.
    """
    sprite = np.repeat(scene.sprite_luma[..., None], 3, axis=-1).astype(np.float64)  # (P, P, 3)
    if look is not None:
        strength = pattern(
            look,
            side=len(sprite),
            angle=scene.pattern_angle,
            period_px=scene.pattern_period_px,
            phase=scene.pattern_phase,
        )
        colour = scene.chroma * hue_without_luma(HUE_DEGREES[look] + scene.hue_shift_degrees)
        sprite = sprite + (0.25 + 0.75 * strength)[..., None] * colour
    opaque = np.concatenate([sprite, np.ones_like(sprite[..., :1])], axis=-1)
    layer = (opaque * scene.opacity[..., None]).astype(np.float32)  # (P, P, 4), opacity last

    pictures = np.empty((len(scene.places_px), size, size, 3), np.uint8)
    places = zip(scene.places_px, scene.background_shifts_px, strict=True)
    for number, (place, shift) in enumerate(places):
        under = _window(scene.background, shift - _margin_px(size), size)
        over = _window(layer, place - (len(layer) - 1) / 2, size)
        pictures[number] = np.rint(under * (1 - over[..., 3:]) + over[..., :3])
    return pictures


def _generator(spec: SyntheticSpec, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=key))


def _margin_px(size: int) -> int:
    """Background beyond each border, more than shake and slide reach."""
    return math.ceil((SHAKE_PX + SLIDE_PX) * size / 128) + 1


def _noise(rng: np.random.Generator, side: int, sigma_px: float) -> NDArray[np.float64]:
    """(side, side) smooth noise of mean 0 and standard deviation 1."""
    noise = cv2.GaussianBlur(rng.standard_normal((side, side)), (0, 0), sigma_px)
    return np.asarray((noise - noise.mean()) / noise.std(), np.float64)


def _window(
    image: NDArray[np.float32], corner: NDArray[np.float64], size: int
) -> NDArray[np.float32]:
    """(size, size, C) where pixel (0, 0) of `image` lies at `corner` (x, y); 0 around it."""
    matrix = np.array([[1.0, 0.0, corner[0]], [0.0, 1.0, corner[1]]])
    return np.asarray(
        cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR), np.float32
    )


def hue_without_luma(degrees: float) -> NDArray[np.float64]:
    """Return the (3,) RGB change of luminance 0 towards a hue, the largest of the three 1 in size.

    Red (0 degrees) is (1, -0.4265, -0.4265): (1, 0, 0) less its luminance 0.299, over 0.701.
    """
    sector = (np.array([5.0, 3.0, 1.0]) + degrees / 60) % 6
    pure = 1 - np.clip(np.minimum(sector, 4 - sector), 0, 1)  # R, G, B of the full hue
    change = pure - pure @ LUMA_WEIGHTS
    return np.asarray(change / np.abs(change).max(), np.float64)


def pattern(
    look: str, *, side: int, angle: float, period_px: float, phase: tuple[float, float]
) -> NDArray[np.float64]:
    """Return the strength of the colour on a square patch; about half is 1, the rest 0, edges soft.

    Args:
        look: one of `LOOKS`.
        side: P, pixels.
        angle: turn of checker, stripes and dots, radians.
        period_px: distance of two stripes, rings, rows of dots or of squares of one kind.
        phase: shift of the pattern in periods (the first one only for stripes and rings).

    Returns:
        (P, P), 0..1.

    Raises:
        UnknownNameError: another look.
    """
    x, y = patch_grid(side)
    cos, sin = math.cos(angle), math.sin(angle)
    u = (cos * x + sin * y) / period_px + phase[0]
    v = (cos * y - sin * x) / period_px + phase[1]
    turn = 2 * math.pi
    if look == "checker":
        height = np.sin(turn * u) * np.sin(turn * v)
    elif look == "dots":
        height = 3 * (0.36 - np.hypot(u - np.rint(u), v - np.rint(v)))
    elif look == "rings":
        height = np.sin(turn * (np.hypot(x, y) / period_px + phase[0]))
    elif look == "stripes":
        height = np.sin(turn * u)
    else:
        raise UnknownNameError("look", look, HUE_DEGREES)
    return np.asarray(np.clip(0.5 + 2 * height, 0, 1), np.float64)


def patch_grid(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y of each pixel of a (side, side) patch, 0 in its middle."""
    line = np.arange(side) - (side - 1) / 2
    x, y = np.meshgrid(line, line)
    return x, y


def place_order(
    motion: str, *, num_frames: int, first: int = 0, direction: Literal[-1, 1] = 1
) -> NDArray[np.int64]:
    """Return the place in each frame: a permutation of 0..num_frames-1.

    Eight frames of stutter: 0 3 2 5 4 7 6 1 (steps +3 -1 +3 -1 ..., modulo 8).

    Args:
        motion: one of `MOTIONS`.
        num_frames: T, even and no multiple of 3 (else places are left out).
        first: place in frame 0.
        direction: 1 goes up the places, -1 down.

    Raises:
        UnknownNameError: another motion.
    """
    if motion not in STEPS:
        raise UnknownNameError("motion", motion, STEPS)
    steps = np.resize(np.array(STEPS[motion], np.int64), num_frames - 1)
    walked = np.concatenate([np.zeros(1, np.int64), np.cumsum(steps)])
    order: NDArray[np.int64] = (first + direction * walked) % num_frames
    return order
