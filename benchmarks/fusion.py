"""The fitted fusion beside the better stream and the mean, on J-HMDB and the synthetic set.

    python benchmarks/fusion.py JHMDB SYNTHETIC OUT

JHMDB and SYNTHETIC are folders that `dualstream prepare` and `dualstream flow` have filled (that of
the demo is DEMO/data). Streams small enough for minutes on one core are trained with a fifth of
the training videos held out; score files that are in OUT already are kept. Each pair is then fused
as `dualstream fuse` does by default: weights and temperatures are fitted on the held-out training
videos, never on test.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

import dualstream as ds
from dualstream.scores import fuse, make_fusion, probabilities, read_scores, top_k_accuracy
from dualstream.types import Scores

COMMON = ["data.hold_out=0.2", "data.workers=1", "train.accelerator=cpu"]
COMMON += ["test.crops=center", "test.segments=3"]
FROZEN = ["model.trainable=last_layer", "train.ema_decay=0", "train.optimizer.lr=0.003"]
FROZEN += ["train.epochs=8", "input.short_side=112", "input.crop_size=96"]
STREAMS = {
    "rgb": ("jhmdb_rgb", FROZEN),
    "flow": ("jhmdb_flow", ["input.short_side=94", "input.crop_size=80", "train.epochs=12"]),
    "weak_rgb": ("demo_rgb", ["train.epochs=6"]),
    "weak_flow": ("jhmdb_flow", FROZEN),
    "spatial": ("demo_rgb", []),
    "temporal": ("demo_flow", []),
}
"""Stream -> recipe and its changes: ImageNet features of frames and a linear classifier, a network
trained on flow, a small one trained on frames from random weights, ImageNet features of flow."""

LEGS = ("climb_stairs", "jump", "kick_ball", "run", "sit", "stand", "walk")
"""First of two classes made of the 21: the legs do it; in the other the arms do."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jhmdb", type=Path)
    parser.add_argument("synthetic", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    print(f"{'data set':34} {'test':>5} {'fit on':>6}  first  second  better  mean  fitted  fusion")
    for split in (1, 2, 3):
        scores = {
            name: trained(name, options.jhmdb, options.out / f"{name}_{split}", split=split)
            for name in ("rgb", "flow", "weak_rgb", "weak_flow")
        }
        for title, first, second in (
            ("J-HMDB", "rgb", "flow"),
            ("J-HMDB, weak flow", "rgb", "weak_flow"),
            ("J-HMDB, weak RGB", "weak_rgb", "flow"),
        ):
            row(f"{title}, split {split}", scores[first], scores[second])
            halves = [tuple(map(in_two, scores[name])) for name in (first, second)]
            row(f"{title}, two classes, split {split}", *halves)
    pair = [
        trained(name, options.synthetic, options.out / name, split=1)
        for name in ("spatial", "temporal")
    ]
    row("synthetic, both equal", *pair)


def trained(name: str, data: Path, run: Path, *, split: int) -> tuple[Scores, Scores]:
    """Scores of the test and of the held-out training videos."""
    recipe, changes = STREAMS[name]
    if not (run / "recipe.yaml").exists():
        ds.train(ds.load_recipe(recipe, [*changes, *COMMON, f"data.split={split}"]), data, run)
    files = {"test": run / "scores.npz", "held_out": run / "scores_held_out.npz"}
    for part, path in files.items():
        if not path.is_file():
            ds.evaluate(run, part=part, workers=1)
    return read_scores(files["test"]), read_scores(files["held_out"])


def in_two(scores: Scores) -> Scores:
    """The same videos in two classes, whose probabilities are sums of those of the 21."""
    first = np.isin(scores.classes, LEGS)
    values = probabilities(scores)  # (N, 21)
    halves = np.stack([values[:, first].sum(axis=1), values[:, ~first].sum(axis=1)], axis=1)
    return replace(
        scores,
        labels=(~first[scores.labels]).astype(np.int64),
        scores=halves.astype(np.float32),
        classes=("legs", "arms"),
        kind="probabilities",
    )


def row(title: str, *streams: tuple[Scores, Scores]) -> None:
    """Print the top-1 of both streams, the better one, their mean, and the fitted fusion."""
    test, held_out = ([stream[part] for stream in streams] for part in (0, 1))
    fusion = make_fusion(test, fit_on=held_out)
    single = [100 * top_k_accuracy(stream) for stream in test]
    mean = 100 * top_k_accuracy(fuse(test, method="mean"))
    fitted = 100 * top_k_accuracy(fusion.apply(test))
    print(
        f"{title:34} {len(test[0]):5} {len(held_out[0]):6} {single[0]:6.1f} {single[1]:7.1f} "
        f"{max(single):7.1f} {mean:5.1f} {fitted:7.1f}  {fusion}",
        flush=True,
    )


if __name__ == "__main__":
    main()
