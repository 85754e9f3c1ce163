"""The checked list of a data set's videos: one CSV row a video, with classes and splits beside.

A manifest is a folder of three files:

    manifest.csv    path,label,split1,split2,split3,frames,fps,width,height,sha256
                    and, where a row may be a piece of a video, start_seconds,end_seconds; several
                    labels are `2;5`
    classes.txt     one class name a line; label 0 is the first
    dataset.yaml    videos: folder that the paths start from, absolute or from this folder
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

import yaml

from dualstream.clips.data.annotations.entries import is_class_name, read_class_list
from dualstream.clips.data.groups import choose_groups, deal_groups, group_videos
from dualstream.clips.data.intervals import Interval, seconds_text
from dualstream.errors import AnnotationError, InputError, check_choice, check_least
from dualstream.files import read_csv, read_text, replacing

Part = Literal["train", "test"]
"""The two sides of a split."""

MANIFEST_FILE, CLASSES_FILE, DATASET_FILE = "manifest.csv", "classes.txt", "dataset.yaml"

_FACTS = ("frames", "fps", "width", "height", "sha256")
_TIMES = ("start_seconds", "end_seconds")


def folder_of_manifest(path: str | os.PathLike[str]) -> Path:
    """Return the absolute folder of a manifest, given by its folder or its file."""
    given = Path(path).absolute()
    return given.parent if given.name == MANIFEST_FILE else given


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """One checked video of a data set, or an interval of one."""

    path: str
    """Path from the manifest's root, with `/` between folders; names the video's flow too."""
    label: int
    """Index of the class, from 0; of several the smallest."""
    splits: tuple[str, ...]
    """Side in each split: "train", "test", or "" where the split leaves the video out."""
    frames: int
    """Number of frames of the whole file that decode."""
    fps: float
    """Mean frame rate."""
    width: int
    """Pixels as displayed, like height."""
    height: int
    sha256: str
    """Checksum of the file in lower-case hexadecimal digits; "" where it is not known."""
    interval: Interval | None = None
    """The part of the video that is meant; None for all of it."""
    more_labels: tuple[int, ...] = ()
    """Further classes that are there at the same time, rising, above `label`."""

    def __post_init__(self) -> None:
        if not is_video_name(self.path):
            raise InputError(
                f"path {self.path!r} must be relative to the root of the videos, without '..', "
                "'.' or line ends."
            )
        check_least(0, label=self.label)
        if list(self.labels) != sorted(set(self.labels)):
            raise InputError(f"several labels must rise, got {';'.join(map(str, self.labels))}.")
        check_least(1, frames=self.frames, width=self.width, height=self.height)
        for side in self.splits:
            if side not in ("train", "test", ""):
                raise InputError(f"a split must be 'train', 'test' or empty, got {side!r}.")
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise InputError(f"fps must be above 0, got {self.fps}.")
        if self.sha256 and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise InputError(f"sha256 must be 64 hexadecimal digits or empty, got {self.sha256!r}.")

    @property
    def name(self) -> str:
        """Name of the row in scores and messages: its path, and its interval: `a.mp4#t=84,94`."""
        return self.path if self.interval is None else self.interval.name_in(self.path)

    @property
    def labels(self) -> tuple[int, ...]:
        """All classes, rising."""
        return (self.label, *self.more_labels)


@dataclass(frozen=True)
class Manifest:
    """The videos of a data set, their classes and splits."""

    records: tuple[VideoRecord, ...]
    """One a video or interval, names unique."""
    classes: tuple[str, ...]
    """Class names; a label is an index into them."""
    root: Path
    """Folder that the records' paths start from."""

    def __post_init__(self) -> None:
        for name, count in Counter(self.classes).items():
            if not is_class_name(name):
                raise InputError(
                    f"class name {name!r} is empty or holds blanks around it, line ends or "
                    "characters that are not Unicode."
                )
            if count > 1:
                raise InputError(f"class {name!r} stands {count} times.")
        names: set[str] = set()
        for record in self.records:
            if record.labels[-1] >= len(self.classes):
                raise InputError(
                    f"{record.name}: label {record.labels[-1]} is out of range of "
                    f"{len(self.classes)} classes."
                )
            if len(record.splits) != len(self.records[0].splits):
                raise InputError(
                    f"{record.name}: {len(record.splits)} splits, where the first record has "
                    f"{len(self.records[0].splits)}."
                )
            if record.name in names:
                raise InputError(f"{record.name}: two records have this name.")
            names.add(record.name)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def num_splits(self) -> int:
        """Number of split columns."""
        return len(self.records[0].splits) if self.records else 0

    @property
    def files(self) -> tuple[VideoRecord, ...]:
        """The first record of each video file: what is computed once a file goes by these."""
        return tuple({record.path: record for record in reversed(self.records)}.values())[::-1]

    @property
    def has_several_labels(self) -> bool:
        """Whether a row has more than one class."""
        return any(record.more_labels for record in self.records)

    def video_path(self, record: VideoRecord) -> Path:
        """File of a record."""
        return self.root / record.path

    @classmethod
    def read(cls, path: Path | str) -> Manifest:
        """Read a manifest from its folder or from its CSV file.

        `classes.txt` and `dataset.yaml` are looked for beside the CSV file; without the latter
        the paths start from that folder. Any number of columns split1, split2, ... is read.
        Whether the videos exist is not looked at.

        Raises:
            AnnotationError: a file is missing or wrong; the message names file and line.
        """
        file = Path(path)
        file = file / MANIFEST_FILE if file.is_dir() else file
        if not file.is_file():
            raise AnnotationError(
                f"{file}: there is no manifest here. `dualstream prepare` writes one."
            )
        folder = file.parent
        classes = read_class_list(folder / CLASSES_FILE, may_have_numbers=False)
        records = _read_records(file, classes)
        return cls(records=records, classes=classes, root=_read_root(folder))

    def write(self, folder: Path | str) -> None:
        """Write manifest.csv, classes.txt and dataset.yaml into `folder`, which is made if missing.

        Each file appears whole or not at all, manifest.csv last; an older one never stands beside
        classes of another data set, whenever the write is stopped. A root inside `folder` is
        written relative to it, so that the folder can be moved; another one is absolute.
        """
        target = Path(folder)
        root, base = self.root.resolve(), target.resolve()
        videos = root.relative_to(base).as_posix() if root.is_relative_to(base) else str(root)
        texts = {
            target / DATASET_FILE: yaml.safe_dump({"videos": videos}, allow_unicode=True),
            target / CLASSES_FILE: "".join(f"{name}\n" for name in self.classes),
        }
        with ExitStack() as stack:
            manifest = stack.enter_context(replacing(target / MANIFEST_FILE))
            with manifest.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                has_times = any(record.interval for record in self.records)
                writer.writerow(_columns(self.num_splits, has_times=has_times))
                for r in self.records:
                    facts = [getattr(r, name) for name in _FACTS]
                    labels = ";".join(map(str, r.labels))
                    writer.writerow([r.path, labels, *r.splits, *facts, *_times(r) * has_times])
            for path, text in texts.items():
                temporary = stack.enter_context(replacing(path))
                temporary.write_text(text, encoding="utf-8", newline="\n")
            if any(
                not path.is_file() or path.read_bytes() != text.encode()
                for path, text in texts.items()
            ):
                (target / MANIFEST_FILE).unlink(missing_ok=True)

    def subset(self, split: int, part: Part) -> Manifest:
        """Return the videos on one side of a split (numbered from 1), in the same order.

        Raises:
            InputError: there is no such split.
            AnnotationError: no video is on that side.
        """
        check_choice("part", part, Part)
        if not 1 <= split <= self.num_splits:
            raise InputError(f"split must be 1..{self.num_splits} for this manifest, got {split}.")
        chosen = tuple(r for r in self.records if r.splits[split - 1] == part)
        if not chosen:
            raise AnnotationError(
                f"Split {split} has no {part} video among {len(self)} (root {self.root}). Give "
                f"`dualstream prepare` the data set's split files, or fill column split{split}."
            )
        return replace(self, records=chosen)

    def hold_out(self, fraction: float, *, seed: int = 0) -> tuple[Manifest, Manifest]:
        """Return (kept, held out), to choose hyper-parameters on; both in this order.

        About `fraction` (above 0, below 1) of each class's videos is held out, and all clips of
        one source video (see `source_group`) go to the same side, with all files of the same
        content. A class of two or more such groups has at least one on each side; a class of one
        group is kept whole. The choice depends on the names, the contents and the seed only.

        Raises:
            InputError: `fraction` is out of range.
            AnnotationError: no class has two sources.
        """
        if not 0 < fraction < 1:
            raise InputError(f"fraction must be above 0 and below 1, got {fraction}.")
        return self._set_aside(lambda videos: choose_groups(videos, fraction=fraction, seed=seed))

    def fold(self, number: int, *, folds: int, seed: int = 0) -> tuple[Manifest, Manifest]:
        """Return (kept, held out) where fold `number` (from 1) of `folds` is held out.

        No video is in two folds, and as in `hold_out` all clips of a source go together. Only
        the videos of a class of one source are in no fold.

        Raises:
            InputError: fewer than 2 folds, or no such fold.
            AnnotationError: the fold is empty.
        """
        if folds < 2 or not 1 <= number <= folds:
            raise InputError(f"There must be 2 folds or more, got number {number} of {folds}.")
        return self._set_aside(
            lambda videos: deal_groups(videos, folds=folds, seed=seed)[number - 1]
        )

    def _set_aside(
        self, choose: Callable[[list[tuple[int, str]]], frozenset[str]]
    ) -> tuple[Manifest, Manifest]:
        """Return (kept, set aside) by the groups that are chosen of (label, group) videos."""
        groups = group_videos([(r.path, r.sha256) for r in self.records])
        held = choose([(r.label, group) for r, group in zip(self.records, groups, strict=True)])
        if not held:
            raise AnnotationError(
                f"Nothing can be held out of {len(self)} videos: every class has clips or copies "
                "of too few source videos. Give the test part of the split files instead."
            )
        kept, aside = (
            tuple(r for r, g in zip(self.records, groups, strict=True) if (g in held) == is_held)
            for is_held in (False, True)
        )
        return replace(self, records=kept), replace(self, records=aside)


