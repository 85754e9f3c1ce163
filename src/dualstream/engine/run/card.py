"""Model card of a run: what it sees, what it knows, how it was made, how good it is, how to use it.

Source:
    huggingface.co/docs/hub/model-cards: a README.md with metadata in YAML at its top.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dualstream.engine.pair_recipe import PAIR_FILE, load_pair
from dualstream.engine.recipe import Recipe
from dualstream.engine.run.info import RunInfo, read_metrics, read_run

MOST_CLASSES = 60
"""Names in a card; of more only the number stands there."""

TAGS = ("action-recognition", "video-classification", "two-stream")

MEASURES = {"top1": "top-1", "top5": "top-5", "mean_class": "mean class"}
"""Entries of metrics.json -> what people call them."""

PARTS = {"test": "test videos", "held_out": "held-out training videos", "train": "training videos"}


def model_card(root: Path, repository: str, *, license: str | None = None) -> str:
    """Return the README.md of a run, of one network or of several streams.

    Args:
        root: run folder.
        repository: OWNER/NAME, for the commands in it.
        license: as the Hub names it; None leaves it out.

    Raises:
        CheckpointError: no run folder.
    """
    if (root / PAIR_FILE).is_file():
        pair = load_pair(root / PAIR_FILE)
        title, source = pair.title, pair.source
        runs = {stream: root / stream for stream in pair.streams}
    else:
        recipe, _, _ = read_run(root)
        title, source, runs = recipe.title, recipe.source, {"": root}
    _, classes, info = read_run(next(iter(runs.values())))
    lines = [_metadata(runs, repository, license, data=folder_name(info.manifest)), ""]
    lines += [f"# {title or repository.split('/')[-1]}", ""]
    lines += [f"Recognises {len(classes)} classes of action in video. Made with dualstream"]
    lines += [f"{info.version}{f'; settings follow {source}' if source else ''}.", ""]
    if len(classes) <= MOST_CLASSES:
        lines += [f"Classes: {', '.join(classes)}.", ""]
    lines += ["## Use", "", "```console", "$ pip install dualstream"]
    lines += [f"$ dualstream predict VIDEO --checkpoint hf://{repository}", "```", ""]
    lines += ["```python", "import dualstream as ds", ""]
    lines += [f'result = ds.predict("a.mp4", "hf://{repository}")', "result.top(5)", "```", ""]
    for stream, folder in runs.items():
        recipe, _, info = read_run(folder)
        lines += [f"## Stream {stream}" if stream else "## Network", ""]
        lines += [*_network(recipe, info), ""]
        if rows := list(_measured(read_metrics(folder))):
            lines += ["| videos | " + " | ".join(MEASURES.values()) + " | number |"]
            lines += ["|---" * (len(MEASURES) + 2) + "|", *rows, ""]
    return "\n".join(lines)


def _metadata(runs: Mapping[str, Path], repository: str, license: str | None, *, data: str) -> str:
    """The YAML at the top, between its lines of dashes."""
    from huggingface_hub import EvalResult, ModelCardData

    results = []
    for stream, folder in runs.items():
        measured = read_metrics(folder).get("test", {})
        results += [
            EvalResult(
                task_type="video-classification",
                dataset_type=data,
                dataset_name=data,
                dataset_config=stream or None,
                dataset_split="test",
                metric_type="accuracy",
                metric_name=name,
                metric_value=round(measured[key], 4),
            )
            for key, name in MEASURES.items()
            if measured.get(key) is not None
        ]
    facts = ModelCardData(
        library_name="dualstream",
        pipeline_tag="video-classification",
        tags=list(TAGS),
        license=license,
        model_name=repository.split("/")[-1] if results else None,
        eval_results=results or None,
    )
    return f"---\n{facts.to_yaml().strip()}\n---"


def _network(recipe: Recipe, info: RunInfo) -> Iterator[str]:
    """Lines of a list: network, inputs, training."""
    spec, train = recipe.test_spec(), recipe.train
    options = ", ".join(f"{name} {value}" for name, value in recipe.model.options.items())
    yield f"- network: `{recipe.model.name}`{f' ({options})' if options else ''}"
    for name, stream in spec.streams.items():
        flow = ""
        if stream.is_flow:
            side = stream.flow_short_side
            flow = f", {stream.flow_method}, bound {stream.flow_bound_px:g} px"
            flow += f", on a grid of {side} px" if side else ""
        rate = f" at {spec.fps:g} frames a second" if spec.fps else ""
        yield (
            f"- input `{name}`: {stream.modality}, {stream.num_frames} of every "
            f"{stream.frame_stride}. step{rate}, {spec.crop_size} px of {spec.short_side}{flow}"
        )
    yield (
        f"- training: {train.epochs} epochs, batch {train.batch_size}, {train.optimizer.name}, "
        f"learning rate {train.optimizer.lr:g}, seed {info.seed}; all of it in `recipe.yaml`"
    )
    weights = recipe.model.weights
    if weights:
        yield f"- start: {weights if isinstance(weights, str) else dict(weights)}"
    yield f"- data: {folder_name(info.manifest)} (manifest {info.manifest_sha256[:12]})"
    if info.git_commit:
        yield f"- commit of the code: {info.git_commit[:12]}"


def _measured(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Rows of a table: part of the data, its measures in percent, number of videos."""
    for part, name in PARTS.items():
        found = metrics.get(part)
        if not isinstance(found, Mapping):
            continue
        shares = [found.get(measure) for measure in MEASURES]
        cells = ["" if share is None else f"{100 * share:.1f}" for share in shares]
        yield f"| {name} | {' | '.join(cells)} | {found.get('videos', '')} |"


def folder_name(path: str) -> str:
    """Return the last part of a path of whatever system."""
    return path.replace("\\", "/").rstrip("/").split("/")[-1]
