"""`dualstream expand` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.engine.tiny import changed, tiny_recipe
from typer.testing import CliRunner

from dualstream.cli.app import app
from dualstream.engine.recipe import dump_recipe
from dualstream.errors import DualstreamError, InputError, RecipeError


def expand(*arguments: object) -> str:
    """What the command prints; its errors are raised."""
    call = ["expand", *map(str, arguments)]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, call, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """X2D on two frames of 16 pixels, two frames apart."""
    recipe = changed(
        tiny_recipe(hold_out=0.25, epochs=1, segments=1),
        model__name="x3d",
        model__options={"dropout": 0.0},
        input__num_frames=2,
        input__frame_stride=2,
        input__short_side=20,
        input__crop_size=16,
    )
    path = tmp_path_factory.mktemp("expand_cli") / "tiny.yaml"
    path.write_text(dump_recipe(recipe))
    return path


def test_dry_run_lists_candidates_and_trains_nothing(recipe: Path, tiny_data: Path) -> None:
    call = (tiny_data, "--recipe", recipe, "--target", 1, "--dry-run")
    printed = json.loads(expand(*call, "--json"))
    # Counted by hooks: 2 frames of 16 x 16 through X2D with 2 classes.
    assert printed["start"]["multiply_adds"] == 1_552_192
    assert [candidate["axis"] for candidate in printed["candidates"]] == [
        "frame_rate",
        "duration",
        "resolution",
        "width",
        "bottleneck",
        "depth",
    ]
    table = expand(*call)
    for word in ("(start)", "frame_rate", "bottleneck", "0.0016"):
        assert word in table
    larger = json.loads(expand(*call, "--step-factor", 4, "--json"))["candidates"]
    # The four frames that there are in all are not four times as many as two.
    assert larger[0]["axis"] == "duration"
    assert larger[0]["factors"]["gamma_t"] > 4


def test_a_search_and_its_repetition(recipe: Path, tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "x3d"
    call = (tiny_data, "train.seed=3", "--recipe", recipe, "--target", 0.0027, "--out", out)
    printed = json.loads(expand(*call, "--limit", 1, "--json"))
    (step,) = printed["steps"]
    assert printed["reached"]["factors"] == step["chosen"]["factors"]
    assert printed["reached"]["multiply_adds"] == pytest.approx(2.7e6, rel=0.2)
    again = expand(*call, "--limit", 1)
    assert "yes" in again
    assert f"Next: dualstream train {tiny_data} --recipe {out / 'expanded.yaml'}" in again
    with pytest.raises(InputError, match="holds a search of another limit"):
        expand(*call)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--target", "1"], InputError, r"Give --out, the folder of the search \(or --dry-run\)"),
        (["--target", "0.00001", "--out", "x"], InputError, "Choose a higher target"),
        (["--target", "1", "--out", "x", "data.hold_out=0"], RecipeError, "set data.hold_out"),
        (["--target", "1", "--dry-run", "model.name=tsn"], RecipeError, "Set model.name=x3d"),
        (["--target", "1", "--dry-run", "--step-factor", "0.5"], InputError, "step_factor"),
    ],
)
def test_calls_that_cannot_be(
    arguments: list[str],
    error: type[DualstreamError],
    message: str,
    recipe: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        expand(tiny_data, *arguments, "--recipe", recipe)
    assert not (tmp_path / "x").exists()
