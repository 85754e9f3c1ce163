"""From a data set's folder and its annotation files to a checked manifest."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from dualstream.clips.data.annotations import (
    AnnotationFormat,
    detect_format,
    read_annotations,
    unread_lists,
)
from dualstream.clips.data.annotations.entries import (
    TEXT_SUFFIXES,
    VIDEO_SUFFIXES,
    Annotations,
    Problem,
)
from dualstream.clips.data.checks import CheckedVideo, check_videos
from dualstream.clips.data.groups import mirrored_classes
from dualstream.clips.data.intervals import Interval
from dualstream.clips.data.manifest import Manifest, VideoRecord, is_video_name
from dualstream.clips.data.rows import rows_of_video
from dualstream.clips.data.video_files import (
    ListedVideo,
    is_video,
    list_files,
    match_entries,
)
from dualstream.errors import AnnotationError, InputError, check_choice, check_least
from dualstream.files import replacing

AskedFormat = Literal["auto", AnnotationFormat]

PROBLEMS_FILE = "problems.csv"
JOURNAL_FILE = "checked.jsonl"

VIDEO_FOLDER = "videos"
"""Folder in a source that holds the videos, where there is one."""

_DOCUMENT_SUFFIXES = frozenset({".htm", ".html", ".log", ".md", ".pdf", ".yaml", ".yml"})

ANNOTATION_FOLDERS = ("splits", "annotations", "ucfTrainTestlist", "testTrainMulti_7030_splits")
"""Folders in a source that annotation files are looked for in, then the source itself and its
folder of videos."""


@dataclass(frozen=True)
class PrepareReport:
    """A checked data set and the problems that were found in it."""

    manifest: Manifest
    problems: tuple[Problem, ...]

    def write(self, folder: Path | str) -> None:
        """Write the manifest and problems.csv (only its header when there are none).

        Raises:
            DiskError: the folder cannot be written to.
        """
        with (
            replacing(Path(folder) / PROBLEMS_FILE) as temporary,
            temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["kind", "where", "what", "remedy"])
            writer.writerows(map(astuple, self.problems))
        self.manifest.write(folder)


class Preparation:
    """A data set whose annotations are read (by `prepare`) and whose videos are being checked.

    Iterating checks the videos and yields each outcome; `report` gives the result.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        annotations: Annotations,
        *,
        format: AnnotationFormat,
        check: Callable[[Sequence[str]], Iterator[CheckedVideo]],
    ) -> None:
        self.root = root
        self.format = format
        self.classes = annotations.classes
        self._may_have_several = annotations.may_have_several
        self._check = check
        self._problems = list(annotations.problems)
        check_folders = format != "folders" and not annotations.may_have_several
        self._listed, refused = match_entries(
            root, names, annotations, self._problems, check_folders=check_folders
        )
        self._of_file: dict[str, dict[Interval | None, ListedVideo]] = defaultdict(dict)
        for (path, interval), video in self._listed.items():
            self._of_file[path][interval] = video
        unlisted = sorted(set(names) - self._of_file.keys() - refused)
        if unlisted and format != "folders":
            what = f"{len(unlisted)} videos are in no list, the first is {unlisted[0]!r}"
            remedy = "They are left out; add them to the lists to use them."
            self._problems.append(Problem("in no list", str(root), what, remedy))
        self.names = tuple(sorted(self._of_file))
        """The video files to check."""
        self._checked: dict[str, CheckedVideo] = {}

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[CheckedVideo]:
        """Check the videos that are not checked yet."""
        for video in self._check([name for name in self.names if name not in self._checked]):
            self._checked[video.path] = video
            yield video

    def report(self) -> PrepareReport:
        """Check the videos that are not checked yet, and put the manifest together.

        Raises:
            AnnotationError: no video can be used.
        """
        for _ in self:
            pass
        problems = [*self._problems]
        num_splits = max((s for v in self._listed.values() for s in v.sides), default=1)
        records = [
            record
            for name in self.names
            for record in self._records(self._checked[name], num_splits, problems)
        ]
        problems += self._same_content(records)
        problems += self._empty_classes(records)
        if several := sum(bool(record.more_labels) for record in records):
            what = f"{several} of {len(records)} videos or intervals have several classes"
            remedy = (
                "Train with train.labels=several, or correct the times if the classes exclude "
                "each other."
            )
            problems.append(Problem("overlapping classes", str(self.root), what, remedy))
        if pairs := mirrored_classes(self.classes):
            left, right = (self.classes[label] for label in pairs[0])
            what = f"{len(pairs)} pairs of classes are mirrored ones, as {left!r} and {right!r}"
            remedy = (
                "Where training mirrors a picture it exchanges their labels; set "
                "augment.flip=false if these classes are no mirror images."
            )
            problems.append(Problem("mirrored classes", str(self.root), what, remedy))
        problems = list(dict.fromkeys(problems))
        if not records:
            first = "".join(f"\n  {p.where}: {p.what}" for p in problems[:5])
            raise AnnotationError(
                f"{self.root}: no video can be used. {len(problems)} problems were found:{first}"
            )
        manifest = Manifest(tuple(records), self.classes, self.root)
        return PrepareReport(manifest, tuple(problems))

    def _records(
        self, video: CheckedVideo, num_splits: int, problems: list[Problem]
    ) -> list[VideoRecord]:
        """The rows of one video file; what is wrong with it is added to the problems."""
        path, facts = str(self.root / video.path), video.facts
        if facts is None:
            what = video.error or "it cannot be decoded"
            remedy = "The video is left out; replace or remove the file."
            problems.append(Problem("broken video", path, what, remedy))
            return []
        if facts.frames_missing:
            missing, total = facts.frames_missing, facts.frames + facts.frames_missing
            what = f"{missing / total:.0%} of its pictures cannot be decoded ({missing} of {total})"
            remedy = "Those that decode are used; replace the file if it is damaged or cut off."
            problems.append(Problem("undecodable frames", path, what, remedy))
        elif facts.frames_from_header and facts.frames < 0.9 * facts.frames_from_header:
            what = f"{facts.frames} of the {facts.frames_from_header} frames it claims decode"
            remedy = "The frames that decode are used; replace the file if it is cut off."
            problems.append(Problem("truncated video", path, what, remedy))
        if facts.frames == 1:
            what = "it has 1 frame, and optical flow needs 2"
            remedy = "It is kept for RGB; streams of motion cannot use it. Remove or replace it."
            problems.append(Problem("one frame", path, what, remedy))
        rows = rows_of_video(
            self._of_file[video.path],
            facts,
            problems,
            path=path,
            num_splits=num_splits,
            may_have_several=self._may_have_several,
        )
        of_file = facts.frames, facts.fps, facts.width, facts.height, facts.sha256
        return [
            VideoRecord(video.path, r.labels[0], r.sides, *of_file, r.interval, r.labels[1:])
            for r in rows
        ]

    def _same_content(self, records: Sequence[VideoRecord]) -> Iterator[Problem]:
        """Problems of one content in two files: in two classes, or in train and test."""
        by_content: dict[str, list[VideoRecord]] = defaultdict(list)
        for record in {record.path: record for record in reversed(records)}.values():
            by_content[record.sha256].insert(0, record)
        for first, *copies in by_content.values():
            others = (r for r in copies if r.labels != first.labels and r.interval is None)
            if first.interval is None and (other := next(others, None)):
                where = str(self.root / other.path)
                a, b = (f"{r.path!r} ({self.classes[r.label]!r})" for r in (other, first))
                remedy = "Both are kept as they are; remove the one of the wrong class."
                what = f"{a} has the content of {b}"
                yield Problem("same content in two classes", where, what, remedy)
            for split in range(len(first.splits) if copies else 0):
                by_side = {r.splits[split]: r for r in reversed([first, *copies])}
                if {"train", "test"} <= by_side.keys():
                    trained, tested = by_side["train"].path, by_side["test"].path
                    file = self._of_file[tested].values()
                    where = next(v.sides[split + 1][1] for v in file if split + 1 in v.sides)
                    pair = f"{tested!r} (test) has the content of {trained!r} (train)"
                    what = f"split {split + 1}: {pair}"
                    remedy = "Both are kept as listed; remove one to test on unseen videos only."
                    yield Problem("same content in train and test", where, what, remedy)

    def _empty_classes(self, records: Sequence[VideoRecord]) -> Iterator[Problem]:
        used = {label for record in records for label in record.labels}
        listed = {label for video in self._listed.values() for label in video.labels}
        for label, name in enumerate(self.classes):
            if label in used or (self.format == "folders" and label not in listed):
                continue
            found = "all its videos are broken" if label in listed else "no video of it was found"
            what = f"class {name!r} (label {label}): {found}"
            remedy = "The class is kept without videos; add some, or take it off the class list."
            yield Problem("class without video", str(self.root), what, remedy)


