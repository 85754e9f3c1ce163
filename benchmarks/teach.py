"""Teaching from a few examples: how good on J-HMDB, and how long it takes.

    python benchmarks/teach.py accuracy MANIFEST_FOLDER WORK [--classes 5] [--videos 10]
    python benchmarks/teach.py timing MANIFEST_FOLDER WORK [--videos 10] [--seconds 60]

`accuracy` takes the first classes of J-HMDB in alphabetical order. A project gets 2, 5, 10 or all
training videos of split 1 a class as marked intervals, drawn at random three times, and the
proposed timelines of at most `--videos` test videos a class are looked at: the class of a test
video is the one with the highest mean probability of its windows. Features are kept in WORK, so a
stopped run goes on. All choices that are made (the regularisation) are made inside of the training
videos.

`timing` joins clips of J-HMDB to ten videos of a minute, marks six intervals of 3 s in each, and
times 'train' the first time (features of all ten minutes), and after one correction.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev

import numpy as np

import dualstream as ds
from dualstream.clips.data.manifest import Manifest, VideoRecord
from dualstream.engine.teach.marks import Mark
from dualstream.engine.teach.project import Project, changing, write_project
from dualstream.engine.teach.settings import TeachSettings
from dualstream.files import write_text
from joined_clips import FPS, by_class, write_joined

EXAMPLES = (2, 5, 10)
DRAWS = 3
SLOT_SECONDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("accuracy", "timing"))
    parser.add_argument("manifest", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--videos", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--side", type=int, default=TeachSettings.side)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    manifest = Manifest.read(options.manifest)
    if options.what == "accuracy":
        print_accuracy(manifest, options)
    else:
        print_timing(manifest, options)


def print_accuracy(manifest: Manifest, options: argparse.Namespace) -> None:
    classes = manifest.classes[: options.classes]
    train, test = (
        {label: of_class[label] for label in range(len(classes))}
        for of_class in (by_class(manifest, "train"), by_class(manifest, "test"))
    )
    test = {label: records[: options.videos] for label, records in test.items()}
    teacher = ds.Teacher(options.work / "project", TeachSettings(side=options.side))
    known = {video.path for video in teacher.videos}
    for records in (*train.values(), *test.values()):
        for record in records:
            file = manifest.video_path(record).absolute()
            if str(file) not in known:
                teacher.add_video(file)
    names = {video.path: video.name for video in teacher.videos}
    durations = {video.name: video.duration_seconds for video in teacher.videos}

    def name_of(record: VideoRecord) -> str:
        return names[str(manifest.video_path(record).absolute())]

    num_tests = sum(map(len, test.values()))
    print(f"J-HMDB split 1, {len(classes)} classes: {', '.join(classes)}; {num_tests} test videos")
    print(f"chance {100 / len(classes):.1f}%", flush=True)
    for count in (*EXAMPLES, None):
        found = []
        for draw in range(DRAWS if count else 1):
            rng = np.random.default_rng([options.seed, draw, count or 0])
            marks = []
            for label, records in train.items():
                order = rng.permutation(len(records))[:count]
                for place in order:
                    name = name_of(records[place])
                    marks.append(Mark(name, 0, durations[name], classes[label]))
            _set_marks(teacher, marks)
            started = time.monotonic()
            report = teacher.train(listener=_line_of(options))
            seconds = time.monotonic() - started
            right = [
                _told(teacher, name_of(record)) == classes[label]
                for label, records in test.items()
                for record in records
            ]
            found.append(100 * float(np.mean(right)))
            estimate = "-" if report.accuracy is None else f"{100 * report.accuracy:.1f}%"
            print(
                f"  {count or 'all'} a class, draw {draw + 1}: {found[-1]:.1f}% (in the report "
                f"{estimate}, C {report.c:g}, {seconds:.1f} s)",
                flush=True,
            )
        spread = f" +- {stdev(found):.1f}" if len(found) > 1 else ""
        print(f"{count or 'all'} examples a class: {mean(found):.1f}%{spread}", flush=True)


def _told(teacher: ds.Teacher, name: str) -> str:
    timeline = teacher.timeline(name)
    return timeline.classes[int(timeline.probabilities.mean(axis=0).argmax())]


def _set_marks(teacher: ds.Teacher, marks: list[Mark]) -> None:
    """Give a project these marks in place of all others."""
    with changing(teacher.folder):
        project = teacher.project()
        new = Project(project.folder, project.settings, project.videos, tuple(sorted(marks)))
        write_project(new)


def _line_of(options: argparse.Namespace):
    last = [time.monotonic()]

    def show(progress) -> None:
        if progress.phase == "features" and time.monotonic() - last[0] > 30:
            last[0] = time.monotonic()
            print(f"  features: {progress.done} of {progress.total} s of video", flush=True)

    return show


def print_timing(manifest: Manifest, options: argparse.Namespace) -> None:
    label_of_slot = np.random.default_rng(options.seed)
    teacher = ds.Teacher(options.work / "timing", TeachSettings(side=options.side))
    for number in range(options.videos):
        file = options.work / "minutes" / f"minute_{number}.mp4"
        slots = options.seconds // SLOT_SECONDS
        labels = label_of_slot.integers(options.classes, size=slots).tolist()
        if not file.is_file():
            write_joined(file, manifest, _pieces(manifest, labels, seed=number))
        name = teacher.add_video(file).name
        for slot in range(0, slots, max(1, slots // 6))[:6]:
            start = slot * SLOT_SECONDS
            # The neighbour of the same label may be joined, as people would mark it.
            teacher.mark(name, start, start + SLOT_SECONDS, manifest.classes[labels[slot]])
    marks = teacher.marks
    total = sum(video.duration_seconds for video in teacher.videos)
    print(
        f"{len(teacher.videos)} videos, {total:.0f} s, {len(marks)} marks; {os.cpu_count()} cores"
    )
    for what in ("first", "after a correction"):
        cpu, wall = time.process_time(), time.monotonic()
        report = teacher.train(listener=_line_of(options))
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        print(
            f"train, {what}: {wall:.1f} s, of a core {cpu:.1f} s; phases {dict(report.seconds)}; "
            f"held-out windows {report.accuracy}",
            flush=True,
        )
        first = teacher.review(most=1)[0]
        teacher.mark(first.video, first.start_seconds, first.end_seconds, first.runner_up)
    write_text(options.work / "timing.json", json.dumps(report.entry(), indent=2))


def _pieces(
    manifest: Manifest, labels: list[int], *, seed: int
) -> Iterator[tuple[VideoRecord, int]]:
    """Clips, and how many frames of each, that fill a slot of 3 s with one class after another."""
    rng = np.random.default_rng(seed)
    train = by_class(manifest, "train")
    for label in labels:
        left = SLOT_SECONDS * FPS
        while left:
            record = train[label][rng.integers(len(train[label]))]
            yield record, min(left, record.frames)
            left -= min(left, record.frames)


if __name__ == "__main__":
    main()
