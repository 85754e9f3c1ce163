"""The text of recipes: YAML in which no key stands twice, and 1e-3 is a number."""

from __future__ import annotations

import re
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


# YAML 1.1 reads 1e-3 (no dot) and 1.5e3 (no sign) as text; people mean the numbers.
_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


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
