"""Recipes: read, overridden, refused with a helpful line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualstream.engine.recipe import Recipe, dump_recipe, list_recipes, load_recipe
from dualstream.engine.recipe_sections import StreamSection
from dualstream.errors import RecipeError, UnknownNameError
from dualstream.models import MODELS, WEIGHTS
from dualstream.types import StreamSpec


def stream_of(recipe: Recipe) -> StreamSection:
    """Section of the only stream."""
    (section,) = recipe.inputs.values()
    return section


def spec_of(recipe: Recipe) -> StreamSpec:
    """Input of the only stream in training."""
    (stream,) = recipe.clip_spec().streams.values()
    return stream


@pytest.mark.parametrize("name", list_recipes())
def test_shipped_recipes_are_whole(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.source
    assert recipe.clip_spec().streams.keys() == recipe.inputs.keys()
    assert recipe.model.name in MODELS


def test_the_published_ones_are_there() -> None:
    assert " ".join(list_recipes()) == (
        "c2d_r50 c3d cnn_lstm conv_fusion cross_attention demo_flow demo_rgb early_fusion "
        "hidden_two_stream hidden_two_stream_end i3d i3d_flow i3d_r50 inflated_2d jhmdb_flow "
        "jhmdb_i3d jhmdb_i3d_linear jhmdb_rgb late_fusion lecture_3d_cnn lecture_early_fusion "
        "lecture_late_fusion mc3_18 motionnet r2plus1d_18 r2plus1d_34 r2plus1d_r50 r3d_18 r3d_34 "
        "recurrent_conv rmc3_18 s3d s3d_g single_frame slow_fusion slow_r50 slowfast_r101_16x8 "
        "slowfast_r101_8x8 slowfast_r50_4x16 slowfast_r50_8x8 t3d_rgb t3d_transfer_rgb "
        "temporal_attention temporal_conv tsn_flow tsn_rgb tsn_rgb_diff two_stream_flow "
        "two_stream_rgb two_stream_rgb_flow x3d_l x3d_m x3d_s x3d_xl x3d_xs"
    )


PUBLISHED = """
c2d_r50             8x8   crop 224 of 256  batch   64  lr 0.1    epochs 196  test 10 x three of 256
c3d                 16x1  crop 112 of 128  batch   30  lr 0.003  epochs  65  test 10 x center of 112
i3d                 64x1  crop 224 of 256  batch  384  lr 0.1    epochs 184  test 1 x center of 224
i3d_flow            64x1  crop 224 of 256  batch  384  lr 0.1    epochs 184  test 1 x center of 224
late_fusion         2x15  crop 170 of 200  batch   32  lr 0.001  epochs  60  test 20 x ten of 170
r2plus1d_18         16x1  crop 112 of 128  batch 1536  lr 0.64   epochs 225  test 5 x center of 112
r2plus1d_34         32x1  crop 112 of 128  batch   32  lr 0.01   epochs 188  test 10 x center of 112
s3d                 64x1  crop 224 of 256  batch  768  lr 0.2    epochs 225  test 1 x center of 224
s3d_g               64x1  crop 224 of 256  batch  336  lr 0.1    epochs 112  test 1 x center of 224
slowfast_r50_4x16   32x2  crop 224 of 256  batch   64  lr 0.1    epochs 196  test 10 x three of 256
slowfast_r101_16x8  64x2  crop 224 of 256  batch   64  lr 0.1    epochs 196  test 10 x three of 256
x3d_xs              4x12  crop 160 of 182  batch  128  lr 0.1    epochs 300  test 10 x three of 182
x3d_s               13x6  crop 160 of 182  batch  128  lr 0.1    epochs 300  test 10 x three of 182
x3d_m               16x5  crop 224 of 256  batch  128  lr 0.1    epochs 300  test 10 x three of 256
x3d_l               16x5  crop 312 of 356  batch   64  lr 0.05   epochs 256  test 10 x three of 356
"""
"""Frames x stride and the rest as the sources that the recipes name say it, epochs as passes."""


@pytest.mark.parametrize("line", PUBLISHED.strip().splitlines())
def test_published_settings(line: str) -> None:
    name = line.split()[0]
    recipe = load_recipe(name)
    seen, clip, training, test = stream_of(recipe), recipe.clip, recipe.train, recipe.test
    found = (
        f"{name} {seen.num_frames}x{seen.frame_stride} crop {clip.crop_size} of {clip.short_side} "
        f"batch {training.batch_size} lr {training.optimizer.lr} epochs {training.epochs} "
        f"test {test.segments} x {test.crops} of {recipe.test_spec().crop_size}"
    )
    assert found.split() == line.split()


@pytest.mark.parametrize("name", [name for name in WEIGHTS if WEIGHTS[name].model != "tsn"])
def test_recipes_test_what_published_weights_were_made_for(name: str) -> None:
    entry = WEIGHTS[name]
    recipe = load_recipe(entry.model)
    # I3D's accuracy is of whole videos, its training of 64 frames.
    spec = recipe.clip_spec() if entry.model == "i3d" else recipe.test_spec()
    assert spec == entry.spec


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
    assert spec_of(recipe).mean == (0.5, -0.5)
    assert recipe.augment.flip is False


def test_defaults_of_mean_and_std_depend_on_the_modality() -> None:
    assert spec_of(load_recipe("tsn_rgb")).mean == (0.485, 0.456, 0.406)
    flow = spec_of(load_recipe("two_stream_flow"))
    assert (flow.mean, flow.std) == ((0.0, 0.0), (1.0, 1.0))


OF_ONE_STREAM = tuple(name for name in list_recipes() if len(load_recipe(name).inputs) == 1)


@pytest.mark.parametrize("name", OF_ONE_STREAM)
@pytest.mark.parametrize("modality", ["rgb", "flow", "rgb_diff"])
def test_every_recipe_gives_the_other_streams_of_a_pair(name: str, modality: str) -> None:
    stated = load_recipe(name)
    recipe = load_recipe(name, [f"input.modality={modality}"])
    spec = spec_of(recipe)
    assert spec.modality == modality
    assert list(recipe.inputs) == [modality]
    if stream_of(stated).modality == modality:
        assert recipe == stated
    elif modality == "rgb":
        assert (spec.mean, spec.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    else:
        assert (set(spec.mean), set(spec.std)) == ({0.0}, {1.0})
    if modality == "flow":
        assert recipe.clip.fps is None
    else:
        assert recipe.clip.fps == stated.clip.fps


def test_an_override_of_the_modality_may_bring_its_own_mean_in_any_order() -> None:
    other = ["input.std=[9, 9]", "input.modality=flow", "input.mean=[0.5, 0.5]", "input.fps=25"]
    recipe = load_recipe("slow_r50", other)
    spec = spec_of(recipe)
    assert (spec.mean, spec.std, recipe.clip.fps) == ((0.5, 0.5), (9.0, 9.0), 25.0)


def test_a_test_may_see_longer_and_larger_snippets_than_training() -> None:
    recipe = load_recipe("slow_r50", ["test.num_frames=16"])
    trained, tested = recipe.clip_spec(), recipe.test_spec()
    assert (trained.streams["rgb"].num_frames, trained.crop_size) == (8, 224)
    assert (tested.streams["rgb"].num_frames, tested.crop_size) == (16, 256)
    assert load_recipe("tsn_rgb").test_spec() == load_recipe("tsn_rgb").clip_spec()


def test_stages_to_train_are_a_number_or_a_name() -> None:
    assert load_recipe("slow_r50", ["model.trainable=2"]).model.trainable == 2
    assert load_recipe("slow_r50", ["model.trainable=last_layer"]).model.trainable == "last_layer"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=5", "train.epoch: no such key; did you mean epochs?"),
        ("trian.epochs=5", "trian: no such key; did you mean train?"),
        ("train.optimizer.learning_rate=1", "train.optimizer.learning_rate: no such key"),
        ("input.epochs=5", "inputs.flow.epochs: no such key; "),
        ("inputs.flow.num_frame=5", "inputs.flow.num_frame: no such key; did you mean num_frames?"),
        ("clip.crop=5", "clip.crop: no such key; did you mean crop_size?"),
        ("inputs.flow=5", "inputs.flow: Input should be a valid dictionary"),
        ("inputs={}", "inputs: Dictionary should have at least 1 item"),
        ("inputs.sound={num_frames: 3}", "inputs.sound.modality: Field required"),
        ("train.epochs=0", "train.epochs: Input should be greater than or equal to 1"),
        ("train.epochs=many", "train.epochs: Input should be a valid integer"),
        ("train.optimizer.name=adam", "train.optimizer.name: Input should be 'sgd' or 'adamw'"),
        ("input.crop_size=512", "crop_size (512) must not exceed short_side (256)"),
        ("input.mean=[1,2,3,4]", "need 2 values for flow"),
        ("train.schedule.milestones=[5,2]", "milestones must rise"),
        ("train.devices=3", "must be a multiple of devices 3"),
        ("train.nodes=3", "must be a multiple of devices 1 times nodes 3"),
        ("train.schedule.warmup_start=1", "train.schedule.warmup_start: Input should be less"),
        ("train.schedule.cosine_over=warmup", "Input should be 'rest' or 'all'"),
        ("model.trainable=0", "must be all, last_layer, or a number of stages from 1"),
        ("model.trainable=first", "must be all, last_layer, or a number of stages from 1"),
        ("model.trainable=true", "must be all, last_layer, or a number of stages from 1"),
        ("augment.zoom=[1, 1.25]", "augment.zoom is for augment.crop=random, not multi_scale"),
        ("augment.zoom=[0.8, 1]", "zoom must rise from at least 1"),
        ("augment.zoom=[1.2, 1.1]", "zoom must rise from at least 1"),
        ("test.num_frames=0", "test.num_frames: Input should be greater than or equal to 1"),
        ("train.early_stop_patience=3", "needs data.hold_out above 0"),
        ("train.epochs", "must look like section.key=value"),
        ("title.short=x", "title is a value, not a section"),
        ("train.epochs=[1", "is not YAML"),
        ("title=2020-13-01", "is not YAML"),
        ("augment.scales=[]", "augment.scales: Tuple should have at least 1 item"),
        ("augment.scales=[1, 0]", "augment.scales.1: Input should be greater than 0"),
        ("augment.scales=[2]", "augment.scales.0: Input should be less than or equal to 1"),
        ("model.options={a: 1, a: 2}", "the key a stands twice"),
    ],
)
def test_bad_overrides_are_explained(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("tsn_flow", [override])
    assert message in str(caught.value)


@pytest.mark.parametrize("number", [".inf", "inf", ".nan", "1e400"])
@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("input.fps={}", "clip.fps"),
        ("input.mean=[{}, 0]", "inputs.flow.mean"),
        ("inputs.flow.std=[1, {}]", "inputs.flow.std"),
        ("input.flow_bound_px={}", "inputs.flow.flow_bound_px"),
        ("augment.scales=[{}]", "augment.scales"),
        ("augment.zoom=[1, {}]", "augment.zoom"),
        ("augment.hue_turns={}", "augment.hue_turns"),
        ("data.hold_out={}", "data.hold_out"),
        ("train.optimizer.lr={}", "train.optimizer.lr"),
        ("train.optimizer.weight_decay={}", "train.optimizer.weight_decay"),
        ("train.schedule.gamma={}", "train.schedule.gamma"),
        ("train.schedule.warmup_epochs={}", "train.schedule.warmup_epochs"),
        ("train.clip_norm={}", "train.clip_norm"),
        ("train.ema_decay={}", "train.ema_decay"),
    ],
)
def test_numbers_must_be_finite(override: str, key: str, number: str) -> None:
    with pytest.raises(RecipeError, match=rf"{key}[.\d]*: Input should be a finite number"):
        load_recipe("tsn_flow", ["augment.crop=random", override.format(number)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "must hold sections"),
        ("a: [", "is not YAML"),
        ("[" * 3000, "is not YAML"),
        ("title: x", "model: Field req"),
        (
            "title: x\nmodel: {name: tsn}\ntitle: y",
            "key title stands twice, in line 1 and in line 3",
        ),
        (
            "train:\n  lr: 1\n\n  'lr': 2",
            "mine.yaml: the key lr stands twice, in line 2 and in line 4",
        ),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(RecipeError, match=r"mine\.yaml") as caught:
        load_recipe(path)
    assert message in str(caught.value)


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes("model: {name: tsn}\ntitle: Übung\n".encode("latin-1"))
    with pytest.raises(RecipeError, match=r"mine\.yaml:2: byte 0xdc is not UTF-8 text"):
        load_recipe(path)


def test_a_merged_key_may_be_given_anew(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    changed = dump_recipe(load_recipe("tsn_rgb")).replace(
        "  optimizer:\n", "  optimizer:\n    <<: {lr: 5.0, momentum: 0.25}\n"
    )
    path.write_text(changed.replace("    momentum: 0.9\n", ""))
    optimizer = load_recipe(path).train.optimizer
    assert (optimizer.lr, optimizer.momentum) == (load_recipe("tsn_rgb").train.optimizer.lr, 0.25)


def test_unknown_names_list_the_shipped_ones() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'tsn_rgb'"):
        load_recipe("tsn_rbg")
    with pytest.raises(RecipeError, match="no recipe file"):
        load_recipe("missing.yaml")
