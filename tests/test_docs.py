"""The documentation is built without a warning, and what it tells to type can be typed."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml

import dualstream as ds
from dualstream.cli.app import app
from dualstream.engine.pair_recipe import holds_streams, load_pair
from dualstream.engine.recipe import load_recipe
from dualstream.engine.run.checkpoint import build_model
from dualstream.engine.trajectory_recipe import holds_trajectories, load_trajectory_recipe
from dualstream.flow.methods.lookup import check_flow_name
from dualstream.models import MODELS, WEIGHTS, set_trainable
from dualstream.models.create import network_options
from dualstream.models.weights import weights_entry

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *kinds: str) -> list[str]:
    """Fenced blocks of a page whose language is one of `kinds`, with continued lines joined."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
    return [text.replace("\\\n", " ") for kind, text in found if kind in kinds]


def typed(page: Path) -> Iterator[str]:
    """Lines of a page's console and plain blocks that are typed into a shell."""
    for block in blocks(page, "console", "", "bash", "sh"):
        lines = [line.strip() for line in block.splitlines()]
        prompted = [line[2:] for line in lines if line.startswith("$ ")]
        yield from prompted or lines


def commands(page: Path) -> Iterator[list[str]]:
    """Words after `dualstream` of every command that is typed."""
    for line in typed(page):
        found = re.search(r"^(?:.*(?:\| |-m ))?(?:srun )?dualstream (?!is |\.)(.*)", line)
        if found is None:
            continue
        words = shlex.split(re.sub(r"\$\w+", "1", found[1]), comments=True)
        ends = [words.index(word) for word in words if word in {"|", "&&", ";", ">", ">>"}]
        yield words[: min(ends, default=len(words))]


def is_placeholder(word: str) -> bool:
    return word.isupper() or word == "..."


def parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """Verb and arguments of a command, as the real command line reads it without running it."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("dualstream", [], resilient_parsing=True)
    path, rest = [], list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        path.append(rest.pop(0))
        command = command.commands[path[-1]]
    with command.make_context(path[-1], rest, parent=context) as context:
        return " ".join(path), dict(context.params)


@cache
def check_recipe(name: str, overrides: tuple[str, ...]) -> None:
    """Load a recipe with its changes, and make its network on no device."""
    if name.endswith((".yaml", ".yml")):
        return
    if holds_trajectories(name):
        load_trajectory_recipe(name, overrides)
        return
    if holds_streams(name):
        load_pair(name, overrides)
        return
    recipe = load_recipe(name, overrides)
    weights = recipe.model.weights
    if isinstance(weights, str) and "/" not in weights:
        assert weights_entry(weights).model == recipe.model.name
    if any(override.startswith(("model.", "inputs", "input.")) for override in overrides):
        with torch.device("meta"):
            set_trainable(build_model(recipe, 5, with_weights=False), recipe.model.trainable)


def check_values(verb: str, given: dict[str, Any]) -> None:
    """Names in a command are names that there are."""
    if verb in ("train", "transfer", "expand") and given.get("resume") is None:
        assert given["data"] is not None
        assert given["recipe"] is not None
        assert given["out"] is not None
        check_recipe(given["recipe"], tuple(given["overrides"] or ()))
    weights = given.get("weights") if verb != "fuse" else None
    for name in [weights] if isinstance(weights, str) else weights or ():
        assert name in WEIGHTS or is_placeholder(name), name
    if verb == "flow" and not is_placeholder(given["method"]):
        check_flow_name(given["method"])
    if verb == "inspect" and not is_placeholder(given["model"]):
        assert given["model"] in MODELS
        fields = network_options(given["model"]).model_fields
        for option in given["option"] or ():
            assert option.partition("=")[0] in fields, option
    if verb in ("weights fetch", "weights path") and not is_placeholder(given["name"]):
        assert given["name"] in WEIGHTS


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_can_be_given(page: Path) -> None:
    for words in commands(page):
        try:
            verb, given = parsed(words)
            check_values(verb, given)
        except Exception as error:
            raise AssertionError(f"dualstream {shlex.join(words)}: {error!r}") from error


def test_commands_are_found_and_mistakes_in_them_too() -> None:
    assert sum(1 for page in PAGES for _ in commands(page)) > 150
    assert ["flow", "work", "--workers", "8", "--shard", "1/64"] in list(
        commands(DOCS / "guide" / "flow_at_scale.md")
    )
    for wrong in ("flow work --worker 2", "predikt a.mp4", "test", "predict a.mp4 --top many"):
        with pytest.raises(Exception, match=r"."):
            parsed(wrong.split())
    for wrong in ("--recipe tsnn", "--recipe tsn train.epoch=3", "--recipe x3d_s model.width=2"):
        with pytest.raises(ds.DualstreamError):
            check_values(*parsed(["train", "work", "--out", "runs", *wrong.split()]))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_is_python_and_names_are_there(page: Path) -> None:
    for block in blocks(page, "python", "py"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dualstream"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, name.name) for name in node.names), node.module
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert node.value.id != "ds" or hasattr(ds, node.attr), node.attr


def test_every_page_is_in_the_navigation() -> None:
    def files(part: Any) -> list[str]:
        if isinstance(part, str):
            return [part]
        parts = part.values() if isinstance(part, dict) else part
        return [file for one in parts for file in files(one)]

    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = files(settings["nav"])
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_the_reference_has_every_public_name_at_its_place() -> None:
    pages = [page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md")]
    shown = re.findall(r"^::: (dualstream\.\S+)$", "\n".join(pages), re.M)
    assert len(set(shown)) == len(shown)
    for path in shown:
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name), path
    for name in set(ds.__all__) - {"__version__"}:
        found = [path for path in shown if path.rpartition(".")[2] == name]
        value = getattr(ds, name)
        assert found == [f"{value.__module__}.{name}"], name
        assert f"#{found[0]})" in (DOCS / "reference" / "index.md").read_text(encoding="utf-8")


def test_every_family_has_a_figure_paper_and_commands() -> None:
    pages = sorted((DOCS / "networks").glob("*.md"))
    text = {page.stem: page.read_text(encoding="utf-8") for page in pages}
    for name, page in text.items():
        assert f"](../figures/{name}.svg)" in page, name
        assert "**Idea.**" in page, name
        assert re.search(r"\*\*(Paper|Papers|Source)\.\*\*", page), name
        assert "## Commands" in page, name
        assert "](../results.md" in page, name
    told = "\n".join(text.values())
    missing = {name for name in MODELS if f"`{name}`" not in told} - {"inception_v1", "motionnet"}
    assert not missing


def test_it_is_built_without_a_warning_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) == len(PAGES)  # README is none, but there is a page for what is not found
    for page in pages:
        # What a browser fetches by itself: all but links to follow.
        text = re.sub(r"<a\s[^>]*>", "", page.read_text(encoding="utf-8"))
        assert not re.findall(r'(?:src|href|action|data)="(?:https?:)?//[^"]+', text), page.name
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import\s*)['\"]?(?:https?:)?//", style.read_text())
