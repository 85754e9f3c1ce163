"""The text of recipes: YAML in which no key stands twice, and the values of overrides."""

from __future__ import annotations

from typing import Any

import yaml

from dualstream.errors import RecipeError


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


def read_yaml(text: str, where: str) -> Any:
    """Return the value that a YAML text holds.

    Args:
        where: what to call it in errors.

    Raises:
        RecipeError: not YAML, or a key stands twice.
    """
    try:
        loader = _UniqueKeyLoader(text)
        loader.name = where
        return loader.get_single_data()
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2020-13-01
        raise RecipeError(f"{where} is not YAML: {error}") from error


def value_of(text: str, where: str) -> Any:
    """Return the value after the `=` of an override: YAML, and 1e-3 is a number.

    Arguments and errors are those of `read_yaml`.
    """
    value = read_yaml(text, where)
    try:  # YAML 1.1 reads 1e-3 (no dot) as text; people mean the number
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
