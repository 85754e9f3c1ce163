"""MotionNet, trained without labels on the frames of J-HMDB, beside zero motion and `tvl1-fast`.

    python benchmarks/motionnet.py JHMDB RUN              # train RUN (goes on where it is stopped)
    python benchmarks/motionnet.py JHMDB RUN --epochs 8
    python benchmarks/motionnet.py JHMDB RUN --measure    # no training: the last part only

JHMDB is a folder that `dualstream prepare` and `dualstream flow` have filled. MotionNet of half
the width sees two frames, two apart, on crops of 64 of a grid of 112 pixels: many steps are then
possible on two cores. After every epoch the mean end-point error over the pairs with known flow is
written to RUN/errors.csv, in pixels of those images: the public ones (`chairs`, `middlebury`) and
the generated development pairs of benchmarks/known_flow. At the end come the final generated pairs,
which no choice was made on, the pictures docs/motionnet.png (first frame, true flow, `tvl1-fast`,
MotionNet), and milliseconds a field of 320x240 beside `tvl1-fast` and its store. Results go to
benchmarks/results/motionnet.json.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import dualstream as ds
from dualstream.clips.data.manifest import Manifest
from dualstream.engine.infer.motion import motion_flow
from dualstream.engine.run.checkpoint import Checkpoint, load_checkpoint
from dualstream.engine.train.run_folder import TrainProgress
from dualstream.flow import FlowStore, flow_to_rgb, optical_flow
from flow_contest.metrics import end_point_error_px
from known_flow import KnownPair, development_pairs, final_pairs, public_pairs
from measure import FOLDER, interleaved, summary, versions, write_json

SETTINGS = (
    "input.num_frames=2",
    "input.frame_stride=2",
    "clip.short_side=112",
    "clip.crop_size=64",
    "model.options={base_channels: 32}",
    "train.batch_size=8",
    "train.optimizer={name: adamw, lr: 0.001, weight_decay: 0.0004}",
    "train.schedule={name: cosine, warmup_epochs: 1}",
    "data.workers=1",
)
METHODS: dict[str, Callable[[KnownPair], NDArray[np.float32]]] = {
    "zero": lambda pair: np.zeros_like(pair.flow),
    "tvl1-fast": lambda pair: optical_flow(np.stack((pair.first, pair.second))).data[0],
}
PICTURES = ("rubberwhale", "chairs1", "layers", "smooth")
"""Beginnings of names of pairs that are drawn."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jhmdb", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--epochs", type=int, default=36)
    parser.add_argument("--measure", action="store_true")
    options = parser.parse_args()
    if not options.measure:
        train(options.jhmdb, options.run, options.epochs)
    checkpoint = load_checkpoint(options.run, with_classes=False)
    methods = {**METHODS, "MotionNet": lambda pair: flow_of(checkpoint, pair)}
    groups = {
        **errors((*public_pairs(), *development_pairs()), methods),
        **{f"{g}, final": e for g, e in errors(final_pairs(), methods).items()},
    }
    print(f"| mean end-point error, px | {' | '.join(methods)} |")
    print("|---" * (len(methods) + 1) + "|")
    for group, found in groups.items():
        print(f"| {group} | {' | '.join(f'{found[name]:.2f}' for name in methods)} |")
    draw(methods, FOLDER.parent / "docs" / "motionnet.png")
    seconds = times(checkpoint, options.jhmdb)
    for name, taken in seconds.items():
        print(f"{name}: {summary(taken)}")
    write_json(
        FOLDER / "results" / "motionnet.json",
        seconds=seconds,
        settings={"overrides": SETTINGS, "epochs": options.epochs, "pixels": "320x240"},
        results={"end_point_error_px": groups, "by_epoch": rows_of(options.run / "errors.csv")},
        packages=versions("torch", "dualstream", "opencv-python-headless"),
    )


