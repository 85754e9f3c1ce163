"""Imports go down the layers of the architecture, never up; heavy ones wait until needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "dualstream"
LEVELS = {
    "errors": 0,
    "types": 0,
    "atomic": 0,
    "unpickle": 0,
    "video": 1,
    "flow": 2,
    "clips": 3,
    "models": 4,
    "scores": 5,
    "report": 6,
    "engine": 7,
    "recipes": 8,
    "cli": 9,
    "serve": 9,
    "__main__": 9,
}
ONLY_LEVEL_0 = {"models", "scores"}
HEAVY = ("torch", "cv2", "av", "timm", "sklearn", "matplotlib", "lightning", "torchvision", "scipy")


def part_of(path: Path) -> str:
    """'clips' for src/dualstream/clips/dataset.py, 'types' for src/dualstream/types.py."""
    relative = path.relative_to(SOURCE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported_parts(path: Path) -> list[tuple[int, str]]:
    """(line, part) of every import of this package in a file, those in functions included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            # `from dualstream import x` names a part or something of __init__.
            names = (
                [f"dualstream.{alias.name}" for alias in node.names]
                if module == "dualstream"
                else [module]
            )
        else:
            continue
        parts = [name.split(".")[1] for name in names if name.startswith("dualstream.")]
        found += [(node.lineno, part) for part in parts if part in LEVELS]
    return found


def files() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down(path: Path) -> None:
    own = part_of(path)
    assert own in LEVELS, f"{path} belongs to no layer"
    for line, part in imported_parts(path):
        if part == own:
            continue
        allowed = 0 if own in ONLY_LEVEL_0 else LEVELS[own]
        sideways = LEVELS[part] == LEVELS[own] and LEVELS[own] in (0, 9)
        down = LEVELS[part] <= allowed and (LEVELS[part] < LEVELS[own] or sideways)
        assert down, (
            f"{path}:{line}: {own} (level {LEVELS[own]}) imports {part} (level {LEVELS[part]})"
        )


def test_an_upward_import_is_found(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("import dualstream.engine.train\nfrom dualstream import cli, types\n")
    assert imported_parts(path) == [(1, "engine"), (2, "cli"), (2, "types")]


@pytest.mark.parametrize("module", ["dualstream", "dualstream.cli.app"])
def test_start_up_imports_nothing_heavy(module: str) -> None:
    code = f"import {module}, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_prediction_needs_no_trainer_and_i3d_no_timm() -> None:
    code = (
        "import dualstream.engine.predict, dualstream.models.i3d, sys; "
        "print([m for m in ('lightning', 'timm', 'torchvision') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
