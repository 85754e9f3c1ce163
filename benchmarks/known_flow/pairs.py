"""Pairs of images with known flow, by group and seed.

Development pairs are for choosing parameters. The final pairs are other scenes of the same kinds:
look at them once, when everything is chosen (`python benchmarks/flow.py --final`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.flow import read_flo
from dualstream.video import read_video

from .scenes import Affine, Blob, Layer, Scene, Waves
from .textures import Texture, frame_texture, noise_texture

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
HEIGHT, WIDTH = 256, 340

GeneratedGroup = Literal["affine", "layers", "smooth"]
GENERATED_GROUPS: tuple[GeneratedGroup, ...] = get_args(GeneratedGroup)

DEVELOPMENT_SEEDS = tuple(range(8))
FINAL_SEEDS = tuple(range(1000, 1008))

_UNKNOWN_FLOW = 1e9
_PUBLIC = {"rubberwhale": "middlebury", "chairs": "chairs"}


class KnownPair(NamedTuple):
    """Two images and the way from the first to the second."""

    name: str
    group: str
    first: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    second: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    flow: NDArray[np.float32]
    """(2, H, W) pixels, x right and y down; 0 where it is unknown."""
    valid: NDArray[np.bool_]
    """(H, W): where the flow counts. Generated pairs: the point is inside both images and not
    hidden in the second. Public pairs: the flow is known (occluded points count there)."""


def development_pairs(*, count: int = len(DEVELOPMENT_SEEDS)) -> Iterator[KnownPair]:
    """The first `count` development pairs of every generated group."""
    yield from _generated(DEVELOPMENT_SEEDS[:count])


def final_pairs() -> Iterator[KnownPair]:
    """The pairs of every generated group that no parameter was chosen on."""
    yield from _generated(FINAL_SEEDS)


def _generated(seeds: tuple[int, ...]) -> Iterator[KnownPair]:
    for group in GENERATED_GROUPS:
        for seed in seeds:
            yield generated_pair(group, seed)


def generated_pair(group: GeneratedGroup, seed: int, *, clips: Path | None = None) -> KnownPair:
    """One rendered pair, 340x256; the same arguments give the same bytes.

    Even seeds have noise as texture, odd ones frames of the real videos in `clips`.

    Args:
        group: `affine` moves one picture by a shift, zoom, rotation and shear; `layers` has
            three to six shapes that move over a moving background and hide each other; `smooth`
            bends one picture by waves 110 px long and longer.
        seed: of everything random.
        clips: folder of videos; default: ../shared/data/clips. Where there is none, all seeds
            have noise (the pair's name tells which).
    """
    rng = np.random.default_rng([GENERATED_GROUPS.index(group), seed])
    videos = _videos(SHARED_DATA / "clips" if clips is None else clips) if seed % 2 else []
    kind = "clip" if videos else "noise"

    def texture() -> Texture:
        if not videos:
            return noise_texture(HEIGHT, WIDTH, rng=rng)
        frame = _random_frame(videos[int(rng.integers(len(videos)))], rng)
        return frame_texture(frame, magnification=float(rng.uniform(0.75, 1.0)))

    scene = _SCENES[group](texture, rng)
    flow, valid = scene.flow()
    first, second = _photographed(scene, rng)
    return KnownPair(f"{group}-{seed}-{kind}", group, first, second, flow, valid)


def public_pairs(folder: Path = SHARED_DATA / "flow") -> Iterator[KnownPair]:
    """Middlebury's RubberWhale and three pairs of FlyingChairs, as they lie in the shared data.

    Source:
        Baker et al. 2007 (vision.middlebury.edu/flow); Dosovitskiy et al. 2015 (FlyingChairs).
    """
    for truth in sorted(folder.glob("*_gt.flo")):
        stem = truth.name.removesuffix("_gt.flo")
        images = sorted(folder.glob(f"{stem}*.png"))
        first, second = (cv2.cvtColor(cv2.imread(str(p)), cv2.COLOR_BGR2RGB) for p in images)
        flow = read_flo(truth)
        valid = (np.abs(flow) < _UNKNOWN_FLOW).all(axis=0)
        flow = np.where(valid, flow, 0).astype(np.float32)
        yield KnownPair(stem, _PUBLIC[stem.rstrip("0123456789")], first, second, flow, valid)


def _affine_scene(texture: Callable[[], Texture], rng: np.random.Generator) -> Scene:
    motion = _random_affine(rng, shift_px=7, degrees=2.5, zoom=0.04, shear=0.02)
    return Scene((Layer(texture(), motion),), HEIGHT, WIDTH)


def _layers_scene(texture: Callable[[], Texture], rng: np.random.Generator) -> Scene:
    layers = [Layer(texture(), _random_affine(rng, shift_px=3, degrees=0.7, zoom=0.01))]
    for _ in range(int(rng.integers(3, 7))):
        centre = (float(rng.uniform(30, WIDTH - 30)), float(rng.uniform(30, HEIGHT - 30)))
        shape = Blob(
            centre,
            float(rng.uniform(18, 60)),
            rng.uniform(-0.25, 0.25, 3) / (1, 1.5, 2),
            rng.uniform(0, 2 * np.pi, 3),
        )
        motion = _random_affine(rng, shift_px=9, degrees=4, zoom=0.04, centre_px=centre)
        layers.append(Layer(texture(), motion, shape))
    return Scene(tuple(layers), HEIGHT, WIDTH)


def _smooth_scene(texture: Callable[[], Texture], rng: np.random.Generator) -> Scene:
    count = 6
    lengths_px, angles = rng.uniform(110, 400, count), rng.uniform(0, 2 * np.pi, count)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    waves = directions * (2 * np.pi / lengths_px)[:, None]
    amplitudes = rng.normal(0, 1, (count, 2)) * lengths_px[:, None]
    slopes = np.linalg.norm(amplitudes, axis=1) * np.linalg.norm(waves, axis=1)
    amplitudes *= rng.uniform(0.2, 0.5) / slopes.sum()
    x, y = (float(value) for value in rng.uniform(-3, 3, 2))
    motion = Waves(amplitudes, waves, rng.uniform(0, 2 * np.pi, count), (x, y))
    return Scene((Layer(texture(), motion),), HEIGHT, WIDTH)


_SCENES: dict[str, Callable[[Callable[[], Texture], np.random.Generator], Scene]] = {
    "affine": _affine_scene,
    "layers": _layers_scene,
    "smooth": _smooth_scene,
}


def _random_affine(
    rng: np.random.Generator,
    *,
    shift_px: float,
    degrees: float,
    zoom: float,
    shear: float = 0.0,
    centre_px: tuple[float, float] = (WIDTH / 2, HEIGHT / 2),
) -> Affine:
    """A motion with each part drawn evenly between minus and plus its bound."""
    angle = np.deg2rad(rng.uniform(-degrees, degrees))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = (1 + rng.uniform(-zoom, zoom)) * rotation @ [[1, rng.uniform(-shear, shear)], [0, 1]]
    x, y = (float(value) for value in rng.uniform(-shift_px, shift_px, 2))
    return Affine(matrix, centre_px, (x, y))


def _photographed(
    scene: Scene, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Lens blur (both alike), a little more or less light on the second, sensor noise, bytes."""
    blur_px = float(rng.uniform(0.1, 0.6))
    gain, offset = rng.uniform(0.98, 1.02), rng.uniform(-2, 2)
    strength = rng.uniform(0.5, 2.5)
    first, second = scene.first(blur_px=blur_px), scene.second(blur_px=blur_px)
    images = []
    for image in (first, gain * second + offset):
        noisy = image + rng.normal(0, strength, image.shape)
        images.append(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
    return images[0], images[1]


def _videos(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in (".avi", ".mp4"))


def _random_frame(video: Path, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W, 3) one of 16 frames spread over the video."""
    return read_video(video, count=16).data[int(rng.integers(16))]
