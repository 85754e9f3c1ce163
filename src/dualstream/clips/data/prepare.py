"""From a data set's folder and its annotation files to a checked manifest."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from dualstream.clips.data.annotations import (
    AnnotationFormat,
    Annotations,
    Entry,
    Problem,
    detect_format,
    read_annotations,
)
from dualstream.clips.data.annotations.entries import VIDEO_SUFFIXES, Side
from dualstream.clips.data.checks import CheckedVideo, check_videos
from dualstream.clips.data.manifest import Manifest, VideoRecord, is_video_name
from dualstream.clips.data.video_files import VideoIndex, list_videos
from dualstream.errors import AnnotationError, InputError, UnknownNameError
from dualstream.files import replacing

PROBLEMS_FILE = "problems.csv"
JOURNAL_FILE = "checked.csv"

VIDEO_FOLDER = "videos"
"""Folder in a source that holds the videos, where there is one."""

ANNOTATION_FOLDERS = ("splits", "annotations", "ucfTrainTestlist", "testTrainMulti_7030_splits")
"""Folders in a source that annotation files are looked for in, then the source itself."""


@dataclass(frozen=True)
class PrepareReport:
    """A checked data set, and what is wrong with what it was made from."""

    manifest: Manifest
    problems: tuple[Problem, ...]

    def write(self, folder: Path | str) -> None:
        """Write the manifest and problems.csv (only its header when there are none).

        Raises:
            AnnotationError: the folder cannot be written to.
        """
        target = Path(folder)
        try:
            target.mkdir(parents=True, exist_ok=True)
            with (
                replacing(target / PROBLEMS_FILE) as temporary,
                temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as f,
            ):
                writer = csv.writer(f, lineterminator="\n")
                writer.writerow(["kind", "where", "what", "remedy"])
                writer.writerows((p.kind, p.where, p.what, p.remedy) for p in self.problems)
            self.manifest.write(target)
        except OSError as error:
            raise AnnotationError(f"{target}: cannot be written ({error.strerror}).") from error


@dataclass
class _Listed:
    """What the lists say of one video file."""

    label: int
    origin: str
    """`file:line` of its first entry."""
    sides: dict[int, Side] = field(default_factory=dict)
    """Split number -> side."""
    origins: dict[int, str] = field(default_factory=dict)
    """Split number -> `file:line`."""


class Preparation:
    """A data set whose annotations are read and whose videos are being checked.

    Iterating checks the videos and yields each outcome; `report` gives the result. Made by
    `prepare`.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        annotations: Annotations,
        *,
        format: AnnotationFormat,
        workers: int,
        check: bool,
        journal: Path | None,
    ) -> None:
        self.root = root
        self.format = format
        self.classes = annotations.classes
        self._workers, self._check, self._journal = workers, check, journal
        self._problems = list(annotations.problems)
        self._listed = _match(root, names, annotations, self._problems)
        unlisted = [name for name in names if name not in self._listed]
        if unlisted and format != "folders":
            what = f"{len(unlisted)} videos are in no list, the first is {unlisted[0]!r}"
            remedy = "They are left out; add them to the lists to use them."
            self._problems.append(Problem("in no list", str(root), what, remedy))
        self.names = tuple(sorted(self._listed))
        """The videos to check."""
        self._checked: dict[str, CheckedVideo] = {}

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[CheckedVideo]:
        """Check the videos that are not checked yet."""
        due = [name for name in self.names if name not in self._checked]
        for video in check_videos(
            self.root, due, workers=self._workers, decode=self._check, journal=self._journal
        ):
            self._checked[video.path] = video
            yield video

    def report(self) -> PrepareReport:
        """Check the videos that are not checked yet, and put the manifest together.

        Raises:
            AnnotationError: no video can be used.
        """
        if len(self._checked) < len(self):
            for _ in self:
                pass
        problems = [*self._problems]
        records: list[VideoRecord] = []
        num_splits = max((s for v in self._listed.values() for s in v.sides), default=1)
        for name in self.names:
            record = self._record(self._checked[name], num_splits, problems)
            if record is not None:
                records.append(record)
        problems += self._same_content(records)
        problems += self._empty_classes(records)
        problems = list(dict.fromkeys(problems))
        if not records:
            raise AnnotationError(_say_nothing_left(self.root, problems))
        manifest = Manifest(tuple(records), self.classes, self.root)
        return PrepareReport(manifest, tuple(problems))

    def _record(
        self, video: CheckedVideo, num_splits: int, problems: list[Problem]
    ) -> VideoRecord | None:
        path, listed, facts = str(self.root / video.path), self._listed[video.path], video.facts
        if facts is None:
            what = video.error or "it cannot be decoded"
            remedy = "The video is left out; replace or remove the file."
            problems.append(Problem("broken video", path, what, remedy))
            return None
        if facts.frames_from_header and facts.frames < 0.9 * facts.frames_from_header:
            what = f"{facts.frames} of the {facts.frames_from_header} frames it claims decode"
            remedy = "The frames that decode are used; replace the file if it is cut off."
            problems.append(Problem("truncated video", path, what, remedy))
        return VideoRecord(
            path=video.path,
            label=listed.label,
            splits=tuple(listed.sides.get(split + 1, "") for split in range(num_splits)),
            frames=facts.frames,
            fps=facts.fps,
            width=facts.width,
            height=facts.height,
            sha256=facts.sha256,
        )

    def _same_content(self, records: Sequence[VideoRecord]) -> list[Problem]:
        """Problems of one content under two names, in train and test of one split."""
        by_content: dict[str, list[VideoRecord]] = defaultdict(list)
        for record in records:
            by_content[record.sha256].append(record)
        problems: list[Problem] = []
        for same in by_content.values():
            for split in range(len(same[0].splits) if len(same) > 1 else 0):
                trained = next((r for r in same if r.splits[split] == "train"), None)
                tested = next((r for r in same if r.splits[split] == "test"), None)
                if trained and tested:
                    where = self._listed[tested.path].origins[split + 1]
                    what = (
                        f"split {split + 1}: {tested.path!r} (test) has the content of "
                        f"{trained.path!r} (train)"
                    )
                    remedy = "Both are kept as listed; remove one to test on unseen videos only."
                    problems.append(Problem("same content in train and test", where, what, remedy))
        return problems

    def _empty_classes(self, records: Sequence[VideoRecord]) -> list[Problem]:
        used = {record.label for record in records}
        listed = {video.label for video in self._listed.values()}
        problems: list[Problem] = []
        for label, name in enumerate(self.classes):
            if label in used or (self.format == "folders" and label not in listed):
                continue
            found = "all its videos are broken" if label in listed else "no video of it was found"
            what = f"class {name!r} (label {label}): {found}"
            remedy = "The class is kept without videos; add some, or take it off the class list."
            problems.append(Problem("class without video", str(self.root), what, remedy))
        return problems


