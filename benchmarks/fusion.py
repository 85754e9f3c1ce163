"""The fitted fusion beside the better stream and the mean, on J-HMDB and on the synthetic set.

    python benchmarks/fusion.py JHMDB SYNTHETIC OUT

JHMDB and SYNTHETIC are folders that `dualstream prepare` and `dualstream flow` have filled (that of
the demo is DEMO/data). Streams are linear classifiers on what a frozen network sees, so that all of
them take minutes on one core: EfficientNet-Lite0 with ImageNet weights on frames and on stacks of
flow, the same on smaller and fewer pictures for weak streams, and on the synthetic set the networks
of the demo's recipes as they train. A fifth of the training videos is held out of the classifiers;
the fusion is fitted on their scores, as `dualstream fuse` does by default, and never on test.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

import dualstream as ds
from dualstream.clips.data.manifest import Manifest
from dualstream.clips.dataset import ClipDataset, FlowStores
from dualstream.clips.plan import Cropping, Sampling
from dualstream.clips.transforms import Normalizer
from dualstream.engine.recipe import load_recipe
from dualstream.engine.run.checkpoint import build_model
from dualstream.scores import fuse, make_fusion, read_scores, top_k_accuracy
from dualstream.types import Scores


@dataclass(frozen=True)
class Stream:
    """Pictures that a frozen network sees."""

    recipe: str
    overrides: tuple[str, ...]
    segments: int
    """Views of a video, whose features are averaged."""


STREAMS = {
    "rgb": Stream("jhmdb_rgb", ("input.short_side=144", "input.crop_size=128"), 1),
    "weak rgb": Stream("jhmdb_rgb", ("input.short_side=32", "input.crop_size=32"), 1),
    "flow": Stream("jhmdb_flow", ("input.short_side=112", "input.crop_size=96"), 1),
    "weak flow": Stream("jhmdb_flow", ("input.short_side=48", "input.crop_size=48"), 1),
}
PAIRS = {"": ("rgb", "flow"), "weak flow": ("rgb", "weak flow"), "weak RGB": ("weak rgb", "flow")}

LEGS = ("climb_stairs", "jump", "kick_ball", "run", "sit", "stand", "walk")
"""First of two classes made of the 21: the legs do it; in the other the arms do."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jhmdb", type=Path)
    parser.add_argument("synthetic", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    manifest = Manifest.read(options.jhmdb)
    seen = {name: features(name, manifest, options.jhmdb, options.out) for name in STREAMS}
    print(f"{'data set':34} {'test':>5} {'fit on':>6}  first  second  better  mean  fitted  fusion")
    for split in (1, 2, 3):
        for kind, names in PAIRS.items():
            for classes in (21, 2):
                pair = [
                    classified(manifest, seen[name], split, in_two=classes == 2) for name in names
                ]
                row(f"J-HMDB {split}, {classes} classes{', ' * bool(kind)}{kind}", pair)
    row(
        "synthetic, both equal",
        [trained(name, options.synthetic, options.out) for name in ("demo_rgb", "demo_flow")],
    )


def features(name: str, manifest: Manifest, data: Path, out: Path) -> NDArray[np.float32]:
    """(videos, D) means over the views of what the frozen network sees; kept in `out`."""
    file = out / f"{name}.npy"
    if not file.is_file():
        stream = STREAMS[name]
        recipe = load_recipe(stream.recipe, stream.overrides)
        spec = recipe.clip_spec()
        network = build_model(recipe, len(manifest.classes), with_weights=True).eval()
        normalizer = Normalizer(spec)
        dataset = ClipDataset(
            manifest,
            spec,
            sampling=Sampling("evenly_spaced", segments=stream.segments),
            cropping=Cropping("center"),
            flow={n: FlowStores(ds.FlowStore(data / "flow"), None) for n in spec.flow_streams},
        )
        rows = []
        with torch.inference_mode():
            for place in range(len(dataset)):
                views = normalizer(dataset[place].data)  # stream -> (V, C, T, H, W)
                (clips,) = views.values() if isinstance(views, dict) else (views,)
                rows.append(network.embed(clips).mean(dim=0).numpy())
        out.mkdir(parents=True, exist_ok=True)
        np.save(file, np.stack(rows))
    return np.load(file)


def classified(
    manifest: Manifest, seen: NDArray[np.float32], split: int, *, in_two: bool
) -> tuple[Scores, Scores]:
    """Scores of the test and of the held-out training videos by a linear classifier."""
    place = {record.path: row for row, record in enumerate(manifest.records)}
    kept, held_out = manifest.subset(split, "train").hold_out(0.2)
    parts = (kept, manifest.subset(split, "test"), held_out)
    rows = [[place[record.path] for record in part.records] for part in parts]
    labels = np.array([record.label for record in manifest.records])
    classes = manifest.classes
    if in_two:
        labels, classes = np.array([classes[k] not in LEGS for k in labels], int), ("legs", "arms")
    mean, std = seen[rows[0]].mean(axis=0), seen[rows[0]].std(axis=0) + 1e-3
    scaled = (seen - mean) / std
    model = LogisticRegression(C=0.01, max_iter=300).fit(scaled[rows[0]], labels[rows[0]])
    test, rest = (
        Scores(
            tuple(record.path for record in part.records),
            labels[chosen].astype(np.int64),
            model.predict_proba(scaled[chosen]).astype(np.float32),
            classes,
            "probabilities",
        )
        for part, chosen in zip(parts[1:], rows[1:], strict=True)
    )
    return test, rest


def trained(recipe: str, data: Path, out: Path) -> tuple[Scores, Scores]:
    """The same of a network that a recipe of the demo trains."""
    run = out / recipe
    if not (run / "scores_held_out.npz").is_file():
        settings = ["data.hold_out=0.2", "data.workers=1"]
        ds.train(ds.load_recipe(recipe, settings), data, run)
        for part in ("test", "held_out"):
            ds.evaluate(run, part=part, workers=1)
    return read_scores(run / "scores.npz"), read_scores(run / "scores_held_out.npz")


def row(title: str, pair: list[tuple[Scores, Scores]]) -> None:
    """Print the top-1 of both streams, the better one, their mean, and the fitted fusion."""
    test, held_out = ([stream[part] for stream in pair] for part in (0, 1))
    fusion = make_fusion(test, fit_on=held_out)
    first, second = (100 * top_k_accuracy(stream) for stream in test)
    mean = 100 * top_k_accuracy(fuse(test, method="mean"))
    fitted = 100 * top_k_accuracy(fusion.apply(test))
    print(
        f"{title:34} {len(test[0]):5} {len(held_out[0]):6} {first:6.1f} {second:7.1f} "
        f"{max(first, second):7.1f} {mean:5.1f} {fitted:7.1f}  {fusion}",
        flush=True,
    )


if __name__ == "__main__":
    main()
