"""Recipes: read, overridden, refused with a helpful line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualstream.engine.recipe import dump_recipe, list_recipes, load_recipe
from dualstream.errors import RecipeError, UnknownNameError
from dualstream.models import model_function


@pytest.mark.parametrize("name", list_recipes())
def test_shipped_recipes_are_whole(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.source
    assert recipe.input.spec().modality == recipe.input.modality
    model_function(recipe.model.name)


def test_the_published_ones_are_there() -> None:
    assert " ".join(list_recipes()) == (
        "c2d_r50 c3d cnn_lstm demo_flow demo_rgb early_fusion i3d i3d_flow i3d_r50 "
        "jhmdb_flow jhmdb_i3d_linear jhmdb_rgb late_fusion lecture_3d_cnn "
        "lecture_early_fusion lecture_late_fusion mc3_18 r2plus1d_18 r2plus1d_34 "
        "r2plus1d_r50 r3d_18 r3d_34 recurrent_conv rmc3_18 s3d s3d_g single_frame "
        "slow_fusion slow_r50 slowfast_r101_16x8 slowfast_r101_8x8 slowfast_r50_4x16 "
        "slowfast_r50_8x8 t3d_rgb t3d_transfer_rgb temporal_attention temporal_conv "
        "tsn_flow tsn_rgb tsn_rgb_diff two_stream_flow two_stream_rgb x3d_l x3d_m x3d_s "
        "x3d_xl x3d_xs"
    )


def test_dump_reads_back_equal(tmp_path: Path) -> None:
    recipe = load_recipe("tsn_flow", ["train.epochs=7", "train.ema_decay=0.9"])
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(recipe))
    assert load_recipe(path) == recipe


def test_overrides_change_values_of_every_type() -> None:
    recipe = load_recipe(
        "tsn_flow",
        [
            "train.epochs=5",
            "train.optimizer.lr=1e-3",
            "train.schedule.milestones=[2,4]",
            "model.options.backbone=resnet18",
            "input.mean=[0.5, -0.5]",
            "augment.flip=false",
        ],
    )
    assert recipe.train.epochs == 5
    assert recipe.train.optimizer.lr == 1e-3
    assert recipe.train.schedule.milestones == (2, 4)
    assert recipe.model.options["backbone"] == "resnet18"
    assert recipe.input.spec().mean == (0.5, -0.5)
    assert recipe.augment.flip is False


def test_defaults_of_mean_and_std_depend_on_the_modality() -> None:
    assert load_recipe("tsn_rgb").input.spec().mean == (0.485, 0.456, 0.406)
    flow = load_recipe("two_stream_flow").input.spec()
    assert (flow.mean, flow.std) == ((0.0, 0.0), (1.0, 1.0))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=5", "train.epoch: no such key; did you mean epochs?"),
        ("trian.epochs=5", "trian: no such key; did you mean train?"),
        ("train.optimizer.learning_rate=1", "train.optimizer.learning_rate: no such key"),
        ("train.epochs=0", "train.epochs: Input should be greater than or equal to 1"),
        ("train.epochs=many", "train.epochs: Input should be a valid integer"),
        ("train.optimizer.name=adam", "train.optimizer.name: Input should be 'sgd' or 'adamw'"),
        ("input.crop_size=512", "crop_size (512) must not exceed short_side (256)"),
        ("input.mean=[1,2,3,4]", "need 2 values for flow"),
        ("train.schedule.milestones=[5,2]", "milestones must rise"),
        ("train.devices=3", "must be a multiple of devices 3"),
        ("train.early_stop_patience=3", "needs data.hold_out above 0"),
        ("train.epochs", "must look like section.key=value"),
        ("title.short=x", "title is a value, not a section"),
        ("train.epochs=[1", "is not YAML"),
    ],
)
def test_bad_overrides_are_explained(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("tsn_flow", [override])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [("[1, 2]", "must hold sections"), ("a: [", "is not YAML"), ("title: x", "model: Field req")],
)
def test_bad_files_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(RecipeError, match=r"mine\.yaml") as caught:
        load_recipe(path)
    assert message in str(caught.value)


def test_unknown_names_list_the_shipped_ones() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'tsn_rgb'"):
        load_recipe("tsn_rbg")
    with pytest.raises(RecipeError, match="no recipe file"):
        load_recipe("missing.yaml")