def prepare(
    source: Path | str,
    *,
    annotations: Path | str | None = None,
    format: Literal["auto"] | AnnotationFormat = "auto",
    workers: int = 1,
    check: bool = True,
    journal: Path | None = None,
) -> Preparation:
    """Read a data set's annotations and find its videos; iterating then checks them one by one.

        preparation = prepare("data/jhmdb", workers=2)
        for video in preparation:
            print(video.path, video.error or "good")
        preparation.report().write("work/jhmdb")

    What is wrong is collected as problems, and the videos concerned are left out. A video that
    is in train and in test of one split stays on the test side, so that what is tested on is
    what the lists say.

    Args:
        source: the data set. Its folder `videos` is where the videos are, or else itself.
        annotations: split file, or folder of them. Without it, the source's folders of
            `ANNOTATION_FOLDERS` and the source itself are looked through; where nothing is
            found, the folders that the videos lie in are their classes.
        format: form of the annotations; "auto" tells it from the files.
        workers: processes that decode.
        check: decode each video whole; otherwise frames are counted by their packets only.
        journal: file that keeps checks, see `check_videos`.

    Raises:
        InputError: `source` is no folder, or an option is wrong.
        AnnotationError: no video, or no annotation that can be used.
    """
    folder = Path(source)
    if not folder.is_dir():
        raise InputError(f"source {str(source)!r} is not a folder. Give the data set's folder.")
    if workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}.")
    root = folder / VIDEO_FOLDER if (folder / VIDEO_FOLDER).is_dir() else folder
    files, found = _find_annotations(folder, annotations, format)
    names = list_videos(root)
    if not names:
        raise AnnotationError(
            f"{root}: there is no video in it (looked for {', '.join(sorted(VIDEO_SUFFIXES))})."
        )
    usable = [name for name in names if is_video_name(name)]
    said = read_annotations(files, found, root=root, names=usable)
    bad = tuple(_bad_name(root, name) for name in names if not is_video_name(name))
    return Preparation(
        root,
        usable,
        replace(said, problems=(*bad, *said.problems)),
        format=found,
        workers=workers,
        check=check,
        journal=journal,
    )


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
    tested = {record.path for record in test.records}
    records = tuple(
        replace(record, splits=("test" if record.path in tested else "train",))
        for record in manifest.records
    )
    return replace(manifest, records=records)


