"""Something-Something: version 2's JSON files and version 1's CSV files.

    something-something-v2-train.json    [{"id": "78687", "label": "holding potato next to vicks",
                                           "template": "Holding [something] next to [something]"}]
    something-something-v2-labels.json   {"Holding something next to something": "41", ...}
    something-something-v1-train.csv     100218;Something falling like a feather or paper
    something-something-v1-labels.csv    Holding something

Videos are `<id>.webm` (version 1 is published as folders of frames, to be made into videos first).
Source: the data set's own files; a template's class is the template without its brackets. Test
sets hold no labels and are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dualstream.clips.data.annotations.class_lists import NamedVideo, label_videos
from dualstream.clips.data.annotations.entries import (
    Annotations,
    Problem,
    annotation_files,
    empty_list,
    listed_set,
    numbered_lines,
)
from dualstream.errors import AnnotationError
from dualstream.files import first_line, read_json, read_text


def is_something(file: Path) -> bool:
    """Whether a file is a list of Something-Something (its labels file is none)."""
    if not listed_set(file.stem):
        return False
    if file.suffix.lower() == ".json":
        return first_line(file).startswith("[")
    return file.suffix.lower() == ".csv" and bool(re.match(r"[0-9]+(;|$)", first_line(file)))


def read_something(path: Path) -> Annotations:
    """Read a folder of Something-Something's lists, or one of them; the labels lie beside.

    Raises:
        AnnotationError: the labels file is wrong, or a JSON file is no list.
    """
    problems: list[Problem] = []
    videos: list[NamedVideo] = []
    for file in annotation_files(path, is_something):
        read = _read_json if file.suffix.lower() == ".json" else _read_csv
        listed = list(read(file, problems))
        named = [video for video in listed if video.class_name]
        if len(named) < len(listed):
            what = f"{len(listed) - len(named)} of {len(listed)} videos have no label"
            problems.append(Problem("no label", str(file), what, "They are left out."))
        elif not listed:
            problems.append(empty_list(file))
        videos += named
    label_file = next(
        iter(annotation_files(path if path.is_dir() else path.parent, _is_labels)), None
    )
    classes = _read_labels(label_file) if label_file else None
    return label_videos(videos, problems, classes=classes, class_list=label_file)


def _is_labels(file: Path) -> bool:
    return file.stem.lower().endswith("labels") and file.suffix.lower() in (".json", ".csv")


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


def _read_json(path: Path, problems: list[Problem]) -> Iterator[NamedVideo]:
    for line, item in _json_items(path):
        where = f"{path}:{line}"
        if not isinstance(item, dict) or not str(item.get("id", "")).strip():
            remedy = 'The item is left out; write {"id": ..., "template": ...}.'
            problems.append(Problem("malformed line", where, f"found {item!r:.80}", remedy))
            continue
        name = str(item.get("template", "")).replace("[", "").replace("]", "").strip()
        yield NamedVideo(where, str(item["id"]).strip(), name, listed_set(path.stem))


def _json_items(path: Path) -> Iterator[tuple[int, Any]]:
    """(line, value) of each item of a JSON list."""
    text = read_text(path, error=AnnotationError)
    decoder = json.JSONDecoder()
    blank = re.compile(r"\s*")

    def skip(position: int) -> int:
        match = blank.match(text, position)
        return match.end() if match else position

    position, line, counted = skip(0), 1, 0
    if text[position : position + 1] != "[":
        raise AnnotationError(f"{path}:1: must be a JSON list of videos.")
    position = skip(position + 1)
    while text[position : position + 1] != "]":
        line, counted = line + text.count("\n", counted, position), position
        try:
            item, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            found = getattr(error, "lineno", line)
            raise AnnotationError(f"{path}:{found}: this is not JSON ({error}).") from None
        yield line, item
        position = skip(end)
        if text[position : position + 1] == ",":
            position = skip(position + 1)
        elif text[position : position + 1] != "]":
            raise AnnotationError(f"{path}:{line}: a comma or the list's end is missing after it.")


def _read_csv(path: Path, problems: list[Problem]) -> Iterator[NamedVideo]:
    for number, line in numbered_lines(path):
        where = f"{path}:{number}"
        stem, _, name = (part.strip() for part in line.partition(";"))
        if not stem:
            remedy = "The line is left out; write `id;class name`."
            problems.append(Problem("malformed line", where, f"found {line!r}", remedy))
            continue
        yield NamedVideo(where, stem, name, listed_set(path.stem))
