"""Damaged files of every other kind through what reads them."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pickle
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
from .texts import damage
from .tiny import tiny_recipe, tiny_run, tiny_videos
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


ANNOTATIONS = {
    "ucf101": {
        "splits/classInd.txt": "1 right\n2 down\n",
        "splits/trainlist01.txt": "right/right_0.mp4 1\ndown/down_0.mp4 2\n",
        "splits/testlist01.txt": "right/right_1.mp4\ndown/down_1.mp4\n",
    },
    "hmdb51": {
        "splits/right_test_split1.txt": "right_0.mp4 1\nright_1.mp4 2\n",
        "splits/down_test_split1.txt": "down_0.mp4 1\ndown_1.mp4 2\n",
    },
    "kinetics": {
        "annotations/train.csv": "label,youtube_id,time_start,time_end,split\n"
        "right,right_0,0,1,train\ndown,down_0,0,1,train\n"
    },
    "something": {
        "annotations/something-something-v2-train.json": '[{"id": "right_0", "label": "right", '
        '"template": "right"}, {"id": "down_0", "label": "down", "template": "down"}]',
        "annotations/something-something-v2-labels.json": '{"right": "0", "down": "1"}',
    },
    "list": {"splits/train.txt": "right/right_0.mp4 12 0\ndown/down_0.mp4 12 1\n"},
    "intervals": {
        "annotations/intervals.csv": "path,start_seconds,end_seconds,label\n"
        "right/right_0.mp4,0,0.2,right\ndown/down_0.mp4,0.1,0.3,down\n"
    },
    "boris": {
        "annotations/project.boris": json.dumps(
            {
                "time_format": "hh:mm:ss",
                "project_format_version": "7.0",
                "project_name": "x",
                "observations": {
                    "one": {
                        "file": {"1": ["right/right_0.mp4"]},
                        "type": "MEDIA",
                        "events": [
                            [0.0, "", "right", "", ""],
                            [0.2, "", "right", "", ""],
                            [0.2, "", "down", "", ""],
                            [0.4, "", "down", "", ""],
                        ],
                        "media_info": {"length": {"right/right_0.mp4": 0.48}},
                    }
                },
                "behaviors_conf": {
                    "0": {"type": "State event", "code": "right"},
                    "1": {"type": "State event", "code": "down"},
                },
            },
            indent=1,
        )
    },
    "elan": {
        "annotations/one.eaf": '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ANNOTATION_DOCUMENT FORMAT="3.0" VERSION="3.0">\n'
        '<HEADER TIME_UNITS="milliseconds">'
        '<MEDIA_DESCRIPTOR MEDIA_URL="file:///x/right_0.mp4" MIME_TYPE="video/mp4" '
        'RELATIVE_MEDIA_URL="./right_0.mp4"/></HEADER>\n'
        '<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="0"/>\n'
        '<TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="200"/>\n'
        '<TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="400"/></TIME_ORDER>\n'
        '<TIER LINGUISTIC_TYPE_REF="t" TIER_ID="action">\n'
        '<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" '
        'TIME_SLOT_REF2="ts2"><ANNOTATION_VALUE>right</ANNOTATION_VALUE>'
        "</ALIGNABLE_ANNOTATION></ANNOTATION>\n"
        '<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2" '
        'TIME_SLOT_REF2="ts3"><ANNOTATION_VALUE>down</ANNOTATION_VALUE>'
        "</ALIGNABLE_ANNOTATION></ANNOTATION>\n</TIER>\n"
        '<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="t" TIME_ALIGNABLE="true"/>\n</ANNOTATION_DOCUMENT>\n'
    },
}
"""Form of annotations -> its files."""

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


def write_sources(folder: Path) -> Path:
    """Write a sound folder of each kind; those that are there stay."""
    if (folder / "done").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    write_small(folder)
    _write_runs(folder)
    (folder / "done").touch()
    return folder


SMALL = frozenset(KINDS) - {"run folder", "exported .onnx", "recipe", "recipe of a pair", *SELDOM}
"""Kinds that need no network."""


def write_small(folder: Path) -> None:
    """Write sound folders of the kinds that need no network."""
    _write_scores(folder)
    _write_data(folder)


def _write_scores(folder: Path) -> None:
    from dualstream.scores import Fusion, write_scores
    from dualstream.types import Scores

    rng = np.random.default_rng(0)
    for name in ("scores", "scores_pkl", "scores_tsn", "fusion"):
        (folder / name).mkdir(parents=True)
    table = rng.normal(size=(9, 4)).astype(np.float32)
    labels = np.arange(9) % 4
    names = tuple(f"v{i}.mp4" for i in range(9))
    scores = Scores(names, labels, table, ("a", "b", "c", "d"), "logits")
    write_scores(folder / "scores" / "a.npz", scores)
    rows = [{"pred_score": row, "gt_label": int(n)} for row, n in zip(table, labels, strict=True)]
    (folder / "scores_pkl" / "a.pkl").write_bytes(pickle.dumps(rows))
    pairs = np.empty((9, 2), object)
    for i, row in enumerate(table):
        pairs[i] = [row[None, None], int(labels[i])]
    np.savez(folder / "scores_tsn" / "a.npz", scores=pairs, labels=labels)
    Fusion("mean", 2).save(folder / "fusion" / "fusion.json")


def _write_data(folder: Path) -> None:
    from dualstream.clips.data.prepare import prepare
    from dualstream.flow.extract.job import FlowJob
    from dualstream.flow.extract.run import extract_flow

    tiny_videos(folder / "data", per_class=2)
    videos = folder / "data" / "videos"
    for name, files in ANNOTATIONS.items():
        for file, text in files.items():
            path = folder / name / "data" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        shutil.copytree(videos, folder / name / "data" / "videos")
    shutil.copytree(folder / "data", folder / "checked" / "data")
    journal = folder / "checked" / "checked.jsonl"
    report = prepare(folder / "checked" / "data", journal=journal).report()
    report.write(folder / "manifest")
    job = FlowJob("video.mp4", str(videos / "right" / "right_0.mp4"))
    for name, layout in (("flow", "store"), ("images", "folders")):
        list(extract_flow([job], folder / name, layout=layout))
    entry = {
        "source": "a.mp4",
        "classes": [{"name": "right", "probability": 0.5}],
        "windows": [],
        "segments": [],
    }
    settings = {"networks": ["a"], "top": 5}
    (folder / "journal").mkdir()
    (folder / "journal" / "settings").write_text(json.dumps(settings))
    lines = [entry, {"source": "b.mp4", "error": "broken"}, {**entry, "source": "c.mp4"}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "journal" / "a.jsonl").write_text(text)
    (folder / "journal" / "a.settings.json").write_text(
        json.dumps({"version": "x", "settings": settings}, indent=1)
    )


class _StoppedError(Exception):
    pass


def _write_runs(folder: Path) -> None:
    from dualstream.clips.data.prepare import prepare, split_by_source
    from dualstream.deploy.export import export
    from dualstream.engine.recipe import dump_recipe
    from dualstream.engine.train.fit import train

    tiny_run(folder / "run", "rgb")
    (folder / "run" / "metrics.json").write_text('{"test_top1": 0.5}\n')
    for name in ("recipe", "pair"):
        (folder / name).mkdir()
    (folder / "recipe" / "recipe.yaml").write_text(dump_recipe(tiny_recipe("flow")))
    import dualstream.recipes.pairs as pairs

    shutil.copy(Path(pairs.__path__[0]) / "demo.yaml", folder / "pair" / "pair.yaml")
    manifest = prepare(folder / "data").report().manifest
    split_by_source(manifest, test_fraction=0.5).write(folder / "trained")

    def stop(progress: Any) -> None:
        if progress.epoch == 1:
            raise _StoppedError

    recipe = tiny_recipe("rgb", epochs=2)
    with contextlib.suppress(_StoppedError):
        train(recipe, folder / "trained", folder / "stopped", listener=stop)
    for suffix, format_name in ((".onnx", "onnx"), (".pt2", "torch-export")):
        (folder / suffix[1:]).mkdir()
        export(folder / "run", folder / suffix[1:] / f"a{suffix}", format=format_name)


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