def train(data: Path, run: Path, epochs: int) -> None:
    """Train, or go on; write the errors after each epoch."""
    pairs = [*public_pairs(), *development_pairs(count=3)]
    file = run / "errors.csv"

    def tell(progress: TrainProgress) -> None:
        if not progress.is_epoch_end:
            return
        checkpoint = load_checkpoint(run, with_classes=False)
        found = errors(pairs, {"MotionNet": lambda pair: flow_of(checkpoint, pair)})
        row = {
            "epoch": progress.epoch + 1,
            **{g: round(e["MotionNet"], 4) for g, e in found.items()},
        }
        rows: list[Mapping[str, object]] = [*rows_of(file), row]
        with file.open("w", newline="") as out:
            writer = csv.DictWriter(out, row)
            writer.writeheader()
            writer.writerows(rows)
        print(row, flush=True)

    if (run / "recipe.yaml").exists():
        ds.resume(run, listener=tell)
    else:
        recipe = ds.load_recipe("motionnet", [*SETTINGS, f"train.epochs={epochs}"])
        ds.train(recipe, data, run, listener=tell)


def rows_of(file: Path) -> list[dict[str, str]]:
    """Rows of a CSV file, none where there is no file."""
    if not file.is_file():
        return []
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def flow_of(checkpoint: Checkpoint, pair: KnownPair) -> NDArray[np.float32]:
    """MotionNet's flow of a pair, (2, H, W) pixels."""
    with torch.inference_mode():
        found: NDArray[np.float32] = motion_flow(
            checkpoint, np.stack((pair.first, pair.second))
        ).data
    return found[0]


def errors(
    pairs: Iterable[KnownPair], methods: dict[str, Callable[[KnownPair], NDArray[np.float32]]]
) -> dict[str, dict[str, float]]:
    """Group of pairs -> method -> mean end-point error in pixels."""
    found: dict[str, dict[str, list[float]]] = {}
    for pair in pairs:
        of_group = found.setdefault(pair.group, {name: [] for name in methods})
        for name, method in methods.items():
            of_group[name].append(end_point_error_px(method(pair), pair.flow, pair.valid))
    return {
        group: {name: mean(values) for name, values in of_group.items()}
        for group, of_group in found.items()
    }


def draw(
    methods: dict[str, Callable[[KnownPair], NDArray[np.float32]]], path: Path, *, height: int = 160
) -> None:
    """Write a row a pair: the first frame, the true flow, and what each method but zero finds."""
    pairs = [*public_pairs(), *final_pairs()]
    rows = []
    for start in PICTURES:
        pair = next(p for p in pairs if p.name.startswith(start) or p.group == start)
        fields = [pair.flow, *(m(pair) for name, m in methods.items() if name != "zero")]
        longest = float(np.hypot(*pair.flow)[pair.valid].max())
        images = [pair.first, *(flow_to_rgb(field, max_px=longest) for field in fields)]
        width = round(height * pair.first.shape[1] / pair.first.shape[0])
        row = [cv2.resize(i, (width, height), interpolation=cv2.INTER_AREA) for i in images]
        rows.append(np.concatenate(row, axis=1))
    widest = max(row.shape[1] for row in rows)
    padded = [
        np.pad(row, ((0, 4), (0, widest - row.shape[1]), (0, 0)), constant_values=255)
        for row in rows
    ]
    cv2.imwrite(str(path), cv2.cvtColor(np.concatenate(padded), cv2.COLOR_RGB2BGR))


def times(checkpoint: Checkpoint, data: Path, *, frames: int = 11) -> dict[str, list[float]]:
    """Seconds a field: MotionNet on its grid, `tvl1-fast`, and what `tvl1-fast` has stored."""
    manifest = Manifest.read(data)
    record = next(r for r in manifest.records if r.frames >= frames)
    images = ds.read_video(Path(manifest.root) / record.path, indices=range(frames)).data
    stored = FlowStore(data / "flow").open(record.path)
    torch.set_num_threads(1)
    with stored, torch.inference_mode():
        found = interleaved(
            {
                "MotionNet": lambda: motion_flow(checkpoint, images),
                "tvl1-fast": lambda: optical_flow(images),
                "tvl1-fast, from its store": lambda: stored.read(range(frames - 1)),
            },
            rounds=15,
            warm_up=2,
        )
    return {name: [s / (frames - 1) for s in taken] for name, taken in found.items()}


if __name__ == "__main__":
    main()
