"""The documentation builds without a warning, and what it tells people to type can be typed."""

from __future__ import annotations

import ast
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer.main

import dualstream
from dualstream.cli.app import app
from dualstream.engine.pair_recipe import list_pairs, load_pair
from dualstream.engine.recipe import list_recipes, load_recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"^(?:torchrun .* -m )?(dualstream .*)$")


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each code block."""
    text = page.read_text(encoding="utf-8")
    yield from re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """Page and command line of each `dualstream ...` in a code block."""
    found = []
    for page in PAGES:
        for language, text in blocks(page):
            if language == "python":
                continue
            lines = text.replace("\\\n", " ").splitlines()
            if language == "console":  # the others are what was printed
                lines = [line[2:] for line in lines if line.startswith("$ ")]
            for line in lines:
                if match := COMMAND.match(line.strip()):
                    one = re.sub(r"\$\w+", "1", match[1])
                    found.append((page.relative_to(ROOT).as_posix(), one))
    return found


def parsed(command: str) -> tuple[list[str], dict[str, object]]:
    """Verbs and values of a command line, as the real one reads it; nothing is run.

    Raises:
        click.ClickException: a verb, an option or an argument is wrong.
    """
    words = shlex.split(re.split(r"\s[|>&]|\s#", command)[0])[1:]
    parser: click.Command = typer.main.get_command(app)
    verbs = ["dualstream"]
    while isinstance(parser, click.Group) or hasattr(parser, "commands"):
        context = parser.make_context(verbs[-1], words)
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        name, child, words = parser.resolve_command(context, rest)  # type: ignore[attr-defined]
        verbs.append(str(name))
        parser = child
    return verbs, parser.make_context(verbs[-1], words).params


@pytest.mark.parametrize(("page", "command"), dict.fromkeys(commands()))
def test_a_command_can_be_given(page: str, command: str) -> None:
    if "--help" in command or command.split()[1].startswith(("VERB", "-")):
        return
    try:
        verbs, values = parsed(command)
    except click.ClickException as error:
        if "does not exist" in error.format_message():
            return  # the files of the page are not here
        raise
    recipe, overrides = values.get("recipe"), values.get("overrides") or []
    if verbs[1] == "train" and recipe in list_pairs():
        load_pair(str(recipe), overrides)  # type: ignore[arg-type]
    elif verbs[1] in ("train", "transfer", "expand") and recipe in list_recipes():
        load_recipe(str(recipe), overrides)  # type: ignore[arg-type]


def test_there_are_many_commands() -> None:
    pages = {page for page, _ in commands()}
    assert {"README.md", "docs/guide/own_data.md", "docs/networks/tsn.md"} <= pages
    assert len(commands()) > 120


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_names_what_there_is(page: Path) -> None:
    for language, text in blocks(page):
        if language == "python":
            for node in ast.walk(ast.parse(text)):
                named = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
                if named and node.value.id == "ds":  # type: ignore[attr-defined]
                    assert node.attr in dir(dualstream), f"{page.name}: ds.{node.attr}"  # type: ignore[attr-defined]


def test_the_site_builds_without_a_warning_and_loads_nothing_from_outside(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed (dualstream[docs])")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert built.returncode == 0, built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) >= len(PAGES) - 1  # all but README, which stands beside docs
    loaded = re.compile(
        r"<(?:script|img|iframe|source)[^>]* src=\"?https?:|<link[^>]* href=\"?https?:"
    )
    for page in pages:
        assert not loaded.search(page.read_text(encoding="utf-8")), page


def test_figures_are_as_their_script_draws_them() -> None:
    drawn = runpy.run_path(str(ROOT / "docs" / "figures" / "draw.py"))
    for name, figure in drawn["FIGURES"].items():
        file = ROOT / "docs" / "figures" / f"{name}.svg"
        assert file.read_text(encoding="utf-8") == drawn["svg"](figure)
