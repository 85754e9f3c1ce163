"""Optical flow methods side by side: time, error against known flow, error on real frames.

    python benchmarks/flow.py            # all of it, about 10 minutes; needs the network once
    python benchmarks/flow.py --quick    # a smoke run of less than a minute
    python benchmarks/flow.py --pipeline # H.264 file -> stored flow, beside the method's own rate

The yardstick is OpenCV's TV-L1 with its defaults. It lies in opencv-contrib-python-headless, which
cannot be installed beside the project's OpenCV: the script makes an environment for it in
benchmarks/.venv-flow (`--opencv-python` takes one that exists). Each environment has one worker
process that times nothing but the computation. Every method has one thread and the same 8-bit
frames. They take turns, pair by pair, in reverse order on every other pair; calls that are shorter
than 0.1 s are repeated up to seven times in their turn and the median counts.

Times are of real frames of 340x256: 30 pairs from ../shared/data/clips and 10 from J-HMDB, evenly
spread. "sums" is OpenCV's time on all of them divided by the method's. dualstream's methods take
RGB and are timed with their conversion to grey; OpenCV's get grey images that lie ready.

Errors are mean end-point errors over pairs with known flow: RubberWhale (`middlebury`), three of
FlyingChairs (`chairs`), and eight generated pairs of each kind (`affine`, `layers`, `smooth`; see
known_flow/pairs.py), over the pixels that stay inside the image and are not hidden. "/ OpenCV" is
the geometric mean over the groups. Real frames have no known flow: there the difference of the
images along the flow and the energy that TV-L1 minimises are given.

`--final` adds the pairs of the final seeds as groups of their own. They are for one last look: no
parameter of any method may be chosen by them.

`--clock cpu` counts the workers' processor time instead: for a machine that others use.

Results go to benchmarks/results/flow.json (flow_pipeline.json) and docs/flow.svg; with --quick
only where --json names a file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flow_contest.chart import ChartPoint, chart_svg
from flow_contest.client import Worker
from flow_contest.contenders import CONTENDERS, REFERENCE
from flow_contest.contest import measure
from flow_contest.environment import opencv_python
from flow_contest.pipeline import PIPELINE_METHODS, measure_pipeline, pipeline_table
from flow_contest.realpairs import RealPair, real_pairs
from flow_contest.results import (
    REAL_GROUP,
    PairResult,
    error_table,
    group_means,
    image_table,
    markdown,
    relative_errors,
    speed_table,
    speeds,
)
from known_flow import KnownPair, development_pairs, final_pairs, public_pairs
from measure import FOLDER, machine_facts, versions, write_json

SHARED_DATA = FOLDER.parents[1] / "shared" / "data"
PACKAGES = ("dualstream", "opencv-python-headless", "numpy", "torch", "av")
CHART = FOLDER.parent / "docs" / "flow.svg"
SLOW = ("opencv-tvl1-tsn", "tvl1-torch", "raft-small", "raft-large")
"""Left out of a quick run."""


def main() -> None:
    options = parsed_options()
    if options.pipeline:
        run_pipeline(options)
        return
    with ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(options.opencv_python or own_python(), "opencv-contrib")),
            stack.enter_context(Worker(Path(sys.executable), "dualstream")),
        ]
        contenders = chosen(options, workers)
        results = measure(
            pairs_of(options), workers, contenders, clock=options.clock, report=show_progress
        )
        packages = versions(*PACKAGES) | {
            f"{name} ({kind})": worker.versions[name]
            for kind, worker in zip(("opencv-contrib", "dualstream"), workers, strict=True)
            for name in ("opencv", "numpy", "python")
        }
        refused = workers[0].refused | workers[1].refused
    labels = {name: CONTENDERS[name].label for name in contenders}
    print_tables(results, labels)
    for name, reason in refused.items():
        print(f"Not measured: {name} ({reason})")
    print(f"{packages}\n{machine_facts()}")
    save(options, results, labels, packages)


def parsed_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few pairs, no slow methods")
    parser.add_argument("--final", action="store_true", help="add the final seeds: a last look")
    parser.add_argument("--methods", nargs="+", choices=CONTENDERS, help="only these (and OpenCV)")
    parser.add_argument("--opencv-python", type=Path, help="interpreter that has cv2.optflow")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a machine in other use"
    )
    parser.add_argument("--json", type=Path, help="write the results here; no chart then")
    parser.add_argument("--pipeline", action="store_true", help="measure `extract_flow` instead")
    parser.add_argument(
        "--pipeline-methods", nargs="+", choices=PIPELINE_METHODS, default=["tvl1-fast"]
    )
    parser.add_argument("--rounds", type=int, default=3, help="of --pipeline")
    return parser.parse_args()


def own_python() -> Path:
    return opencv_python(FOLDER / ".venv-flow")


def chosen(options: argparse.Namespace, workers: Sequence[Worker]) -> list[str]:
    """Names that can run here and were asked for, in the order of the tables."""
    available = {name for worker in workers for name in worker.contenders}
    if REFERENCE not in available:
        raise SystemExit(f"{REFERENCE} cannot run: {workers[0].refused}")
    wanted = set(options.methods or CONTENDERS) | {REFERENCE}
    if options.quick and not options.methods:
        wanted -= set(SLOW)
    return [name for name in CONTENDERS if name in wanted & available]


def pairs_of(options: argparse.Namespace) -> Iterator[KnownPair | RealPair]:
    """Real pairs first: they are what times are taken of."""
    if options.quick:
        yield from real_pairs(SHARED_DATA, clip_pairs=5, jhmdb_pairs=1)
        yield from list(public_pairs())[-1:]
        yield from development_pairs(count=1)
        return
    yield from real_pairs(SHARED_DATA)
    yield from public_pairs()
    yield from development_pairs()
    if options.final:
        for pair in final_pairs():
            yield pair._replace(group=f"{pair.group}, final")


def timed(results: Sequence[PairResult]) -> list[PairResult]:
    """The real pairs; where the shared data are missing, all that there are."""
    return [pair for pair in results if pair.group == REAL_GROUP] or list(results)


def show_progress(result: PairResult) -> None:
    reference = 1e3 * result.seconds[REFERENCE]
    print(f"  {result.group}: {result.name}, OpenCV {reference:.0f} ms", file=sys.stderr)


def print_tables(results: Sequence[PairResult], labels: dict[str, str]) -> None:
    pairs = timed(results)
    kind = "real" if pairs[0].group == REAL_GROUP else "generated (the shared data are missing)"
    print(f"\nTime on {len(pairs)} pairs of {kind} frames, one thread\n")
    print(markdown(speed_table(speeds(pairs, REFERENCE), labels)))
    print("\nMean end-point error on pairs with known flow\n")
    print(markdown(error_table(group_means(results, "error_px"), labels, REFERENCE)))
    if pairs[0].group == REAL_GROUP:
        print("\nReal frames, no known flow\n")
        print(markdown(image_table(pairs, labels)))
    print()


def save(
    options: argparse.Namespace,
    results: Sequence[PairResult],
    labels: dict[str, str],
    packages: dict[str, Any],
) -> None:
    path = options.json or (None if options.quick else FOLDER / "results" / "flow.json")
    if path is None:
        return
    pairs, means = timed(results), group_means(results, "error_px")
    found = speeds(pairs, REFERENCE)
    write_json(
        path,
        seconds={name: [pair.seconds[name] for pair in pairs] for name in labels},
        settings={
            "threads": 1,
            "clock": options.clock,
            "final_seeds": options.final,
            "timed_pairs": len(pairs),
            "labels": labels,
        },
        results={
            "speed": {name: asdict(speed) for name, speed in found.items()},
            "error_px": means,
            "error_relative_to_opencv": relative_errors(means, REFERENCE),
            "photometric": group_means(results, "photometric"),
            "tvl1_energy": group_means(results, "energy"),
            "pairs": [pair.rounded() for pair in results],
        },
        packages=packages,
    )
    print(f"Written to {path}.")
    if options.json is None:
        CHART.write_text(chart_of(results, labels))
        print(f"Written to {CHART}.")


def chart_of(results: Sequence[PairResult], labels: dict[str, str]) -> str:
    pairs = timed(results)
    found = speeds(pairs, REFERENCE)
    relative = relative_errors(group_means(results, "error_px"), REFERENCE)
    machine = machine_facts()
    points = [
        ChartPoint(
            labels[name].partition(" (")[0],
            found[name].milliseconds.median,
            relative[name],
            is_ours=CONTENDERS[name].is_ours,
        )
        for name in labels
    ]
    return chart_svg(
        points,
        title="Optical flow of 340x256 frames: error against time",
        subtitle=f"{machine['processor']}, one thread, median of {len(pairs)} pairs; "
        f"{len(results) - len(pairs)} pairs with known flow",
        error_name="end-point error / OpenCV TV-L1's",
    )


def run_pipeline(options: argparse.Namespace) -> None:
    measured = [
        measure_pipeline(
            method,
            data=SHARED_DATA,
            rounds=1 if options.quick else options.rounds,
            num_frames=60 if options.quick else 600,
        )
        for method in options.pipeline_methods
    ]
    print(markdown(pipeline_table(measured)))
    packages = versions(*PACKAGES)
    print(f"{packages}\n{machine_facts()}")
    path = options.json or (None if options.quick else FOLDER / "results" / "flow_pipeline.json")
    if path is not None:
        write_json(
            path,
            seconds={
                f"{result.method}, {name}": values
                for result in measured
                for name, values in result.seconds.items()
            },
            settings={"frames_a_clip": measured[0].num_frames, "clips": measured[0].num_clips},
            results={result.method: result.figures() for result in measured},
            packages=packages,
        )
        print(f"Written to {path}.")


if __name__ == "__main__":
    main()
