"""Readers of the annotation files that data sets are published with: tables here, lists beside.

Kinetics-400, -600 and -700 (source: the CSV files of DeepMind's kinetics400.tar.gz,
kinetics600.tar.gz and kinetics700_2020.tar.gz). Videos are named `<id>_000084_000094.mp4` as the
usual download scripts write them, or `<id>.mp4`, with or without class folders; of an `<id>.mp4`
that is longer than its interval, the interval is meant:

    label,youtube_id,time_start,time_end,split
    testifying,---QUuC4vJs,84,94,validate

Something-Something (source: the data set's own files; a template's class is the template without
its brackets). Videos are `<id>.webm`; version 1 is published as folders of frames, to be made into
videos first. Test sets hold no labels and are left out:

    something-something-v2-train.json    [{"id": "78687", "label": "holding potato next to vicks",
                                           "template": "Holding [something] next to [something]"}]
    something-something-v2-labels.json   {"Holding something next to something": "41", ...}
    something-something-v1-train.csv     100218;Something falling like a feather or paper
    something-something-v1-labels.csv    Holding something
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from dualstream.clips.data.annotations.boris import is_boris, is_of_boris, read_boris
from dualstream.clips.data.annotations.elan import is_elan, is_of_elan, read_elan
from dualstream.clips.data.annotations.entries import (
    SET_WORDS,
    Annotations,
    ListLine,
    Problem,
    ProblemKind,
    annotation_files,
    collect_lines,
    find_class_list,
    is_class_name,
    is_hidden,
    label_lines,
    listed_set,
    malformed,
    numbered_lines,
    read_class_list,
)
from dualstream.clips.data.annotations.interval_tables import is_intervals, read_intervals
from dualstream.clips.data.annotations.lists import (
    LIST_SUFFIXES,
    is_hmdb51,
    is_list,
    is_sports1m,
    is_ucf101,
    read_hmdb51,
    read_lists,
    read_sports1m,
    read_ucf101,
)
from dualstream.clips.data.intervals import Interval
from dualstream.errors import AnnotationError, check_choice
from dualstream.files import first_line, read_csv, read_json, read_text

_KINETICS_ROW = "label,youtube_id,time_start,time_end,split"


def is_kinetics(file: Path) -> bool:
    """Whether a file is a CSV with Kinetics' columns."""
    if file.suffix.lower() != ".csv":
        return False
    return "youtube_id" in [name.strip() for name in first_line(file).split(",")]


def read_kinetics(path: Path) -> Annotations:
    """Read a folder of Kinetics CSV files, or one of them.

    The set of a row is its column `split` (train, val/validate, test) or else the file's name. The
    classes are those of a class list in the folder, or else all labels in alphabetical order.
    """
    class_list = find_class_list(path)
    classes = read_class_list(class_list) if class_list else None
    lines, problems = collect_lines(path, is_kinetics, _read_kinetics)
    return label_lines(lines, problems, classes=classes, class_list=class_list)


def _read_kinetics(file: Path) -> Iterator[ListLine | Problem]:
    rows = read_csv(file, error=AnnotationError, strict=False)
    header = [name.strip() for name in next(rows, (1, []))[1]]
    for name in _KINETICS_ROW.split(",")[:-1]:
        if name not in header:
            remedy = f"The file is left out; its columns must be {_KINETICS_ROW}."
            kind: ProblemKind = "no label" if name == "label" else "malformed line"
            yield Problem(kind, f"{file}:1", f"column {name!r} is missing", remedy)
            return
    for number, cells in rows:
        where, row = f"{file}:{number}", dict(zip(header, map(str.strip, cells), strict=False))
        try:
            interval = Interval.parse(row["time_start"], row["time_end"])
            youtube_id, name = row["youtube_id"], row["label"].strip('"')
        except (KeyError, ValueError, OverflowError):
            youtube_id = name = ""
        if not youtube_id or not name:
            yield malformed(where, ",".join(cells), f"write {_KINETICS_ROW}")
            continue
        listed = listed_set(row.get("split", "")) or listed_set(file.stem)
        start, end = int(interval.start_seconds), int(interval.end_seconds)
        stem = f"{youtube_id}_{start:06d}_{end:06d}"
        line = ListLine(where, stem, listed, name, alternatives=(youtube_id,))
        yield replace(line, interval=interval, is_cut=True)


_SEPARATOR = re.compile(r"\s*(?:,\s*|(?=\]))")


