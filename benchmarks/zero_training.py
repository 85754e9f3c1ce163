"""J-HMDB without any training: I3D's Kinetics-400 classes read as J-HMDB's.

    python benchmarks/zero_training.py MANIFEST_FOLDER [--split 1 2 3]

Each class of J-HMDB stands for the Kinetics classes of `PARTNERS`, chosen by their names alone,
before any score was looked at; its score is the sum of their probabilities. Classes without a
partner (sit, stand, wave, ...) are never predicted, so the rest bounds the accuracy. Videos are
seen as in the recipe jhmdb_i3d_linear: 32 frames from the middle, looped where the video is
shorter, centre crop of 224 on a short side of 256.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.dataset import ClipDataset
from dualstream.clips.plan import Cropping, Sampling
from dualstream.clips.transforms import Normalizer
from dualstream.engine.recipe import load_recipe
from dualstream.models import create_model
from dualstream.models.fastest import fastest

PARTNERS: dict[str, tuple[str, ...]] = {
    "brush_hair": ("brushing hair", "fixing hair", "curling hair"),
    "catch": (
        "catching or throwing baseball",
        "catching or throwing frisbee",
        "catching or throwing softball",
    ),
    "clap": ("clapping", "applauding"),
    "climb_stairs": ("climbing ladder",),
    "golf": ("golf chipping", "golf driving", "golf putting"),
    "jump": ("high jump", "long jump", "triple jump", "jumping into pool"),
    "kick_ball": ("kicking soccer ball", "kicking field goal", "shooting goal (soccer)"),
    "pick": ("picking fruit",),
    "pour": ("bartending", "making tea"),
    "pullup": ("pull ups",),
    "push": ("pushing car", "pushing cart", "pushing wheelchair"),
    "run": ("jogging", "running on treadmill"),
    "shoot_ball": ("shooting basketball", "playing basketball", "dunking basketball"),
    "shoot_bow": ("archery",),
    "shoot_gun": ("playing paintball",),
    "swing_baseball": ("hitting baseball",),
    "throw": ("throwing ball", "javelin throw", "throwing axe"),
    "walk": ("walking the dog", "riding or walking with horse"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--split", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    manifest = Manifest.read(options.manifest)
    scores = class_scores(manifest)
    rows = {record.path: row for row, record in enumerate(manifest.records)}
    accuracies = []
    for split in options.split:
        videos = manifest.subset(split, "test").records
        found = scores[[rows[record.path] for record in videos]].argmax(axis=1)
        accuracies.append(100 * np.mean(found == [record.label for record in videos]))
        print(f"split {split}: {len(videos)} test videos, top-1 {accuracies[-1]:.1f} %")
    print(f"mean {np.mean(accuracies):.1f} %")


def class_scores(manifest: Manifest) -> np.ndarray:
    """(videos, classes) sums of the partners' probabilities, for every video of the manifest."""
    spec = load_recipe("jhmdb_i3d_linear").clip_spec()
    model = create_model("i3d", weights="i3d_rgb_kinetics400").eval()
    columns = [
        [model.classes.index(partner) for partner in PARTNERS.get(name, ())]
        for name in manifest.classes
    ]
    network, normalizer = fastest(model), Normalizer(spec)
    dataset = ClipDataset(
        manifest, spec, sampling=Sampling("evenly_spaced"), cropping=Cropping("center")
    )
    scores = np.zeros((len(dataset), len(columns)), np.float32)
    for row in range(len(dataset)):
        views = dataset[row].data  # (1, 3, T, H, W)
        probabilities = network(normalizer(views)).softmax(dim=1)[0]  # (400,)
        scores[row] = [float(probabilities[partners].sum()) for partners in columns]
        if row % 100 == 0:
            print(f"{row} of {len(dataset)} videos", flush=True)
    return scores


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
