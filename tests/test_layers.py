"""Imports go down the layers of the architecture, in no circle; heavy ones wait until needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "dualstream"
LEVELS = {
    "errors": 0,
    "version": 0,
    "files": 0,
    "jobs": 0,
    "types": 0,
    "unpickle": 0,
    "video": 1,
    "flow": 2,
    "clips": 3,
    "models": 4,
    "scores": 5,
    "report": 6,
    "engine": 7,
    "deploy": 8,
    "serve": 8,
    "recipes": 9,
    "cli": 9,
    "__main__": 9,
}
ONLY_LEVEL_0 = {"models", "scores"}
KNOWN_CIRCLES: set[tuple[str, str]] = set()
"""Imports (of a file, what it imports) that close a circle today. To be emptied, never added to."""
HEAVY = ("torch", "cv2", "av", "timm", "sklearn", "matplotlib", "lightning", "torchvision", "scipy")


class Import(NamedTuple):
    """One import of this package in a file."""

    line: int
    module: str


def module_name(path: Path, source: Path) -> str:
    """'dualstream.clips.loader' of `source`/clips/loader.py, 'dualstream.clips' of its __init__."""
    parts = [source.name, *path.relative_to(source).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, modules: set[str]) -> list[Import]:
    """Every import of this package in a file, those in functions and for types included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            # `from dualstream.video import probe` names a file or something in __init__.
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules else str(node.module) for name in inside]
        else:
            continue
        found += [Import(node.lineno, name) for name in names if name.split(".")[0] == "dualstream"]
    return found


def graph(source: Path) -> dict[str, list[Import]]:
    """File -> what it imports, without the package root's own file."""
    paths = {module_name(path, source): path for path in sorted(source.rglob("*.py"))}
    return {name: imports(path, set(paths)) for name, path in paths.items() if name != source.name}


def problems(name: str, imported: list[Import]) -> list[str]:
    """Imports of one file that the architecture forbids."""
    own = name.split(".")[1]
    if own not in LEVELS:
        return [f"{name} belongs to no level"]
    highest = 0 if own in ONLY_LEVEL_0 else LEVELS[own]
    found = []
    for line, module in imported:
        part = module.partition(".")[2].partition(".")[0]
        if not part:
            found.append(f"{name}, line {line}: imports the package root; name the file instead")
        elif part != own and LEVELS[part] > highest:
            found.append(f"{name}, line {line}: level {LEVELS[own]} imports {module}")
    return found


def circle(files: dict[str, list[Import]]) -> list[str]:
    """One circle of imports, a line a step; empty where there is none."""
    nodes = {
        name: [found.module for found in imported if (name, found.module) not in KNOWN_CIRCLES]
        for name, imported in files.items()
    }
    try:
        TopologicalSorter(nodes).prepare()
    except CycleError as error:
        steps = error.args[1][::-1]  # each file imports the next one
        return [f"{a} imports {b}" for a, b in pairwise(steps)]
    return []


FILES = graph(SOURCE)


@pytest.mark.parametrize("name", FILES)
def test_imports_go_down(name: str) -> None:
    assert problems(name, FILES[name]) == []


def test_no_circle_of_imports() -> None:
    assert circle(FILES) == []


def test_forbidden_imports_are_found(tmp_path: Path) -> None:
    source = tmp_path / "dualstream"
    for name, text in {
        "models/a.py": "from dualstream.models import b\nimport dualstream.video.c\n",
        "models/b.py": "def later():\n    from dualstream.models.a import x\n",
        "video/c.py": "import dualstream\nfrom dualstream import cli\nimport dualstream.errors\n",
        "cli/__init__.py": "",
        "else.py": "",
        "errors.py": "",
    }.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    files = graph(source)
    assert [problem for name in files for problem in problems(name, files[name])] == [
        "dualstream.else belongs to no level",
        "dualstream.models.a, line 2: level 4 imports dualstream.video.c",
        "dualstream.video.c, line 1: imports the package root; name the file instead",
        "dualstream.video.c, line 2: level 1 imports dualstream.cli",
    ]
    assert set(circle(files)) == {
        "dualstream.models.a imports dualstream.models.b",
        "dualstream.models.b imports dualstream.models.a",
    }


@pytest.mark.parametrize("module", ["dualstream", "dualstream.cli.app"])
def test_start_up_imports_nothing_heavy(module: str) -> None:
    code = f"import {module}, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_prediction_needs_no_trainer_and_i3d_no_timm() -> None:
    code = (
        "import dualstream.engine.infer.predictor, dualstream.models.zoo.i3d, sys; "
        "print([m for m in ('lightning', 'timm', 'torchvision') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