def prepare(
    source: Path | str,
    *,
    annotations: Path | str | None = None,
    format: AskedFormat = "auto",
    workers: int = 1,
    check: bool = True,
    journal: Path | None = None,
) -> Preparation:
    """Read a data set's annotations and find its videos; iterating then checks them one by one.

        preparation = prepare("data/jhmdb", workers=2)
        for video in preparation:
            print(video.path, video.error or "good")
        preparation.report().write("work/jhmdb")

    Faults of the data are collected as problems, and the videos concerned are left out. A video
    that is in train and in test of one split stays on the test side, so that the test set is
    the listed one.

    Args:
        source: the data set. Its folder `videos` is where the videos are, or else itself.
        annotations: split file, or folder of them. Without it, the first of the source's
            `ANNOTATION_FOLDERS`, the source itself and its folder of videos that has lists is
            taken, and other lists are told. Without any, the videos' folders are their classes.
        format: form of the annotations; "auto" tells it from the files.
        workers: see `check_videos`.
        journal: see `check_videos`.
        check: decode each video whole; otherwise frames are counted by their packets only.

    Raises:
        InputError: `source` is no folder, or an option is wrong.
        AnnotationError: no video, or no annotation that can be used.
    """
    folder = Path(source)
    if not folder.is_dir():
        raise InputError(f"source {str(source)!r} is not a folder. Give the data set's folder.")
    check_least(1, workers=workers)
    root = folder / VIDEO_FOLDER if (folder / VIDEO_FOLDER).is_dir() else folder
    if re.search(r"[\ud800-\udfff]", str(root.resolve())):
        raise InputError(f"{str(root)!r}: the folder's path is not Unicode. Rename the folder.")
    files, found, problems = _find_annotations(folder, annotations, format)
    below = list_files(root)
    names = [name for name in below if is_video(name)]
    others = _other_files(root, below)
    if not names:
        there = f" There is something else: {others[0].what}." if others else ""
        raise AnnotationError(
            f"{root}: there is no video in it (looked for {', '.join(sorted(VIDEO_SUFFIXES))})."
            f"{there}"
        )
    usable = [name for name in names if is_video_name(name)]
    listed = read_annotations(files, found, root=root, names=usable)
    problems += [*_bad_names(root, names), *others, *listed.problems]
    check_all = partial(check_videos, root, workers=workers, decode=check, journal=journal)
    listed = replace(listed, problems=tuple(problems))
    return Preparation(root, usable, listed, format=found, check=check_all)


