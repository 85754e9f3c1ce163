"""Intervals in long videos: trained on without cutting files, found again as timelines.

    python benchmarks/intervals.py join MANIFEST_FOLDER DATA
    dualstream prepare DATA --out WORK --background 0.5
    dualstream train WORK --recipe jhmdb_i3d --out RUN data.hold_out=0.25
    dualstream test RUN
    python benchmarks/intervals.py measure RUN

`join` makes long files of J-HMDB's clips (split 1): a clip of one of the first eight classes in
alphabetical order, which DATA/intervals.csv names, then one of another class, which nothing names,
and so on. Files to train on are of training clips only, and no two files have clips of one source
video, so that files can be held out.

`measure` slides windows over the videos that the run held out and over those of the test. The
thresholds of timelines are those with the best F1 at .5 on the held-out videos; the test is
measured with them, and with the defaults. It is done twice: with cuts left alone, so that windows
lie across the places where clips were joined, and with cuts found, which in these files give every
start and end away. What the windows gave is kept in RUN/windows, so a stopped run goes on.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import dualstream as ds
from dualstream.clips.data.groups import source_group
from dualstream.clips.data.manifest import Manifest, VideoRecord
from dualstream.engine.datasets import Part, videos_of
from dualstream.engine.run.info import read_run
from dualstream.files import replacing
from dualstream.scores import (
    find_segments,
    frame_accuracy,
    measure,
    per_class_accuracy,
    per_class_precision,
    precision_recall,
    read_scores,
    segment_f1,
)
from dualstream.scores.timeline import ENTER, LEAVE, Segment, Thresholds
from dualstream.types import BACKGROUND
from joined_clips import FPS, by_class, write_joined

FILES = {"train": 8, "test": 4}
"""Long files of each part."""
WINDOWS = {"none": (1.0, 0.5), "difference": (2.0, 1.0)}
"""How cuts are found -> seconds of a window, and from one to the next. A second is what I3D sees of
a clip (32 frames); of cuts no clip is as long as a window, so each is one."""
IOUS = (0.1, 0.25, 0.5)
DEFAULTS: Thresholds = {"enter": ENTER, "leave": LEAVE, "merge_seconds": 0, "least_seconds": 0}
TRIED: tuple[Thresholds, ...] = tuple(
    {"enter": enter, "leave": leave, "merge_seconds": merge, "least_seconds": least}
    for enter, leave, merge, least in product(
        (0.5, 0.2, 0.3, 0.4, 0.6, 0.7), (0.3, 0.1, 0.2, 0.4, 0.5), (0, 0.5), (0, 0.5, 0.8)
    )
    if leave <= enter
)
"""The defaults first, which win where others are as good."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="what", required=True)
    joining = commands.add_parser("join")
    joining.add_argument("manifest", type=Path)
    joining.add_argument("data", type=Path)
    joining.add_argument("--classes", type=int, default=8, help="that are named")
    joining.add_argument("--each", type=int, default=3, help="clips of a class in a file, at most")
    joining.add_argument("--seed", type=int, default=0)
    measuring = commands.add_parser("measure")
    measuring.add_argument("run", type=Path)
    options = parser.parse_args()
    if options.what == "join":
        join(Manifest.read(options.manifest), options)
    else:
        print_measured(options)


