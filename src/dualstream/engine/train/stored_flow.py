"""The stored flow that a run learns from: which folder, and whether all of it is there."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Literal

from dualstream.clips.data.manifest import Manifest
from dualstream.engine.recipe import Recipe
from dualstream.engine.recipe_sections import StreamSection
from dualstream.engine.run.info import FlowOrigin
from dualstream.engine.train.run_data import usable_videos
from dualstream.errors import FlowStoreError, first_names
from dualstream.flow import FlowStore
from dualstream.flow.methods.lookup import WARPED_PREFIX
from dualstream.flow.methods.params import DEFAULT_METHOD


def default_origin(stream: str, recipe: Recipe, manifest: Manifest, source: Path) -> FlowOrigin:
    """Return where the flow of a stream lies when nobody says it: beside the manifest.

    That is the folder named like the stream, where there is one or where the recipe wants another
    method than that of `flow`; else `flow`.

    Args:
        source: folder of the manifest.
    """
    section, own, shared = recipe.inputs[stream], source / stream, source / "flow"
    method, is_own = section.flow_method, own.is_dir()
    if not is_own and method != DEFAULT_METHOD:
        is_own = method != _method_of(shared, manifest)
    folder = str(own if is_own else shared)
    is_both = section.stacking == "bidirectional"
    return FlowOrigin(folder, f"{folder}_backward" if is_both else None)


def _method_of(folder: Path, manifest: Manifest) -> str | None:
    """Method of the flow in a store, by the first video that it has; None where it has none."""
    store = FlowStore(folder)
    for record in manifest.files:
        if store.has(record.path):
            with store.open(record.path) as file:
                return file.meta.method
    return None


def check_flow(
    recipe: Recipe,
    manifest: Manifest,
    source: Path,
    stream: str,
    origin: FlowOrigin,
    *,
    side: Literal["train", "test"] = "train",
) -> None:
    """Check that a flow store has every video of one side of the recipe's split.

    Args:
        source: folder of the manifest.
        stream: that reads the flow.
        origin: the store.

    Raises:
        FlowStoreError: it has not; names the first videos and the command that computes the rest.
    """
    files = manifest.subset(recipe.data.split, side).files
    names = [record.path for record in files if record.frames > 1]
    for folder in (origin.store, origin.backward_store):
        store = None if folder is None else FlowStore(folder)
        missing = [name for name in names if store is not None and not store.has(name)]
        if missing:
            both = "" if folder == origin.store else " --direction both"
            options = f"--out {origin.store}{_method_options(recipe.inputs[stream])}{both}"
            raise FlowStoreError(
                f"{folder} has no flow of {len(missing)} of the {len(names)} videos to {side} on "
                f"({first_names(missing)}). Compute it with `dualstream flow {source} {options}`, "
                "which keeps what is there."
            )


def _method_options(section: StreamSection) -> str:
    """Options of `dualstream flow` for the flow that a stream wants."""
    method = section.flow_method.removeprefix(WARPED_PREFIX)
    options = "" if method == DEFAULT_METHOD else f" --method {method}"
    return options + " --warped" * (method != section.flow_method)


def with_flow_of(
    stream: str, origin: FlowOrigin, recipe: Recipe, manifest: Manifest
) -> tuple[Recipe, FlowOrigin]:
    """Add what prediction must know to compute flow as the store's was: size and settings.

    Flow is in pixels of the grid that it was computed on, so a network trained on flow of
    240-line videos must see other videos at 240 lines too.
    """
    first = usable_videos(manifest, recipe, "train").records[0]
    with FlowStore(origin.store).open(first.path) as file:
        meta = file.meta
    section = recipe.inputs[stream]
    if section.flow_short_side is None:
        sides = [min(record.height, record.width) for record in manifest.files]
        side = meta.short_side or int(statistics.median_low(sides))
        section = section.model_copy(update={"flow_short_side": side})
        recipe = recipe.model_copy(update={"inputs": {**recipe.inputs, stream: section}})
    params = meta.params if meta.method == section.flow_method else None
    return recipe, replace(origin, params=params)
