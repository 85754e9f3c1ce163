"""Attention networks of cross attention on clips that they were not trained on.

    python benchmarks/attention.py JHMDB RUN PICTURE

RUN is a run of `cross_attention` on JHMDB ("cross attention, two phases" of benchmarks/streams.py).
On the test videos' middle clips, the map that each stream's attention network predicts without the
label, and one that is brightest in the middle whatever the clip (a Gaussian of a quarter of the
side), are compared with Grad-CAM for the true class: mean correlation over the places of a map, and
its 95% interval over videos. PICTURE gets twenty of the clips, evenly spaced: each stream with the
other one's map over it, as predicted and by Grad-CAM. Results go to
benchmarks/results/attention.json.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.transforms import Normalizer
from dualstream.engine.datasets import test_dataset, videos_of
from dualstream.engine.infer.explain import pictures
from dualstream.engine.run.checkpoint import load_checkpoint
from dualstream.models.grad_cam import correlations
from dualstream.models.joined.cross_attention import CrossAttention
from dualstream.report.attention import Look, write_attention_strip
from measure import FOLDER, versions, write_json

CLIPS_DRAWN = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jhmdb", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    checkpoint = load_checkpoint(options.run)
    model = checkpoint.model
    if not isinstance(model, CrossAttention):
        parser.error(f"{options.run} is a run of {model.name}, not of cross_attention")
    test = checkpoint.recipe.test.model_copy(update={"segments": 1, "crops": "center"})
    recipe = checkpoint.recipe.model_copy(update={"test": test})
    videos = videos_of(Manifest.read(options.jhmdb), recipe, "test")
    dataset = test_dataset(videos, recipe, replace(checkpoint.info, manifest=str(options.jhmdb)))
    normalizer = Normalizer(checkpoint.spec)
    drawn = set(np.linspace(0, len(dataset) - 1, CLIPS_DRAWN).round().astype(int).tolist())
    found: dict[str, list[tuple[float, float]]] = {stream: [] for stream in checkpoint.spec.streams}
    rows: list[list[Look]] = []
    for place in range(len(dataset)):
        clip = dataset[place]
        clips = normalizer({stream: data[None] for stream, data in clip.data.items()})
        wanted, predicted = maps_of(model, clips, torch.tensor([int(clip.label)]))
        centre = centre_map(wanted[model.spatial].shape[-2:])
        for stream, map_ in wanted.items():
            found[stream].append(
                tuple(
                    correlations(other.expand_as(map_), map_).item()
                    for other in (predicted[stream], centre)
                )
            )
        if place in drawn:
            for stream in clips:
                other = model.other(stream)
                image = pictures(clip.data[stream].numpy(), checkpoint.spec.streams[stream])[0]
                middle = image[len(image) // 2]
                name = checkpoint.classes[int(clip.label)]
                rows.append(
                    [
                        Look(f"{name}: {stream}", middle),
                        Look(f"{other}, predicted", middle, predicted[other][0].numpy()),
                        Look(f"{other}, Grad-CAM", middle, wanted[other][0].numpy()),
                    ]
                )
    write_attention_strip(options.picture, rows)
    results = {}
    print("| map of | attention network | centre map | difference |\n|---|---|---|---|")
    for stream, values in found.items():
        of_stream = np.array(values)
        of_stream = np.column_stack((of_stream, of_stream[:, 0] - of_stream[:, 1]))
        means = of_stream.mean(axis=0)
        halves = 1.96 * of_stream.std(axis=0, ddof=1) / np.sqrt(len(of_stream))
        shown = (f"{m:.3f} +- {h:.3f}" for m, h in zip(means, halves, strict=True))
        print(f"| {stream} | {' | '.join(shown)} |")
        names = ("attention network", "centre map", "difference")
        results[stream] = dict(zip(names, map(float, means), strict=True))
    write_json(
        FOLDER / "results" / "attention.json",
        seconds={},
        settings={"videos": len(dataset), "recipe": recipe.model_dump(mode="json")},
        results=results,
        packages=versions("torch", "timm", "dualstream"),
    )


def maps_of(
    model: CrossAttention, clips: dict[str, Tensor], labels: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Stream -> map (1, H, W) by Grad-CAM for the class, and by its attention network."""
    with torch.no_grad():
        found = model.eval().attend(clips)
        size = tuple(next(iter(clips.values())).shape[-2:])
        predicted = {
            stream: model.attention[stream]([f.flatten(0, 1) for f in features], size)
            for stream, features in found.features.items()
        }
    wanted = {
        stream: model.grad_cam(clips, found.seen, labels=labels, stream=stream)[:, 0]
        for stream in clips
    }
    return wanted, predicted


def centre_map(size: tuple[int, ...]) -> Tensor:
    """(1, H, W): a Gaussian around the middle, with a deviation of a quarter of the side."""
    rows, columns = (torch.linspace(-2, 2, length) for length in size)
    return torch.exp(-(rows[:, None] ** 2 + columns**2) / 2)[None]


if __name__ == "__main__":
    main()
