"""Where the flow of a stream lies when nobody says it, and what computes flow that is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.engine.tiny import tiny_recipe

import dualstream as ds
from dualstream.clips.data.manifest import Manifest
from dualstream.engine.recipe import Recipe
from dualstream.engine.train.opening import open_run
from dualstream.engine.train.stored_flow import default_origin
from dualstream.errors import FlowStoreError
from dualstream.flow import FlowJob, extract_flow


def recipe_of(stream: str, **section: object) -> Recipe:
    values = tiny_recipe("flow", epochs=1).model_dump()
    values["inputs"] = {stream: {"modality": "flow", "num_frames": 4, **section}}
    return Recipe.model_validate(values)


@pytest.mark.parametrize(
    ("stream", "section", "folder"),
    [
        ("flow", {}, "flow"),
        ("temporal", {}, "flow"),
        ("flow", {"flow_method": "tvl1"}, "flow"),
        ("motion", {"flow_method": "motion-vectors"}, "motion"),
        ("warped", {"flow_method": "warped-tvl1-fast"}, "warped"),
        ("kept", {}, "kept"),
    ],
)
def test_the_folder_beside_the_manifest(
    stream: str, section: dict[str, object], folder: str, tiny_data: Path, tmp_path: Path
) -> None:
    """The stream's own where there is one or where it wants another method than `flow` has."""
    data = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    (data / "kept").mkdir()
    manifest, recipe = Manifest.read(data), recipe_of(stream, **section)
    origin = default_origin(stream, recipe, manifest, data)
    assert (origin.store, origin.backward_store) == (str(data / folder), None)
    both = recipe_of(stream, stacking="bidirectional", **section)
    origin = default_origin(stream, both, manifest, data)
    assert origin.backward_store == str(data / f"{folder}_backward")


@pytest.mark.parametrize(
    ("stream", "method", "options"),
    [
        ("warped", "warped-tvl1-fast", " --warped"),
        ("vectors", "motion-vectors", " --method motion-vectors"),
        ("both", "warped-dis", " --method dis --warped"),
    ],
)
def test_the_command_computes_what_the_stream_wants(
    stream: str, method: str, options: str, tiny_data: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(stream, flow_method=method)
    command = f"dualstream flow {tiny_data} --out {tiny_data / stream}{options}`"
    with pytest.raises(FlowStoreError) as caught:
        ds.train(recipe, tiny_data, tmp_path / "run")
    assert command in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_training_on_what_that_command_writes(tiny_data: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    jobs = [FlowJob(r.path, str(data / "videos" / r.path)) for r in Manifest.read(data).records]
    for done in extract_flow(jobs, data / "warped", method="dis", warped=True, short_side=32):
        assert done.status == "done", done.error
    run = open_run(recipe_of("warped", flow_method="warped-dis"), data, tmp_path / "run")
    assert run.info.flow["warped"].store == str(data / "warped")
    assert run.recipe.inputs["warped"].flow_short_side == 32