def is_something(file: Path) -> bool:
    """Whether a file is a list of Something-Something (its labels file is none)."""
    if not listed_set(file.stem):
        return False
    if file.suffix.lower() == ".json":
        return first_line(file).startswith("[")
    return file.suffix.lower() == ".csv" and bool(re.match(r"[0-9]+(;|$)", first_line(file)))


def read_something(path: Path) -> Annotations:
    """Read a folder of Something-Something's lists, or one of them; the labels lie beside."""
    lines, problems = collect_lines(path, is_something, _read_something)
    files = annotation_files(
        path if path.is_dir() else path.parent,
        lambda file: bool(re.fullmatch(r".*labels\.(json|csv)", file.name.lower())),
    )
    label_file = files[0] if files else None
    classes = _read_labels(label_file) if label_file else None
    return label_lines(lines, problems, classes=classes, class_list=label_file)


def _read_something(file: Path) -> Iterator[ListLine | Problem]:
    is_json = file.suffix.lower() == ".json"
    remedy = 'write {"id": ..., "template": ...}' if is_json else "write `id;class name`"
    num_videos = num_unlabelled = 0
    for number, item in _json_items(file) if is_json else numbered_lines(file):
        stem = name = ""
        if not is_json:
            stem, _, name = (part.strip() for part in item.partition(";"))
        elif isinstance(item, dict):
            stem = str(item.get("id", "")).strip()
            name = re.sub(r"[\[\]]", "", str(item.get("template", ""))).strip()
        num_videos += 1
        if not stem:
            yield malformed(f"{file}:{number}", f"{item!r:.80}", remedy)
        elif name:
            yield ListLine(f"{file}:{number}", stem, listed_set(file.stem), name)
        else:
            num_unlabelled += 1
    if num_unlabelled:
        what = f"{num_unlabelled} of {num_videos} videos have no label"
        yield Problem("no label", str(file), what, "They are left out.")


def _read_labels(path: Path) -> tuple[str, ...]:
    if path.suffix.lower() == ".csv":
        return tuple(line for _, line in numbered_lines(path))
    content = read_json(path, error=AnnotationError)
    labels = {str(v): str(k) for k, v in content.items()} if isinstance(content, dict) else {}
    expected = [str(i) for i in range(len(labels))]
    if not labels or set(labels) != set(expected) or len(labels) != len(content):
        raise AnnotationError(
            f'{path}: must hold {{"class name": "label"}} with each label from 0 on once.'
        )
    return tuple(labels[i] for i in expected)


def _json_items(path: Path) -> Iterator[tuple[int, Any]]:
    """(line, value) of each item of a JSON list."""
    text = read_text(path, error=AnnotationError)
    start = re.match(r"\s*\[\s*", text)
    if start is None:
        raise AnnotationError(f"{path}:1: must be a JSON list of videos.")
    decoder, position, line, counted = json.JSONDecoder(), start.end(), 1, 0
    while not text.startswith("]", position):
        line, counted = line + text.count("\n", counted, position), position
        try:
            item, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            found = getattr(error, "lineno", line)
            raise AnnotationError(f"{path}:{found}: this is not JSON ({error}).") from None
        yield line, item
        separator = _SEPARATOR.match(text, end)
        if separator is None:
            raise AnnotationError(f"{path}:{line}: a comma or the list's end is missing after it.")
        position = separator.end()


def read_folders(root: Path, names: Sequence[str]) -> Annotations:
    """Return the classes and sides of videos, told from the folders that they lie in.

    `archery/a.mp4` or, with folders for train, validation and test, `train/archery/a.mp4`, at any
    depth below the class folder.
    """
    top = _folders_in(root)
    sets = {f.name: SET_WORDS[f.name.lower()] for f in top if f.name.lower() in SET_WORDS}
    # A class may be called `train`; with `val` or `test` beside it, it is the training set.
    has_sets = len(sets) == len(top) or (len(set(sets.values())) > 1 and "train" in sets.values())
    depth = 1 if has_sets else 0
    class_folders = [f for s in sets for f in _folders_in(root / s)] if has_sets else top
    classes = tuple(sorted(filter(is_class_name, {f.name.strip() for f in class_folders})))
    labels = {name: i for i, name in enumerate(classes)}
    lines: list[ListLine] = []
    problems: list[Problem] = []
    used: set[Path] = set()
    for name in names:
        folders, where = name.split("/")[:-1], str(root / name)
        known = len(folders) > depth and (not has_sets or folders[0] in sets)
        label = labels.get(folders[depth].strip()) if known else None
        if label is None:
            remedy = "It is left out; move it into its class's folder."
            what = "the video lies in no class folder"
            problems.append(Problem("outside class folders", where, what, remedy))
            continue
        used.add(root.joinpath(*folders[: depth + 1]))
        lines.append(ListLine(where, name, sets[folders[0]] if has_sets else "", label=label))
    for folder in class_folders:
        if folder not in used and is_class_name(folder.name.strip()):
            remedy = "Put videos into it, or remove it."
            what = "the class folder holds no video"
            problems.append(Problem("class without video", str(folder), what, remedy))
    return label_lines(lines, problems, classes=classes)