_PLAIN_NAME = re.compile(r"(?!\.{0,2}(?:/|$))(?:[\w .()+,=@-]|/(?!\.{0,2}(?:/|$)))+", re.ASCII)
"""Names that need no closer look: parts of plain characters, none of them empty, `.` or `..`."""


def is_video_name(path: str) -> bool:
    """Whether a text can name a video: a relative path in its shortest form, one line of UTF-8.

    It must stay inside the folder that it is joined to on any operating system: `/a.mp4`,
    `C:\\a.mp4` and `../a.mp4` are refused, and `./a.mp4` as a second name of `a.mp4`.
    """
    if _PLAIN_NAME.fullmatch(path):  # nearly all are: a manifest may have millions
        return True
    windows = PureWindowsPath(path)
    if windows.root or Path(path).drive or ".." in windows.parts or path in ("", "."):
        return False
    if re.search(r"[\0\r\n\ud800-\udfff]", path):
        return False
    return str(PurePosixPath(path)) == path


def _read_root(folder: Path) -> Path:
    path = folder / DATASET_FILE
    if not path.is_file():
        return folder
    try:
        content = yaml.safe_load(read_text(path, error=AnnotationError))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2020-13-01
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise AnnotationError(f"{path}:{line}: this is not YAML.") from None
    if content is None:
        return folder
    if not isinstance(content, dict) or not isinstance(content.get("videos", ""), str):
        raise AnnotationError(f"{path}: must hold `videos: FOLDER`, found {content!r}.")
    if unknown := sorted(str(key) for key in content if key != "videos"):
        raise AnnotationError(f"{path}: unknown key {unknown[0]!r}; the only key is 'videos'.")
    return folder / Path(content.get("videos", "")).expanduser()


