"""Every kind of stream and way of joining two on J-HMDB split 1, on one budget.

    python benchmarks/streams.py JHMDB OUT            # all rows, then the table
    python benchmarks/streams.py JHMDB OUT ROW ...    # these rows, and the table of what there is
    python benchmarks/streams.py JHMDB OUT --table    # the table of what there is

JHMDB is a folder that `dualstream prepare` and `dualstream flow --direction both` have filled, with
flow of other kinds beside it (`dualstream flow JHMDB --warped --out JHMDB/warped`, and `--method
motion-vectors --out JHMDB/motion_vectors`). All rows have the same backbone (EfficientNet-Lite0),
size, epochs, batch and views. A fifth of the training videos is held out of the networks, in whole
source groups: weights, SVM and temperatures of fusions are fitted on those. Runs are kept in OUT; a
row that is there is not trained again, and of one that was stopped the time is that of the last
call. Set OMP_NUM_THREADS=1 for the times of one core.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path

import dualstream as ds
from dualstream.scores import fuse, make_fusion, read_scores, top_k_accuracy
from measure import FOLDER, versions, write_json

LITE0 = "efficientnet_lite0_imagenet"
BUDGET = (
    "clip.short_side=128",
    "clip.crop_size=112",
    "augment.crop=multi_scale",
    "augment.scales=[1.0, 0.875, 0.75, 0.66]",
    "data.hold_out=0.2",
    "data.workers=1",
    "data.class_balanced=false",
    "train.epochs=15",
    "train.batch_size=32",
    "train.segments=1",
    "train.schedule={name: cosine, warmup_epochs: 1}",
    "train.clip_norm=20",
    "train.label_smoothing=0.1",
    "train.ema_decay=0.98",
    "train.validate_every=5",
    "test={segments: 5, crops: center}",
)


def adamw(lr: float) -> str:
    """The optimiser of a row; rates are those of the shipped J-HMDB recipes where there is one."""
    return f"train.optimizer={{name: adamw, lr: {lr}, weight_decay: 0.05}}"


BACKBONE = "tf_efficientnet_lite0"
TSN = f"{{name: tsn, backbone: {BACKBONE}, dropout: 0.5}}"
TOWERS = f"towers: {{rgb: {TSN}, flow: {TSN}}}"
RGB_SCALE = ("inputs.rgb.mean=[0.498, 0.498, 0.498]", "inputs.rgb.std=[0.502, 0.502, 0.502]")
STACKS = (*RGB_SCALE, "inputs.flow={num_frames: 10, std: [3.0, 3.0]}")
IMAGENET = f"model.weights={{rgb: {LITE0}, flow: {LITE0}}}"
MOTION = "input.num_frames=11"
MOTION_TOWER = f"""base_channels: 32, temporal: tsn, flow_std: 3.0, dropout: 0.5, \
temporal_weights: {LITE0}"""


@dataclass(frozen=True)
class Row:
    """A network to train: a recipe and what differs from it."""

    recipe: str
    overrides: tuple[str, ...]
    flow: str | None = None
    """Folder of its flow beside the manifest, where that is not `flow`."""
    starts: dict[str, str] = field(default_factory=dict)
    """Stream (or "" for the network) -> row whose run it starts from."""
    has_scores: bool = True


ROWS = {
    "spatial, from scratch": Row("jhmdb_rgb", (adamw(2e-3), "model.weights=null")),
    "spatial, last layer": Row("jhmdb_rgb", (adamw(5e-3), "model.trainable=last_layer")),
    "spatial, fine-tuned": Row("jhmdb_rgb", (adamw(5e-4),)),
    "temporal, L = 1": Row("jhmdb_flow", (adamw(2e-3), "input.num_frames=1")),
    "temporal, L = 5": Row("jhmdb_flow", (adamw(2e-3), "input.num_frames=5")),
    "temporal, L = 10": Row("jhmdb_flow", (adamw(2e-3),)),
    "temporal, L = 10, mean subtracted": Row(
        "jhmdb_flow", (adamw(2e-3), "input.subtract_mean_flow=true")
    ),
    "temporal, trajectories": Row("jhmdb_flow", (adamw(2e-3), "input.stacking=trajectory")),
    "temporal, bi-directional": Row("jhmdb_flow", (adamw(2e-3), "input.stacking=bidirectional")),
    "temporal, warped flow": Row(
        "jhmdb_flow", (adamw(2e-3), "input.flow_method=warped-tvl1-fast"), flow="warped"
    ),
    "temporal, motion vectors": Row(
        "jhmdb_flow", (adamw(2e-3), "input.flow_method=motion-vectors"), flow="motion_vectors"
    ),
    "RGB difference": Row(
        "jhmdb_rgb",
        (
            adamw(2e-3),
            "input.modality=rgb_diff",
            "input.num_frames=5",
            "input.std=[0.226, 0.226, 0.226]",
        ),
    ),
    "MotionNet": Row(
        "motionnet",
        (
            *("train.optimizer={name: adamw, lr: 0.001, weight_decay: 0.0004}", MOTION),
            *("model.options={base_channels: 32}", "clip.crop_size=64", "train.ema_decay=0"),
            *("train.batch_size=8", "train.label_smoothing=0"),
        ),
        has_scores=False,
    ),
    "temporal, MotionNet's flow": Row(
        "hidden_two_stream",
        (
            *(adamw(2e-3), MOTION, "clip.short_side=144", "clip.crop_size=128"),
            f"model.options={{{MOTION_TOWER}, temporal_options: {{backbone: {BACKBONE}}}}}",
        ),
        starts={"": "MotionNet"},
    ),
    "conv fusion, sum": Row(
        "conv_fusion",
        (
            *(adamw(5e-4), *STACKS, "model.trainable=all"),
            f"model.options={{{TOWERS}, after: backbone.bn2, fusion: sum}}",
        ),
        starts={"rgb": "spatial, fine-tuned", "flow": "temporal, L = 10"},
    ),
    "conv fusion, conv": Row(
        "conv_fusion",
        (
            *(adamw(5e-4), *STACKS, "model.trainable=all"),
            f"model.options={{{TOWERS}, after: backbone.bn2, fusion: conv}}",
        ),
        starts={"rgb": "spatial, fine-tuned", "flow": "temporal, L = 10"},
    ),
    "joint training": Row(
        "two_stream_rgb_flow",
        (adamw(1e-3), *STACKS, IMAGENET, f"model.options={{{TOWERS}}}"),
    ),
    "cross attention, two phases": Row(
        "cross_attention",
        (
            *(adamw(1e-3), *STACKS, IMAGENET),
            f"model.options={{backbone: {BACKBONE}, dropout: 0.5}}",
            "train.ema_decay=0",
            "train.attention={schedule: two_phase, constant_epochs: 8, network_epochs: 3}",
        ),
    ),
}

PAIR = ("spatial, fine-tuned", "temporal, L = 10")
FUSIONS = ("mean", "weighted", "product", "svm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jhmdb", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("rows", nargs="*", help=", ".join(ROWS))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown:
        parser.error(f"no row {unknown[0]!r}; there are: {'; '.join(ROWS)}")
    if not options.table:
        for name in options.rows or ROWS:
            made(name, options.jhmdb, options.out)
    results = table(options.out)
    if set(ROWS) <= set(results):
        write_json(
            FOLDER / "results" / "streams.json",
            seconds={name: [row["cpu_s"]] for name, row in results.items() if "cpu_s" in row},
            settings={"budget": BUDGET, "clock": "CPU time of training and tests"},
            results=results,
            packages=versions("torch", "timm", "dualstream"),
        )


def folder_of(out: Path, name: str) -> Path:
    """Run folder of a row."""
    return out / "".join(c if c.isalnum() else "_" for c in name).strip("_")


def made(name: str, data: Path, out: Path) -> None:
    """Train, test and score the held-out videos of a row, unless that is done."""
    row, run = ROWS[name], folder_of(out, name)
    if (run / "cost.json").is_file():
        return
    starts = {stream: str(folder_of(out, start)) for stream, start in row.starts.items()}
    overrides = [*BUDGET, *row.overrides]
    if starts:
        overrides.append(f"model.weights={starts.get('') or json.dumps(starts)}")
    recipe = ds.load_recipe(row.recipe, overrides)
    begin, wall = cpu_seconds(), time.monotonic()
    store = data / row.flow if row.flow else None
    if run.is_dir():
        ds.resume(run)
    else:
        ds.train(recipe, data, run, flow=store)
    if row.has_scores:
        for part in ("test", "held_out"):
            ds.evaluate(run, part=part, flow=store, workers=1)
    cost = {"cpu_s": cpu_seconds() - begin, "wall_s": time.monotonic() - wall}
    (run / "cost.json").write_text(json.dumps(cost))
    print(f"{name}: {cost['cpu_s']:.0f} s of CPU, {cost['wall_s']:.0f} s", flush=True)


def cpu_seconds() -> float:
    """CPU time of this process and of those that it has started and that are over."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def interval(share: float, count: int) -> tuple[float, float]:
    """95% interval of a share of `count` videos (Wilson 1927)."""
    z2 = 1.959964**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(z2 * (share * (1 - share) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    return centre - half, centre + half


def table(out: Path) -> dict[str, dict[str, float]]:
    """Print the rows that are there, and the fusions of the plain pair; return their figures."""
    scores = {
        name: tuple(
            read_scores(folder_of(out, name) / file)
            for file in ("scores.npz", "scores_held_out.npz")
        )
        for name, row in ROWS.items()
        if row.has_scores and (folder_of(out, name) / "cost.json").is_file()
    }
    results: dict[str, dict[str, float]] = {}
    print("\n| stream or fusion | top-1 | 95% | held out | CPU min |\n|---|---|---|---|---|")
    for name, row in ROWS.items():
        cost = folder_of(out, name) / "cost.json"
        if cost.is_file():
            results[name] = {"cpu_s": json.loads(cost.read_text())["cpu_s"]}
        if name in scores:
            test, held_out = scores[name]
            results[name] |= {
                "top1": top_k_accuracy(test),
                "held_out": top_k_accuracy(held_out),
                "videos": len(test),
            }
            print(line(name, results[name]))
        elif cost.is_file() and not row.has_scores:
            print(f"| {name} |  |  |  | {results[name]['cpu_s'] / 60:.1f} |")
    if all(name in scores for name in PAIR):
        test, held_out = ([scores[name][part] for name in PAIR] for part in (0, 1))
        for method in FUSIONS:
            fit_on = held_out if method in ("weighted", "svm") else None
            fused = fuse(test, method=method, fit_on=fit_on)
            name = f"{' + '.join(PAIR)}: {make_fusion(test, method=method, fit_on=fit_on)}"
            results[name] = {"top1": top_k_accuracy(fused), "videos": len(fused)}
            print(line(name, results[name]))
    return results


def line(name: str, row: dict[str, float]) -> str:
    """A row of the table in Markdown."""
    low, high = interval(row["top1"], int(row["videos"]))
    held_out = f"{100 * row['held_out']:.1f}" if "held_out" in row else ""
    minutes = f"{row['cpu_s'] / 60:.1f}" if "cpu_s" in row else ""
    return (
        f"| {name} | {100 * row['top1']:.1f} | {100 * low:.1f} to {100 * high:.1f} "
        f"| {held_out} | {minutes} |"
    )


if __name__ == "__main__":
    main()
