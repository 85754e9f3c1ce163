"""One network with two heads beside a network for each head: the classes of J-HMDB cut in two.

    python benchmarks/multi_task.py JHMDB OUT             # three seeds
    python benchmarks/multi_task.py JHMDB OUT --seeds 0 1

JHMDB is a folder that `dualstream prepare` and `dualstream flow` have filled. Every second class is
in the second data set, whose label list is its own. The temporal network (EfficientNet-Lite0 on ten
fields, the budget of benchmarks/streams.py) learns each alone and both together, as Simonyan &
Zisserman (2014, section 4) do with UCF-101 and HMDB-51; test videos of split 1. Runs are kept in
OUT; what is there is not trained again. Results go to benchmarks/results/multi_task.json.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import mean

import dualstream as ds
from dualstream.clips.data.manifest import Manifest
from dualstream.engine.run.info import read_metrics
from dualstream.scores import read_scores, top_k_accuracy
from measure import FOLDER, versions, write_json
from streams import BUDGET, adamw

HALVES = ("even", "odd")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jhmdb", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    folders = [half_of(options.jhmdb, place, options.out) for place in (0, 1)]
    results: dict[str, dict[str, float]] = {}
    print(
        "| seed | even, alone | even, together | odd, alone | odd, together |",
        "|---|---|---|---|---|",
        sep="\n",
    )
    for seed in options.seeds:
        row = measured(folders, options.jhmdb / "flow", options.out / f"seed_{seed}", seed)
        results[str(seed)] = row
        print(f"| {seed} | {' | '.join(f'{100 * row[key]:.1f}' for key in row)} |", flush=True)
    means = {
        key: mean(row[key] for row in results.values()) for key in next(iter(results.values()))
    }
    print(f"| mean | {' | '.join(f'{100 * value:.1f}' for value in means.values())} |")
    write_json(
        FOLDER / "results" / "multi_task.json",
        seconds={},
        settings={"overrides": BUDGET, "seeds": options.seeds},
        results={**results, "mean": means},
        packages=versions("torch", "timm", "dualstream"),
    )


def half_of(data: Path, place: int, out: Path) -> Path:
    """Write the manifest of every second class, from the first or from the second on."""
    whole = Manifest.read(data)
    classes = whole.classes[place::2]
    folder = out / HALVES[place]
    folder.mkdir(parents=True, exist_ok=True)
    kept = tuple(
        replace(record, label=record.label // 2)
        for record in whole.records
        if record.label % 2 == place
    )
    Manifest(kept, classes, whole.root).write(folder)
    if not (folder / "flow").exists():
        (folder / "flow").symlink_to((data / "flow").resolve())
    return folder


def measured(folders: list[Path], flow: Path, out: Path, seed: int) -> dict[str, float]:
    """Top-1 of each half by a network of its own and by the one of both."""
    recipe = ds.load_recipe(
        "jhmdb_flow", [*BUDGET, adamw(2e-3), "data.hold_out=0", f"train.seed={seed}"]
    )
    first, second = folders
    together = out / "together"
    trained(recipe, first, together, also=[second])
    heads = (together, together / "heads" / HALVES[1])
    found = {}
    for name, folder, head in zip(HALVES, folders, heads, strict=True):
        alone = out / name
        trained(recipe, folder, alone)
        found[f"{name}, alone"] = top1_of(alone, folder)
        found[f"{name}, together"] = top1_of(head, folder)
    return found


def trained(recipe: ds.Recipe, data: Path, run: Path, also: list[Path] | None = None) -> None:
    """Train, or go on, unless it is done."""
    if "epochs" in read_metrics(run):
        return
    if (run / "recipe.yaml").is_file():
        ds.resume(run)
    else:
        ds.train(recipe, data, run, also=also or [])


def top1_of(run: Path, data: Path) -> float:
    """Top-1 of the test videos of a data set."""
    if not (run / "scores.npz").is_file():
        ds.evaluate(run, data=data, workers=1)
    return top_k_accuracy(read_scores(run / "scores.npz"))


if __name__ == "__main__":
    main()
