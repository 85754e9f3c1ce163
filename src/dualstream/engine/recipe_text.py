"""The text of recipes: YAML in which no key stands twice and 1e-3 is a number; its short forms.

Recipes of version 0.1 have a section `input:` with the fields of one stream and those that all
streams share; a command line names fields of a recipe's only stream `input.FIELD`.
"""

from __future__ import annotations

import difflib
import importlib.resources
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from dualstream.errors import RecipeError
from dualstream.types import Modality


class _UniqueKeyLoader(yaml.SafeLoader):
    """Reads YAML in which no mapping gives a key twice; PyYAML itself takes the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise RecipeError(
                    f"{self.name}: the key {key.value} stands twice, in line {lines[key.value]} "
                    f"and in line {line}. Keep one of them."
                )
            lines[key.value] = line
        return node


# YAML 1.1 reads 1e-3 (no dot) and 1.5e3 (no sign) as text; people mean the numbers.
_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def read_yaml(text: str, where: str) -> Any:
    """Return the value that a YAML text holds, which errors call `where`.

    Raises:
        RecipeError: not YAML, or a key stands twice.
    """
    try:
        loader = _UniqueKeyLoader(text)
        loader.name = where
        return loader.get_single_data()
    # ValueError: a date such as 2020-13-01; RecursionError: lists in lists without end.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f"{where} is not YAML: {error}") from error


def shipped_recipes(package: str) -> dict[str, Traversable]:
    """Return name -> YAML file of a folder of recipes that comes with the package, by name."""
    files = importlib.resources.files(package).iterdir()
    return {f.name[:-5]: f for f in sorted(files, key=str) if f.name.endswith(".yaml")}


SHARED = ("short_side", "crop_size", "fps", "beyond_end")
"""Fields of `clip:`, which all streams share."""


def with_inputs(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a recipe with `clip:` and `inputs:`, whichever form they came in.

    `input: {modality: flow, num_frames: 5, short_side: 256}` becomes
    `clip: {short_side: 256}`, `inputs: {flow: {modality: flow, num_frames: 5}}`. A stream that
    names no modality and is named like one has that.
    """
    values = dict(values)
    old, clip = values.get("input"), values.get("clip") or {}
    if isinstance(old, dict) and isinstance(clip, dict) and "inputs" not in values:
        del values["input"]
        shared = {name: value for name, value in old.items() if name in SHARED}
        stream = {name: value for name, value in old.items() if name not in SHARED}
        values["clip"] = {**clip, **shared}
        values["inputs"] = {str(stream.get("modality", "input")): stream}
    inputs = values.get("inputs")
    if isinstance(inputs, dict):
        values["inputs"] = {str(name): _with_modality(name, part) for name, part in inputs.items()}
    return values


def _with_modality(name: str, section: Any) -> Any:
    if section is None:
        section = {}
    if isinstance(section, dict) and "modality" not in section and name in get_args(Modality):
        return {"modality": name, **section}
    return section


def place_of(values: dict[str, Any], key: str) -> list[str]:
    """Return the sections and the field that an override's key means.

    `input.FIELD` is a field of `clip:` or of the only stream: `input.fps` -> clip, fps.

    Raises:
        RecipeError: `input.FIELD`, and the recipe has several streams.
    """
    path = key.split(".")
    if path[0] != "input" or len(path) == 1:
        return path
    if path[1] in SHARED:
        return ["clip", *path[1:]]
    inputs = values.get("inputs")
    streams = list(inputs) if isinstance(inputs, dict) else []
    if len(streams) != 1:
        example = ".".join(("inputs", streams[0] if streams else "rgb", *path[1:]))
        raise RecipeError(
            f"Override {key!r}: the recipe has the streams {', '.join(streams) or '(none)'}; say "
            f"which, for instance {example}."
        )
    return ["inputs", streams[0], *path[1:]]


def change_modality(values: dict[str, Any], key: str, modality: str) -> None:
    """Make a stream one of another modality, in place, where an override's key asks for that.

    Settings for the stream's own modality give way to the defaults: mean and std, and
    where flow becomes the only stream, whose fields have the rate that they were extracted at, the
    frame rate. `input.modality` also names the only stream anew where it is named like its
    modality; `inputs.NAME.modality` keeps the name.
    """
    path, inputs = place_of(values, key), values.get("inputs")
    if path[0] != "inputs" or path[2:] != ["modality"] or not isinstance(inputs, dict):
        return
    section = inputs.get(path[1])
    if not isinstance(section, dict) or section.get("modality") == modality:
        return
    renamed = key.startswith("input.") and path[1] == section.get("modality")
    kept = {k: v for k, v in section.items() if k not in ("mean", "std")}
    changed = {modality if renamed else path[1]: {**kept, "modality": modality}}
    values["inputs"] = {}
    for name, other in inputs.items():
        values["inputs"] |= changed if name == path[1] else {name: other}
    if modality == "flow" and len(inputs) == 1 and isinstance(values.get("clip"), dict):
        values["clip"] = {k: v for k, v in values["clip"].items() if k != "fps"}


def parse_override(override: str) -> tuple[str, Any]:
    """Return key and value of `a.b.c=value`.

    Raises:
        RecipeError: it does not look like that, or the value is not YAML.
    """
    key, equals, text = override.partition("=")
    if not equals or not all(key.strip().split(".")):
        raise RecipeError(f"Override {override!r} must look like section.key=value.")
    return key.strip(), read_yaml(text, f"The value of override {override!r}")


def apply_change(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a.b.c in nested dicts, in place; `input.c` is that of the only stream.

    Raises:
        RecipeError: a.b is a value and not a section.
    """
    *sections, last = place_of(values, key)
    target = values
    for part in sections:
        inner = target.setdefault(part, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"Override {key!r}: {part} is a value, not a section.")
        target = inner
    target[last] = value


@contextmanager
def explained(root: type[BaseModel], where: str) -> Iterator[None]:
    """Raise pydantic's problems with a model as one RecipeError of a line each."""
    try:
        yield
    except ValidationError as error:
        lines = [_explain(dict(problem), root) for problem in error.errors()]
        raise RecipeError(f"{where} cannot be used:\n  " + "\n  ".join(lines)) from error


def _explain(problem: dict[str, Any], root: type[BaseModel]) -> str:
    """One line for one problem; an unknown key comes with the nearest known one."""
    path = [str(part) for part in problem["loc"]]
    if problem["type"] != "extra_forbidden":
        got = "" if isinstance(problem["input"], dict) else f" (got {problem['input']!r})"
        return f"{'.'.join(path) or 'recipe'}: {problem['msg']}{got}"
    section = root
    for part in path[:-1]:
        field = section.model_fields.get(part)
        inner: Any = field and (get_args(field.annotation) or (field.annotation,))[-1]
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            section = inner
    known = list(section.model_fields)
    nearest = difflib.get_close_matches(path[-1], known, n=1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    return f"{'.'.join(path)}: no such key; {hint}known: {', '.join(known)}"
