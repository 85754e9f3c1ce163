"""The run folders that paths name: each one, or those of a folder of several streams."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast, overload

from dualstream.engine.pair_recipe import FUSION_FILE, PAIR_FILE, load_pair
from dualstream.engine.run.hub import local_run

if TYPE_CHECKING:
    from dualstream.engine.infer.recognizer import Model, Trained


@overload
def named_streams(models: Sequence[Path]) -> tuple[tuple[Path, ...], Path | None]: ...


@overload
def named_streams(
    models: Trained | Sequence[Trained],
) -> tuple[tuple[Trained, ...], Path | None]: ...


@overload
def named_streams(models: Model | Sequence[Model]) -> tuple[tuple[Model, ...], Path | None]: ...


def named_streams(models: Model | Sequence[Model]) -> tuple[tuple[Model, ...], Path | None]:
    """Return streams one by one, and the file of their fusion where one folder names all of them.

    The folder of a recipe of several streams (`train_pair`), alone, stands for the run of each,
    which are joined by the fusion that training has fitted.

    Args:
        models: one stream or several. Paths are run folders or addresses of the Hub
            (`local_run`), and become those of folders here; anything else stays as it is.

    Raises:
        InputError, CheckpointError: an address that is none or cannot be fetched.
        RecipeError: the folder's recipe is broken.
    """
    several = isinstance(models, Sequence) and not isinstance(models, str)
    given = cast("Sequence[Model]", models if several else [models])
    found = tuple(local_run(one) if isinstance(one, str | os.PathLike) else one for one in given)
    folder = found[0] if len(found) == 1 else None
    if not isinstance(folder, Path) or not (folder / PAIR_FILE).is_file():
        return found, None
    streams = load_pair(folder / PAIR_FILE).streams
    return tuple(folder / name for name in streams), folder / FUSION_FILE