def _times(record: VideoRecord) -> list[str]:
    """Cells of the interval, empty where all of the video is meant."""
    found = record.interval
    return [seconds_text(getattr(found, name)) if found else "" for name in _TIMES]


def _columns(num_splits: int, *, has_times: bool) -> list[str]:
    splits = (f"split{i + 1}" for i in range(num_splits))
    return ["path", "label", *splits, *_FACTS, *_TIMES * has_times]


def _read_records(path: Path, classes: tuple[str, ...]) -> tuple[VideoRecord, ...]:
    rows = read_csv(path, error=AnnotationError)
    names = [name.strip() for name in next(rows, (1, []))[1]]
    has_times = any(name in names for name in _TIMES)
    columns = _columns(sum(name.startswith("split") for name in names), has_times=has_times)
    if names != columns:
        missing = [name for name in columns if name not in names]
        found = f"column {missing[0]!r} is missing" if missing else f"found {','.join(names)}"
        raise AnnotationError(f"{path}:1: {found}. The columns must be {','.join(columns)}.")
    records: dict[str, VideoRecord] = {}
    line_of: dict[str, int] = {}
    for line, cells in rows:
        try:
            record = _parse_row(columns, cells)
            if record.labels[-1] >= len(classes):
                raise InputError(
                    f"label {record.labels[-1]} is out of range: {path.parent / CLASSES_FILE} has "
                    f"{len(classes)} classes, so labels are 0..{len(classes) - 1}."
                )
            if record.name in records:
                raise InputError(
                    f"{record.name!r} stands in line {line_of[record.name]} already. Remove one "
                    "of the two."
                )
        except InputError as error:
            raise AnnotationError(f"{path}:{line}: {error}") from None
        records[record.name], line_of[record.name] = record, line
    if not records:
        raise AnnotationError(f"{path}: the manifest lists no video. Run `dualstream prepare`.")
    return tuple(records.values())


def _parse_row(columns: Sequence[str], cells: Sequence[str]) -> VideoRecord:
    if len(cells) != len(columns):
        raise InputError(f"{len(cells)} cells, where the header has {len(columns)}.")
    row = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
    label, *more_labels = (_whole("label", cell) for cell in row["label"].split(";"))
    whole = {name: _whole(name, row[name]) for name in ("frames", "width", "height")}
    try:
        fps = float(row["fps"])
    except ValueError:
        raise InputError(f"fps must be a number, got {row['fps']!r}.") from None
    splits = tuple(row[name] for name in columns if name.startswith("split"))
    start, end = (row.get(name, "") for name in _TIMES)
    return VideoRecord(
        path=cells[0],
        label=label,
        splits=splits,
        fps=fps,
        sha256=row["sha256"],
        interval=Interval.parse(start, end) if start or end else None,
        more_labels=tuple(more_labels),
        **whole,
    )


def _whole(name: str, cell: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", cell.strip()):
        raise InputError(f"{name} must be a whole number, got {cell!r}.")
    return int(cell)