def join(manifest: Manifest, options: argparse.Namespace) -> None:
    """Write the long files and the table of their intervals, and print how much there is."""
    rng = np.random.default_rng(options.seed)
    rows = []
    for part, files in FILES.items():
        count = frames = 0
        for number, clips in enumerate(dealt(manifest, part, files, rng)):
            clips = in_turn(clips, options.classes, options.each, rng)
            name = f"{part}_{number}.mp4"
            write_joined(options.data / "videos" / name, manifest, [(c, c.frames) for c in clips])
            starts = list(accumulate((clip.frames for clip in clips), initial=0))
            rows += [
                (name, round(a / FPS, 4), round(b / FPS, 4), manifest.classes[clip.label], part)
                for clip, (a, b) in zip(clips, pairwise(starts), strict=True)
                if clip.label < options.classes
            ]
            count, frames = count + len(clips), frames + starts[-1]
        named = sum(row[-1] == part for row in rows)
        seconds = frames / FPS
        print(f"{part}: {files} files, {seconds:.0f} s, {named} intervals, {count - named} pauses")
    with (options.data / "intervals.csv").open("w", newline="") as file:
        csv.writer(file).writerows((("path", "start_seconds", "end_seconds", "label", "split"),))
        csv.writer(file).writerows(rows)


def dealt(
    manifest: Manifest, part: str, files: int, rng: np.random.Generator
) -> list[list[VideoRecord]]:
    """Deal the clips of a part to files, those of one source video to one file."""
    of_source = defaultdict(list)
    for records in by_class(manifest, part).values():
        for record in records:
            of_source[source_group(record.path)].append(record)
    sources = sorted(of_source)
    piles: list[list[VideoRecord]] = [[] for _ in range(files)]
    for place, source in enumerate(rng.permutation(len(sources))):
        piles[place % files] += of_source[sources[source]]
    return piles


def in_turn(
    clips: Sequence[VideoRecord], num_classes: int, each: int, rng: np.random.Generator
) -> list[VideoRecord]:
    """Return clips of the first classes in random order, with clips of others around them.

    Args:
        clips: of one file.
        num_classes: classes that are named.
        each: clips of one of them, at most.
        rng: draws the order.

    Returns:
        A pause, a named clip, a pause and so on; pauses come again where there are too few.
    """
    shuffled = [clips[place] for place in rng.permutation(len(clips))]
    pauses = [clip for clip in shuffled if clip.label >= num_classes]
    named = [
        clip
        for place, clip in enumerate(shuffled)
        if clip.label < num_classes
        and sum(other.label == clip.label for other in shuffled[:place]) < each
    ]
    order = [pauses[0]]
    for place, clip in enumerate(named, start=1):
        order += [clip, pauses[place % len(pauses)]]
    return order


class Videos(NamedTuple):
    """The videos of a part, and what is right in them."""

    paths: dict[str, Path]
    """Name -> file."""
    truth: dict[str, list[Segment]]
    seconds: dict[str, float]
    """Name -> length."""

    @classmethod
    def of(cls, manifest: Manifest) -> Videos:
        truth: dict[str, list[Segment]] = {record.path: [] for record in manifest.files}
        for record in manifest.records:
            if record.interval and manifest.classes[record.label] != BACKGROUND:
                interval, name = record.interval, manifest.classes[record.label]
                truth[record.path].append(
                    Segment(interval.start_seconds, interval.end_seconds, name)
                )
        return cls(
            {record.path: manifest.video_path(record) for record in manifest.files},
            truth,
            {record.path: record.frames / record.fps for record in manifest.files},
        )


Windows = dict[str, tuple[NDArray[np.float64], NDArray[np.float32]]]
"""Video -> (M, 2) start and end of its windows, (M, K) probabilities."""