def _folders_in(folder: Path) -> list[Path]:
    """Folders of data: neither the system's own nor written by `dualstream prepare`."""
    found = sorted(f for f in folder.iterdir() if f.is_dir() and not is_hidden(f.name))
    written = ("manifest.csv", "checked.jsonl", "checked.csv")
    return [f for f in found if not any((f / name).is_file() for name in written)]


_OfVideos = Literal["folders", "ucf101", "hmdb51", "kinetics", "something", "sports1m"]
AnnotationFormat = Literal[_OfVideos, "intervals", "boris", "elan", "list"]

_READERS: dict[AnnotationFormat, tuple[Callable[[Path], bool], Callable[[Path], Annotations]]] = {
    "ucf101": (is_ucf101, read_ucf101),
    "hmdb51": (is_hmdb51, read_hmdb51),
    "kinetics": (is_kinetics, read_kinetics),
    "something": (is_something, read_something),
    "sports1m": (is_sports1m, read_sports1m),
    "intervals": (is_intervals, read_intervals),
    "boris": (is_boris, read_boris),
    "elan": (is_elan, read_elan),
    "list": (is_list, read_lists),
}
"""How a file of each format is told, and how it is read; the first one that fits is taken."""


def detect_format(path: Path) -> AnnotationFormat | None:
    """Return the format of an annotation file, or of the annotation files that lie in a folder.

    None: there are none, so that the folders alone tell the classes.
    """
    for format, (matches, _) in _READERS.items():
        if any(matches(file) for file in annotation_files(path, matches)):
            return format
    return "list" if path.suffix.lower() in LIST_SUFFIXES and path.is_file() else None


_PROGRAMS: dict[AnnotationFormat, tuple[str, Callable[[Path], bool]]] = {
    "boris": ("BORIS", is_of_boris),
    "elan": ("ELAN", is_of_elan),
}
"""Formats that are exports of a program: its name, and whether a file is its, readable or not."""


def unread_lists(folder: Path, format: AnnotationFormat) -> list[Problem]:
    """Return problems of files that seem to be annotations but are not read in this format.

    They are called as lists are (`val.csv`), or are of BORIS or ELAN: damaged exports, and these
    programs' own files where the format is another than their exports.
    """
    is_read = _READERS[format][0] if format in _READERS else lambda file: False
    problems = []
    for file in annotation_files(folder, lambda file: not is_read(file)):
        found = (of for of, (_, is_its) in _PROGRAMS.items() if of != format and is_its(file))
        program = next((_PROGRAMS[of][0] for of in found), None)
        if listed_set(file.stem):
            what = f"it is no list of the form {format!r}"
            remedy = "It is left out; name it and its form with --splits and --format to read it."
        elif program is not None:
            what = f"it is a file of {program} but no export of it that can be read"
            remedy = f"It is left out; export the intervals from {program} again, as CSV or tabs."
        else:
            continue
        problems.append(Problem("unread list", str(file), what, remedy))
    return problems


def read_annotations(
    path: Path, format: AnnotationFormat, *, root: Path, names: Sequence[str]
) -> Annotations:
    """Read annotations of a known format: a file, or a folder of such files.

    For "folders" the paths `names` of the videos from `root` are looked at, and else `path`.

    Raises:
        UnknownNameError: `format` is not one of the allowed names.
        AnnotationError: nothing in the files can be used.
    """
    check_choice("annotation format", format, AnnotationFormat)
    if format == "folders":
        return read_folders(root, names)
    if not path.exists():
        raise AnnotationError(f"{path}: there is no such file or folder.")
    annotations = _READERS[format][1](path)
    if not annotations.entries:
        first = annotations.problems[0] if annotations.problems else None
        found = (
            f" First of {len(annotations.problems)}: {first.where}: {first.what}." if first else ""
        )
        raise AnnotationError(f"{path}: no video is listed in the form {format!r}.{found}")
    for name in annotations.classes:
        if not is_class_name(name):
            raise AnnotationError(
                f"{path}: class name {name!r} holds line ends or characters that are not Unicode."
            )
    return annotations
