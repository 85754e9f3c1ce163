"""A folder of class folders, with or without folders for train, validation and test above them.

videos/archery/a.mp4
videos/train/archery/a.mp4
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dualstream.clips.data.annotations.entries import (
    SET_WORDS,
    Annotations,
    ListLine,
    Problem,
    is_class_name,
    is_hidden,
    label_lines,
)


def read_folders(root: Path, names: Sequence[str]) -> Annotations:
    """Return the classes and sides of videos, told from the folders that they lie in.

    Videos may lie at any depth below their class folder.
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