def print_measured(options: argparse.Namespace) -> None:
    recipe, classes, info = read_run(options.run)
    manifest = Manifest.read(info.manifest)
    parts: tuple[Part, ...] = ("held_out", "test")
    videos = {part: Videos.of(videos_of(manifest, recipe, part)) for part in parts}
    for part, of_part in videos.items():
        named = [s for segments in of_part.truth.values() for s in segments]
        seconds, spoken = sum(of_part.seconds.values()), sum(s.seconds for s in named)
        print(
            f"{part}: {len(of_part.paths)} videos, {seconds:.0f} s, {len(named)} intervals; "
            f"none of these for {100 * (1 - spoken / seconds):.1f}% of the time"
        )
    print_intervals(options.run)
    # One for both ways: it looks for the network's fastest form, which takes a minute.
    predictor = ds.Predictor(str(options.run), optimize=True)
    for cuts, (window, step) in WINDOWS.items():
        predictor.cut_method = cuts
        predictor.window_seconds, predictor.step_seconds = window, step
        folder = options.run / "windows" / f"{cuts}_{window:g}_{step:g}"
        windows = {part: seen(predictor, videos[part].paths, folder) for part in parts}
        chosen, best = choose(windows["held_out"], videos["held_out"].truth, classes)
        count = sum(len(seconds) for seconds, _ in windows["test"].values())
        print(f"cuts {cuts}: {count} windows of {window:g} s every {step:g} s in the test")
        print(f"  chosen: {', '.join(f'{name} {value:g}' for name, value in chosen.items())}")
        print(f"    held out: F1 at .5 {100 * best:.1f}%")
        for name, thresholds in (("chosen", chosen), ("defaults", DEFAULTS)):
            found = timelines(windows["test"], classes, thresholds)
            print(f"    test, {name}: {measured(found, videos['test'])}", flush=True)


def print_intervals(run: Path) -> None:
    """Print how good the class of an interval is, given where it lies (`dualstream test`)."""
    if not (run / "scores.npz").is_file():
        return
    scores = read_scores(run / "scores.npz")
    nothing = scores.classes.index(BACKGROUND)
    print(
        f"test, intervals given: {len(scores)}, top-1 {100 * measure(scores).top_1:.1f}%; "
        f"none of these: precision {100 * per_class_precision(scores)[nothing]:.1f}%, "
        f"recall {100 * per_class_accuracy(scores)[nothing]:.1f}%"
    )


def seen(predictor: ds.Predictor, paths: Mapping[str, Path], folder: Path) -> Windows:
    """Return what the windows of videos give, as kept in a folder or found now."""
    found: Windows = {}
    for name, path in paths.items():
        kept = folder / f"{name}.npz"
        if not kept.is_file():
            result = predictor.predict(path)
            with replacing(kept, keep_suffix=True) as temporary:
                np.savez(
                    temporary,
                    seconds=result.window_seconds,
                    probabilities=result.window_probabilities,
                )
        with np.load(kept) as arrays:
            found[name] = arrays["seconds"], arrays["probabilities"]
    return found


def timelines(
    windows: Windows, classes: Sequence[str], thresholds: Thresholds
) -> dict[str, tuple[Segment, ...]]:
    """Return video -> segments."""
    return {
        name: find_segments(seconds, probabilities, classes, **thresholds)
        for name, (seconds, probabilities) in windows.items()
    }


def choose(
    windows: Windows, truth: Mapping[str, Sequence[Segment]], classes: Sequence[str]
) -> tuple[Thresholds, float]:
    """Return the thresholds with the best F1 at .5, and that F1."""

    def trials() -> Iterator[tuple[float, int]]:
        for place, thresholds in enumerate(TRIED):
            yield segment_f1(timelines(windows, classes, thresholds), truth, iou=0.5), -place

    best, place = max(trials())
    return TRIED[-place], best


def measured(found: Mapping[str, Sequence[Segment]], videos: Videos) -> str:
    """Say how near timelines come to the truth."""
    f1 = " / ".join(f"{100 * segment_f1(found, videos.truth, iou=iou):.1f}" for iou in IOUS)
    right = sum(
        seconds * frame_accuracy(found[name], videos.truth[name], duration_seconds=seconds)
        for name, seconds in videos.seconds.items()
    )
    nothing = precision_recall(found, videos.truth, duration_seconds=videos.seconds)
    return (
        f"F1 at .1 / .25 / .5 {f1}%, frame accuracy "
        f"{100 * right / sum(videos.seconds.values()):.1f}%; none of these: precision "
        f"{100 * nothing.precision:.1f}%, recall {100 * nothing.recall:.1f}%"
    )


if __name__ == "__main__":
    main()
