"""The whole chain on the synthetic data set: render, prepare, flow, train, test, fuse, report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.data.prepare import prepare
from dualstream.clips.data.synthetic import SyntheticSpec, render_synthetic
from dualstream.engine.infer.evaluate import evaluate
from dualstream.engine.recipe import load_recipe
from dualstream.engine.train.fit import resume, train
from dualstream.engine.train.run_folder import TrainProgress
from dualstream.errors import FlowError
from dualstream.flow import FlowJob, extract_flow
from dualstream.report import example_figures, write_report
from dualstream.scores import Accuracy, fuse, measure, write_scores
from dualstream.types import Scores
from dualstream.version import __version__

STREAMS = {"spatial": "demo_rgb", "temporal": "demo_flow"}
"""Stream -> recipe."""

Stage = Literal["render", "prepare", "flow", "train spatial", "train temporal", "test", "report"]
StageListener = Callable[[Stage, int, int, float | None], None]
"""Called with a stage, what is done of it, its total, and of training the loss."""


@dataclass(frozen=True)
class DemoResult:
    """Accuracies of the demo, and its page."""

    spatial: Accuracy
    temporal: Accuracy
    fused: Accuracy
    page: Path
    seconds: float
    """Of this call; one that goes on with an earlier one counts only what it did."""


def run_demo(
    out: str | os.PathLike[str],
    *,
    spec: SyntheticSpec | None = None,
    seed: int = 0,
    overrides: Iterable[str] = (),
    workers: int = 2,
    listener: StageListener = lambda *_: None,
) -> DemoResult:
    """Run or go on with the demo in a folder.

    Every stage keeps what an earlier call finished, so that a stopped demo goes on and a
    finished one only tests again.

    Args:
        out: folder for videos, flow, runs and page.
        spec: data set; default is the synthetic set of 16 classes.
        seed: of data set and training.
        overrides: changes of both recipes, `section.key=value`.
        workers: processes that render, decode and compute flow.
        listener: told how each stage proceeds.

    Raises:
        InputError: the folder holds a demo of other settings.
    """
    started = time.monotonic()
    folder = Path(out)
    data = make_data(folder, spec or SyntheticSpec(seed=seed), workers=workers, listener=listener)
    streams: dict[str, Scores] = {}

    def tell_test(done: int, total: int) -> None:
        listener("test", len(streams) * total + done, len(STREAMS) * total, None)

    for stream, recipe in STREAMS.items():
        run = folder / "runs" / stream
        _train(recipe, data, run, [f"train.seed={seed}", *overrides], listener, stream)
        streams[stream] = evaluate(run, workers=workers, listener=tell_test).scores
    fused = fuse(list(streams.values()), method="mean")
    write_scores(folder / "fused.npz", fused)
    listener("report", 0, 1, None)
    page = folder / "report.html"
    write_report(
        page,
        title="dualstream demo: 4 looks x 4 motions",
        streams=streams,
        fused=fused,
        samples=example_figures(Manifest.read(data), streams, fused),
        facts={
            "data": "synthetic videos, 16 classes: what the sprite looks like x how it moves",
            "bound of a single stream": "25%: it cannot see the other half of the class",
            "fusion": "mean of the probabilities of both streams",
            "recipes": ", ".join(STREAMS.values()),
            "seed": str(seed),
            "dualstream": __version__,
        },
    )
    listener("report", 1, 1, None)
    accuracies = {name: measure(one) for name, one in {**streams, "fused": fused}.items()}
    return DemoResult(**accuracies, page=page, seconds=time.monotonic() - started)


def make_data(
    folder: Path,
    spec: SyntheticSpec,
    *,
    workers: int,
    listener: StageListener = lambda *_: None,
) -> Path:
    """Render, check and list the synthetic videos, and compute their flow.

    Returns:
        Folder of the manifest, with the flow store in it.

    Raises:
        InputError: the folder holds videos of another spec.
        FlowError: the flow of a video cannot be computed.
    """
    videos, data = folder / "synthetic", folder / "data"
    total = spec.num_looks * spec.num_motions * spec.videos_per_class
    for done, _ in enumerate(render_synthetic(videos, spec, workers=workers), start=1):
        listener("render", done, total, None)
    data.mkdir(parents=True, exist_ok=True)
    preparation = prepare(videos, workers=workers, journal=data / "checked.jsonl")
    for done, _ in enumerate(preparation, start=1):
        listener("prepare", done, len(preparation), None)
    preparation.report().write(data)
    manifest = Manifest.read(data)
    jobs = [FlowJob(r.path, str(manifest.video_path(r)), r.sha256) for r in manifest.records]
    outcomes = extract_flow(jobs, data / "flow", workers=workers)
    for done, outcome in enumerate(outcomes, start=1):
        if outcome.status == "failed":
            raise FlowError(f"{outcome.name}: {outcome.error}")
        listener("flow", done, len(jobs), None)
    return data


def _train(
    recipe: str, data: Path, run: Path, overrides: list[str], tell: StageListener, stream: str
) -> None:
    stage: Stage = "train spatial" if stream == "spatial" else "train temporal"

    def listener(progress: TrainProgress) -> None:
        done = progress.epoch * progress.batches + progress.batch
        tell(stage, done, progress.epochs * progress.batches, progress.train_loss)

    if (run / "recipe.yaml").is_file():
        resume(run, listener=listener)
    else:
        train(load_recipe(recipe, overrides), data, run, listener=listener)
