"""A sound folder of each kind of files other than videos, for the campaign that damages them."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from .tiny import tiny_recipe, tiny_run, tiny_videos

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
        "annotations/events.csv": "Observation id,Media file name,Subject,Behavior,Behavior type,"
        "Start (s),Stop (s)\none,right/right_0.mp4,,right,STATE,0.0,0.2\n"
        "one,right/right_0.mp4,,right,STATE,0.3,0.4\ntwo,down/down_0.mp4,,down,STATE,0.2,0.4\n"
    },
    "elan": {
        "annotations/one.txt": "Tier\tBegin Time - msec\tEnd Time - msec\taction\tFile Name\n"
        "a\t0\t200\tright\tright_0.eaf\na\t200\t400\tdown\tdown_0.eaf\n"
    },
}
"""Form of annotations -> its files."""


def write_sources(folder: Path) -> Path:
    """Write a sound folder of each kind; those that are there stay."""
    if (folder / "done").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    write_small(folder)
    _write_runs(folder)
    (folder / "done").touch()
    return folder


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
