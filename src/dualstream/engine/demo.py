"""The whole chain on the synthetic data set: render, prepare, flow, train, test, fuse, report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.data.prepare import prepare
from dualstream.clips.data.synthetic import SyntheticSpec, render_synthetic
from dualstream.engine.pair import train_pair
from dualstream.engine.pair_recipe import load_pair
from dualstream.engine.train.run_folder import TrainProgress
from dualstream.errors import FlowError
from dualstream.flow import FlowJob, extract_flow
from dualstream.scores import Accuracy

SOURCE = (
    "Synthetic videos, 16 classes: what the sprite looks like x how it moves. 25% bound a single "
    "stream: it cannot see the other half of the class."
)
"""What the page says of the data."""

StageListener = Callable[[str, int, int, float | None], None]
"""Called with a stage ("render", "prepare", "flow", "train spatial", "test spatial", ...), what is
done of it, its total, and of training the loss."""


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
    finished one only writes its page again.

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
    # The two halves of a class count alike, and both streams learn from all training videos.
    settings = ["fusion.method=mean", "data.hold_out=0", f"train.seed={seed}", *overrides]
    recipe = load_pair("demo", settings).model_copy(
        update={"title": "dualstream demo: 4 looks x 4 motions", "source": SOURCE}
    )

    def tell(stage: str, progress: TrainProgress) -> None:
        done = progress.epoch * progress.batches + progress.batch
        listener(stage, done, progress.epochs * progress.batches, progress.train_loss)

    result = train_pair(recipe, data, folder / "runs", listener=tell)
    spatial, temporal, fused = (cast("Accuracy", one) for one in result.fused.accuracy.values())
    page = folder / "runs" / result.fused.files["report"].name  # as the caller names the folder
    return DemoResult(spatial, temporal, fused, page, seconds=time.monotonic() - started)


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
