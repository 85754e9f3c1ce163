"""The run folders that paths name: each one, or those of a folder of several streams."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, cast

from dualstream.engine.pair_recipe import FUSION_FILE, PAIR_FILE, load_pair
from dualstream.engine.run.hub import local_run

T = TypeVar("T")


def named_streams(models: T | Sequence[T]) -> tuple[list[T | Path], Path | None]:
    """Return streams as a list, and the file of their fusion where one folder names all of them.

    The folder of a recipe of several streams (`train_pair`), alone, stands for the run of each,
    which are joined by the fusion that training has fitted.

    Args:
        models: one stream or several. Paths are run folders or addresses of the Hub
            (`local_run`); anything else stays as it is.

    Raises:
        InputError, CheckpointError: an address that is none or cannot be fetched.
        RecipeError: the folder's recipe is broken.
    """
    several = isinstance(models, Sequence) and not isinstance(models, str)
    given = list(cast("Sequence[T]", models)) if several else [cast("T", models)]
    found: list[T | Path] = [
        local_run(one) if isinstance(one, str | os.PathLike) else one for one in given
    ]
    folder = found[0] if len(found) == 1 else None
    if not isinstance(folder, Path) or not (folder / PAIR_FILE).is_file():
        return found, None
    return [folder / name for name in load_pair(folder / PAIR_FILE).streams], folder / FUSION_FILE