def _find_annotations(
    source: Path, annotations: Path | str | None, format: Literal["auto"] | AnnotationFormat
) -> tuple[Path, AnnotationFormat]:
    """Where the annotation files are, and their format."""
    allowed = ("auto", *get_args(AnnotationFormat))
    if format not in allowed:
        raise UnknownNameError("annotation format", format, allowed)
    if format == "folders":
        return source, format
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
        return path, found
    for path in (*(source / name for name in ANNOTATION_FOLDERS), source):
        found = detect_format(path) if path.is_dir() else None
        if found is not None and format in ("auto", found):
            return path, found
    return source, "folders" if format == "auto" else format


def _match(
    root: Path, names: Sequence[str], annotations: Annotations, problems: list[Problem]
) -> dict[str, _Listed]:
    """What the entries say of each video that they name; adds what is wrong to `problems`."""
    hint_folders = {
        PurePosixPath(entry.path_hint.replace("\\", "/")).parent.name
        for entry in annotations.entries
    }
    index = VideoIndex(names, class_folders={*annotations.classes, *hint_folders})
    listed: dict[str, _Listed] = {}
    for entry in annotations.entries:
        class_name = annotations.classes[entry.label]
        hints = (entry.path_hint, *entry.alternatives)
        found = next((f for hint in hints if (f := index.find(hint, class_name=class_name))), ())
        if len(found) == 1:
            video = listed.setdefault(found[0], _Listed(entry.label, entry.origin))
            if problem := _add_entry(video, entry, found[0], annotations.classes):
                problems.append(problem)
        elif found:
            what = f"{entry.path_hint!r} may be {' or '.join(map(repr, found[:3]))}"
            remedy = "The line is left out; give the path from the folder of the videos."
            problems.append(Problem("ambiguous name", entry.origin, what, remedy))
        else:
            what = f"there is no video {entry.path_hint!r} in {root}"
            remedy = "The line is left out; add the file or remove the line."
            problems.append(Problem("missing file", entry.origin, what, remedy))
    return listed


def _add_entry(video: _Listed, entry: Entry, name: str, classes: tuple[str, ...]) -> Problem | None:
    if entry.label != video.label:
        what = (
            f"{name!r} is of class {classes[entry.label]!r} here and of "
            f"{classes[video.label]!r} in {video.origin}"
        )
        remedy = "The line is left out; correct one of the two."
        return Problem("conflicting label", entry.origin, what, remedy)
    before = video.sides.get(entry.split)
    earlier = video.origins.get(entry.split, "")
    if before is None or before == "":
        video.sides[entry.split] = entry.part
        video.origins[entry.split] = entry.origin
    if before is None or earlier == entry.origin:
        return None
    if {before, entry.part} == {"train", "test"}:
        video.sides[entry.split] = "test"
        if entry.part == "test":
            video.origins[entry.split] = entry.origin
        what = (
            f"{name!r} is in {entry.part} of split {entry.split} here and in {before} in {earlier}"
        )
        remedy = "The video is kept in test only; remove one of the two lines."
        return Problem("in train and test", entry.origin, what, remedy)
    what = f"{name!r} stands in {earlier} already"
    return Problem("listed twice", entry.origin, what, "It is used once; remove one line.")


def _bad_name(root: Path, name: str) -> Problem:
    what = "the file name holds line ends or characters that are not Unicode"
    shown = str(root / name).encode("utf-8", "backslashreplace").decode()
    return Problem("bad file name", repr(shown), what, "It is left out; rename the file.")


def _say_nothing_left(root: Path, problems: Sequence[Problem]) -> str:
    shown = "".join(f"\n  {p.where}: {p.what}" for p in problems[:5])
    return f"{root}: no video can be used. {len(problems)} problems were found:{shown}"
