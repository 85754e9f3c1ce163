"""Damaged videos through everything that reads videos."""

from __future__ import annotations

import functools
import os
import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dualstream.errors import DualstreamError

from .children import VERDICTS, Child, WrongResultError, verdict_of
from .containers import digest, write_sources
from .mutations import mutate
from .tiny import tiny_run

MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""Folder of the files under trial: a disk would have every stored file synced."""

STEPS = ("probe", "read_video", "flow", "prepare", "predict")

MOST_PIXELS = 40_000_000
"""Pixels of all frames above which flow and networks are left out: a damaged header that tells of
large pictures would have them computed, which takes minutes and shows nothing new."""


FOREIGN_SHARE = 0.1
"""Of files whose sound form is not read either: pairs that FFmpeg writes and nobody can read."""


def damaged(seed: int, sources: Path, names: Mapping[str, bool]) -> tuple[str, bytes, list[str]]:
    """Make the file of one seed: name of its source, bytes, and what was done to it.

    Every container has the same chance, then every codec in it.
    """
    rng = random.Random(f"video {seed}")
    is_read = rng.random() >= FOREIGN_SHARE or all(names.values())
    pool = [name for name, reads in names.items() if reads == is_read]
    container = rng.choice(sorted({name.partition(".")[0] for name in pool}))
    name = rng.choice([name for name in pool if name.partition(".")[0] == container])
    other = rng.choice(pool)
    data, done = mutate((sources / name).read_bytes(), seed, other=(sources / other).read_bytes())
    return name, data, done


def record_of(seed: int, sources: Path, names: Mapping[str, bool], child: Child) -> dict[str, Any]:
    """Put the file of one seed through a child; the record of what became of it."""
    name, data, done = damaged(seed, sources, names)
    container, _, encoder = name.partition(".")
    record = {"container": container, "encoder": encoder, "sha": digest(data), "done": done}
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "data" / "class" / "video.mp4"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        answer = child.ask(str(path))
    record |= {"seconds": round(answer.seconds, 3), "mib": answer.peak_bytes >> 20}
    if answer.verdict != "read":
        return record | {"verdict": answer.verdict, "detail": answer.detail}
    steps = answer.detail
    found = [verdict for verdict, _ in steps.values()]
    worst = max(found, key=VERDICTS.index)
    bad = {step: detail for step, (verdict, detail) in steps.items() if verdict == worst}
    detail = bad if worst not in ("read", "refused") else ""
    return (
        record
        | {"verdict": worst, "steps": dict(zip(steps, found, strict=True))}
        | ({"detail": detail} if detail else {})
    )


def try_video(path: str) -> dict[str, tuple[str, Any]]:
    """Put one file through every step, in a child: step -> (verdict, detail)."""
    return {step: verdict_of(STEPS_OF[step], path) for step in STEPS}


def _probe(path: str) -> str:
    from dualstream.video import probe

    facts = probe(path)
    decoded = probe(path, decode=True)
    if not (facts.width == decoded.width > 0 and decoded.num_frames_decoded):
        raise WrongResultError(f"{facts} {decoded}")
    return f"{decoded.num_frames_decoded} frames"


def _read(path: str) -> str:
    """All frames, and three of them by number, which must be the same."""
    from dualstream.video import VideoReader, read_video

    if _is_large(path):  # all of its frames may be honest, and fill any memory
        with VideoReader(path) as reader:
            return f"{len(reader.read([0, reader.num_frames - 1]).data)} frames, large"
    frames = read_video(path)
    if (np.diff(frames.pts_seconds) <= 0).any() or not np.isfinite(frames.pts_seconds).all():
        raise WrongResultError(f"times do not rise: {frames.pts_seconds[:20].tolist()}")
    with VideoReader(path) as reader:
        if reader.num_frames != len(frames.data):
            raise WrongResultError(f"{reader.num_frames} frames, {len(frames.data)} read")
        last = reader.num_frames - 1
        wanted = [last, 0, last // 2]
        some = reader.read(wanted)
    for number, image in zip(wanted, some.data, strict=True):
        if not np.array_equal(image, frames.data[number]):
            raise WrongResultError(f"frame {number} of {last + 1} differs when it is read alone")
    return f"{len(frames.data)} frames"


def _is_large(path: str) -> bool:
    from dualstream.video import probe

    facts = probe(path, decode=True)
    return facts.width * facts.height * (facts.num_frames_decoded or 1) > MOST_PIXELS


def _flow(path: str) -> str:
    from dualstream.flow.extract.job import FlowJob
    from dualstream.flow.extract.run import extract_flow
    from dualstream.flow.store.store import FlowStore

    if _is_large(path):
        return "left out"
    root = Path(path).parents[2] / "flow"
    (outcome,) = extract_flow([FlowJob("video.mp4", path)], root, short_side=32)
    if outcome.status == "failed":
        raise DualstreamError(outcome.error)
    with FlowStore(root).open("video.mp4") as file:
        file.verify()
        if file.num_fields != outcome.num_fields:
            raise WrongResultError(f"{outcome.num_fields} fields told, {file.num_fields} stored")
    return f"{outcome.num_fields} fields"


def _prepare(path: str) -> str:
    from dualstream.clips.data.manifest import Manifest
    from dualstream.clips.data.prepare import prepare

    folder = Path(path).parents[1]
    out = folder.parent / "manifest"
    for check in (False, True):
        prepare(folder, check=check).report().write(out)
        manifest = Manifest.read(out)
    return f"{manifest.records[0].frames} frames"


@functools.cache
def _predictor() -> Any:
    from dualstream.engine.infer.predictor import Predictor

    with tempfile.TemporaryDirectory() as folder:
        runs = [tiny_run(Path(folder) / name, name) for name in ("rgb", "flow")]
        return Predictor(runs, window_seconds=0.2, cuts="difference")


def _predict(path: str) -> str:
    if _is_large(path):
        return "left out"
    prediction = _predictor().predict(path)
    if not np.isfinite(prediction.window_probabilities).all():
        raise WrongResultError("probabilities are not finite")
    return f"{len(prediction.window_seconds)} windows"


STEPS_OF: dict[str, Callable[[str], str]] = {
    "probe": _probe,
    "read_video": _read,
    "flow": _flow,
    "prepare": _prepare,
    "predict": _predict,
}


def campaign(work: Path) -> tuple[Path, dict[str, bool]]:
    """Folder of the sound videos, and their names; they are written on the first call."""
    sources = work / "sources"
    return sources, write_sources(sources)


def child(work: Path, **options: Any) -> Child:
    """Child process of this campaign."""
    os.environ["OMP_NUM_THREADS"] = "1"
    return Child(f"{__name__}:try_video", log=work / "videos.log", **options)
