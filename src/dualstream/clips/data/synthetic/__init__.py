"""A small data set whose classes need both streams: real H.264 files, rendered from a seed.

A class is a pair (look, motion). Every number of a scene (background, silhouette, size, path,
camera shake, hue, phases) is drawn from (seed, index) alone, and each scene is rendered once for
each of the 16 classes: a fully crossed experiment. Two exact properties bound the streams:

- A motion is an order of pictures. A scene is a cycle of T still pictures, the sprite at T
  equally spaced places of a circle, each with its own camera shake and background offset. The
  motions walk through the same T pictures, bit for bit, in different orders: single frames know
  the look only (top-1 at most 1 / num_motions), and with time shuffled nothing of the motion is
  left, however many frames are looked at.
- A look is a pattern of colour without luminance. The luminance of a pixel is the same for all
  looks (to rounding, and to what the encoder adds), so flow from luminance is the same too, and
  the temporal stream knows the motion only: top-1 is at most 1 / num_looks. With
  `blank_texture` the looks are the same, bit for bit.

Both together know the class. The direction around the circle is drawn for each scene, so a
mirrored video keeps its class: flips and ten-crop views are allowed. Shake and background offset
are independent from picture to picture: a smooth drift would date the pictures.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn

from dualstream.clips.data.synthetic.render import LOOKS as LOOKS
from dualstream.clips.data.synthetic.render import MOTIONS as MOTIONS
from dualstream.clips.data.synthetic.render import SyntheticSpec as SyntheticSpec
from dualstream.clips.data.synthetic.render import class_names as class_names
from dualstream.clips.data.synthetic.render import render_video as render_video
from dualstream.errors import InputError, VideoError, check_least
from dualstream.files import read_json, write_text
from dualstream.jobs import run_jobs
from dualstream.video import probe, write_video

SPEC_FILE = "spec.json"

RENDERING = 1
"""Raised whenever equal specs give other pixels than before, so that old folders are not
continued."""


@dataclass(frozen=True)
class RenderedVideo:
    """One file of a synthetic data set."""

    name: str
    """Path below `<out>/videos`, as manifests name it."""
    label: int
    """Position in `class_names(spec)`."""
    part: Literal["train", "test"]
    status: Literal["done", "kept"]
    """`kept`: a complete file of the same spec was there already."""


def render_synthetic(
    out: str | os.PathLike[str], spec: SyntheticSpec, *, workers: int = 1
) -> Iterator[RenderedVideo]:
    """Render a data set that `prepare` reads: `spec.json`, videos, then split files.

        videos/checker-fast/checker-fast_000.mp4
        splits/checker-fast_test_split1.txt      lines 'checker-fast_000.mp4 1' (2: test)

    The split files come last, so a folder that has them is complete. A folder `out` of the same
    spec is continued: videos that open with all their frames are kept. With one worker this
    process renders and encodes.

    Yields:
        Each video when it is there, by label, then by index.

    Raises:
        InputError: `workers` is below 1, or `out` holds another data set.
        VideoError: a file cannot be written.
    """
    check_least(1, workers=workers)
    folder = Path(out)
    _claim_folder(folder, spec)
    parts: list[Literal["train", "test"]] = ["train"] * spec.train_videos_per_class
    parts += ["test"] * spec.test_videos_per_class
    jobs = [
        (RenderedVideo(f"{name}/{name}_{index:03d}.mp4", label, part, "done"), index)
        for label, name in enumerate(class_names(spec))
        for index, part in enumerate(parts)
    ]
    render = partial(_render_file, folder, spec)
    results: Iterator[RenderedVideo] = map(render, jobs)
    if workers > 1:
        results = run_jobs(render, jobs, workers=workers, on_death=partial(_died, folder))
    come: dict[str, RenderedVideo] = {}
    for video, _ in jobs:
        while video.name not in come:
            done = next(results)
            come[done.name] = done
        yield come.pop(video.name)
    for name in class_names(spec):
        lines = [
            f"{name}_{index:03d}.mp4 {1 if part == 'train' else 2}\n"
            for index, part in enumerate(parts)
        ]
        write_text(folder / "splits" / f"{name}_test_split1.txt", "".join(lines))


def _died(folder: Path, job: tuple[RenderedVideo, int], exit_code: int) -> NoReturn:
    raise VideoError(
        f"{folder / 'videos' / job[0].name}: the process that rendered it ended with exit code "
        f"{exit_code}, twice. Try again with fewer workers."
    )


def _render_file(
    folder: Path, spec: SyntheticSpec, job: tuple[RenderedVideo, int]
) -> RenderedVideo:
    """Render a video and its index in the class unless its header tells of all frames."""
    video, index = job
    path = folder / "videos" / video.name
    with suppress(VideoError):
        info = probe(path)
        found = info.num_frames_from_header, info.width, info.height
        if found == (spec.num_frames, spec.size, spec.size):
            return replace(video, status="kept")
    # A killed run may have left its unfinished file beside this one.
    for left in path.parent.glob(f".{path.name}.*.tmp{path.suffix}"):
        left.unlink(missing_ok=True)
    look, motion = divmod(video.label, spec.num_motions)
    write_video(path, render_video(spec, look=look, motion=motion, index=index), fps=spec.fps)
    return video


def _claim_folder(folder: Path, spec: SyntheticSpec) -> None:
    """Write spec.json, or compare with the one that is there."""
    path = folder / SPEC_FILE
    wanted: dict[str, Any] = {"rendering": RENDERING, **asdict(spec)}
    if not path.exists():
        if (folder / "videos").exists() or (folder / "splits").exists():
            raise InputError(
                f"{folder} holds 'videos' or 'splits' but no {SPEC_FILE}, so it is no synthetic "
                "data set to go on with. Name another folder."
            )
        write_text(path, json.dumps(wanted, indent=2) + "\n")
        return
    found = read_json(path, remedy=f"Delete {folder} or name another folder.")
    if found != wanted:
        found = found if isinstance(found, dict) else {}
        differing = "; ".join(
            f"{key} is {found.get(key)!r}, asked for was {wanted.get(key)!r}"
            for key in sorted(found.keys() | wanted.keys())
            if found.get(key) != wanted.get(key)
        )
        raise InputError(
            f"{folder} holds another synthetic data set ({differing}). Delete it or name another "
            "folder."
        )