def split_by_source(manifest: Manifest, *, test_fraction: float, seed: int = 0) -> Manifest:
    """Give a manifest without splits one: about `test_fraction` of each class is split1's test.

    Clips of one source video stay on one side (`Manifest.hold_out`).

    Raises:
        InputError: the manifest has a split, or the fraction is not between 0 and 1.
        AnnotationError: no class has two sources.
    """
    if any(side for record in manifest.records for side in record.splits):
        raise InputError("test_fraction is for data sets without splits; this one has some.")
    _, test = manifest.hold_out(test_fraction, seed=seed)
    tested = {record.name for record in test.records}
    records = tuple(
        replace(record, splits=("test" if record.name in tested else "train",))
        for record in manifest.records
    )
    return replace(manifest, records=records)


def _find_annotations(
    source: Path, annotations: Path | str | None, format: AskedFormat
) -> tuple[Path, AnnotationFormat, list[Problem]]:
    """Path of the annotation files, their format, and problems of the files left out."""
    check_choice("annotation format", format, AskedFormat)
    if format == "folders":
        return source, format, []
    if annotations is not None:
        path = Path(annotations)
        if not path.exists():
            raise InputError(f"annotations {str(path)!r}: there is no such file or folder.")
        found = detect_format(path) if format == "auto" else format
        if found is None:
            raise AnnotationError(
                f"{path}: no annotation file of a known form is in it. Known are "
                f"{', '.join(get_args(AnnotationFormat))}; name one with format."
            )
        return path, found, unread_lists(path, found) if path.is_dir() else []
    names = (*ANNOTATION_FOLDERS, "", VIDEO_FOLDER)
    folders = [path for name in names if (path := source / name).is_dir()]
    formats = [(path, detect_format(path)) for path in folders]
    usable = ((path, name) for path, name in formats if name and format in ("auto", name))
    chosen, found = next(usable, (source, "folders" if format == "auto" else format))
    unread = [
        problem
        for path in folders
        for problem in unread_lists(path, found if path == chosen else "folders")
    ]
    return chosen, found, unread


def _bad_names(root: Path, names: Sequence[str]) -> list[Problem]:
    """One problem for each file or folder whose name cannot be written into a manifest."""
    bad = Counter(
        next(p for p in accumulate(name.split("/"), "{}/{}".format) if not is_video_name(p))
        for name in names
        if not is_video_name(name)
    )
    what = "the name holds line ends or characters that are not Unicode"
    remedy = "Rename it; {} videos are left out."
    return [
        Problem("bad file name", ascii(str(root / path)), what, remedy.format(count))
        for path, count in bad.items()
    ]


def _other_files(root: Path, names: Sequence[str]) -> list[Problem]:
    """A problem that counts the files that are neither videos nor text."""
    suffixes = [PurePosixPath(name).suffix.lower() for name in names if not is_video(name)]
    counts = Counter(s for s in suffixes if s not in TEXT_SUFFIXES | _DOCUMENT_SUFFIXES)
    if not counts:
        return []
    kinds = ", ".join(f"{n} {s or 'without extension'}" for s, n in counts.most_common(5))
    what = f"{counts.total()} files are not taken for videos: {kinds}"
    remedy = "They are left out; convert those that are videos, for instance to .mp4."
    return [Problem("other files", str(root), what, remedy)]
