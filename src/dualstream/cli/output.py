"""Output of every verb: results on stdout, progress and problems on stderr."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


json_printed = False
"""Whether this command has printed its JSON object."""


def print_json(value: object) -> None:
    """Print one JSON object on stdout and nothing else."""
    global json_printed
    json_printed = True
    print(json.dumps(value, indent=2, default=_plain))


def stdout() -> Console:
    """Return the console for results."""
    from rich.console import Console

    return Console(highlight=False)


def stderr() -> Console:
    """Return the console for progress, problems and advice."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def percent(value: float) -> str:
    """Format a share 0..1 for tables: 0.7114 -> '71.1'."""
    return f"{100 * value:.1f}"


def _plain(value: Any) -> Any:
    """Turn numpy scalars, arrays and paths into what JSON has."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
