"""Damaged files of every other kind through what reads them."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .children import Child, WrongResultError
from .containers import digest
from .sound_files import ANNOTATIONS
from .texts import damage
from .videos import MEMORY


@dataclass(frozen=True)
class Kind:
    """A kind of files: which of them are damaged, and what reads them."""

    folder: str
    """Sound files, below the sources."""
    files: tuple[str, ...]
    """Those that are damaged, one at a time."""
    read: Callable[[Path], str]
    """Reads the folder with the damaged file."""


def _scores(folder: Path) -> str:
    from dualstream.scores import read_scores

    (path,) = folder.iterdir()
    scores = read_scores(path)
    if not np.isfinite(scores.scores).all():
        raise WrongResultError("scores that are not finite were read")
    return f"{len(scores.names)} videos"


def _fusion(folder: Path) -> str:
    from dualstream.scores import Fusion

    return str(Fusion.load(folder / "fusion.json"))


def _run(folder: Path) -> str:
    from dualstream.engine.infer.predictor import Predictor
    from dualstream.engine.run.checkpoint import load_checkpoint
    from dualstream.engine.run.info import read_metrics
    from dualstream.video import FrameArray

    checkpoint = load_checkpoint(folder)
    read_metrics(folder)
    images = np.zeros((6, 48, 64, 3), np.uint8)
    Predictor(checkpoint).predict(FrameArray(images, fps=25))
    return checkpoint.model.name


def _resume(folder: Path) -> str:
    from dualstream.engine.train.fit import resume

    return type(resume(folder)).__name__


def _recipe(folder: Path) -> str:
    from dualstream.engine.recipe import dump_recipe, load_recipe

    recipe = load_recipe(folder / "recipe.yaml")
    dump_recipe(recipe)
    recipe.clip_spec()
    recipe.test_spec()
    return recipe.model.name


def _pair(folder: Path) -> str:
    from dualstream.engine.pair_recipe import load_pair

    load_pair(folder / "pair.yaml")
    return "pair"


def _prepare(folder: Path) -> str:
    from dualstream.clips.data.manifest import Manifest
    from dualstream.clips.data.prepare import prepare

    journal = folder / "checked.jsonl"
    preparation = prepare(folder / "data", check=False, journal=journal)
    preparation.report().write(folder / "out")
    return f"{len(Manifest.read(folder / 'out'))} rows"


def _manifest(folder: Path) -> str:
    from dualstream.cli.flow import find_jobs
    from dualstream.clips.data.manifest import Manifest

    manifest = Manifest.read(folder)
    manifest.write(folder / "again")
    if Manifest.read(folder / "again").records != manifest.records:
        raise WrongResultError("a manifest is read otherwise once it was written again")
    find_jobs(folder, None)
    return f"{len(manifest)} rows"


def _flow(folder: Path) -> str:
    from dualstream.flow.store.store import FlowStore

    with FlowStore(folder).open("video.mp4") as file:
        file.verify()
        file.read(range(file.num_fields))
    return f"{file.num_fields} fields"


def _flow_folder(folder: Path) -> str:
    from dualstream.flow.store.store import FlowStore

    file = FlowStore(folder).open("video.mp4")
    file.read(range(file.num_fields))
    return f"{file.num_fields} fields"


def _exported(folder: Path) -> str:
    from dualstream.deploy.runtime import open_exported
    from dualstream.engine.infer.predictor import Predictor
    from dualstream.video import FrameArray

    (path,) = folder.iterdir()
    images = np.zeros((6, 48, 64, 3), np.uint8)
    Predictor(open_exported(path)).predict(FrameArray(images, fps=25))
    return "ran"


def _journal(folder: Path) -> str:
    from dualstream.engine.infer.journal import open_journal
    from dualstream.report.prediction_files import write_parquet

    settings = json.loads((folder / "settings").read_text())
    path = folder / "a.jsonl"
    for retry in (False, True):
        with open_journal(path, settings, retry_failed=retry) as journal:
            write_parquet(folder / "a.parquet", journal.entries(), content="predictions")
    return f"{len(journal.kept)} lines"


RUN_FILES = ("model.safetensors", "recipe.yaml", "classes.txt", "run.json", "metrics.json")

KINDS: dict[str, Kind] = {
    "scores .npz": Kind("scores", ("a.npz",), _scores),
    "scores of MMAction2": Kind("scores_pkl", ("a.pkl",), _scores),
    "scores of TSN": Kind("scores_tsn", ("a.npz",), _scores),
    "fitted fusion": Kind("fusion", ("fusion.json",), _fusion),
    "run folder": Kind("run", RUN_FILES, _run),
    "trainer state": Kind("stopped", ("trainer.ckpt", "run.json"), _resume),
    "recipe": Kind("recipe", ("recipe.yaml",), _recipe),
    "recipe of a pair": Kind("pair", ("pair.yaml",), _pair),
    "manifest": Kind("manifest", ("manifest.csv", "classes.txt", "dataset.yaml"), _manifest),
    "journal of checks": Kind("checked", ("checked.jsonl",), _prepare),
    "flow store": Kind("flow", ("video.mp4.zip",), _flow),
    "flow images": Kind("images", ("video/meta.json", "video/flow_x_00001.jpg"), _flow_folder),
    "exported .onnx": Kind("onnx", ("a.onnx",), _exported),
    "exported .pt2": Kind("pt2", ("a.pt2",), _exported),
    "prediction journal": Kind("journal", ("a.jsonl", "a.settings.json"), _journal),
    **{
        f"annotations: {name}": Kind(name, tuple(f"data/{file}" for file in files), _prepare)
        for name, files in ANNOTATIONS.items()
    },
}

SELDOM = frozenset({"trainer state", "exported .pt2"})
"""Kinds that take seconds each; a quarter as many as of the others."""


SMALL = frozenset(KINDS) - {"run folder", "exported .onnx", "recipe", "recipe of a pair", *SELDOM}
"""Kinds that need no network."""


def kind_of(seed: int) -> str:
    """Kind of the file of one seed."""
    return _drawn(seed)[0]


def _drawn(seed: int) -> tuple[str, str]:
    """Kind and name of the file of one seed."""
    rng = random.Random(f"file {seed}")
    kind = rng.choice(sorted(KINDS))
    if kind in SELDOM and rng.random() < 0.75:
        kind = "recipe"
    return kind, rng.choice(KINDS[kind].files)


def damaged(seed: int, sources: Path) -> tuple[str, str, bytes, list[str]]:
    """Make the file of one seed: its kind, name, bytes, and what was done to it."""
    kind, name = _drawn(seed)
    data, done = damage(name, (sources / KINDS[kind].folder / name).read_bytes(), seed)
    return kind, name, data, done


def record_of(seed: int, sources: Path, child: Child) -> dict[str, Any]:
    """Put the file of one seed through a child; the record of what became of it."""
    kind, name, data, done = damaged(seed, sources)
    record = {"kind": kind, "file": name, "sha": digest(data), "done": done}
    with tempfile.TemporaryDirectory(dir=MEMORY) as work:
        folder = Path(work) / "files"
        shutil.copytree(sources / KINDS[kind].folder, folder)
        (folder / name).write_bytes(data)
        answer = child.ask((kind, str(folder)))
    record |= {"seconds": round(answer.seconds, 3), "mib": answer.peak_bytes >> 20}
    record["verdict"] = answer.verdict
    record["detail"] = str(answer.detail)[:600]
    return record


@functools.cache
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def try_file(case: tuple[str, str]) -> str:
    """Read one damaged folder, in a child."""
    _one_thread()
    kind, folder = case
    return KINDS[kind].read(Path(folder))


def child(work: Path, **options: Any) -> Child:
    """Child process of this campaign."""
    os.environ["OMP_NUM_THREADS"] = "1"
    return Child(f"{__name__}:try_file", log=work / "files.log", **options)
