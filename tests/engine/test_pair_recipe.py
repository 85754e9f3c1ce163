"""Recipes of several networks: how streams take shape, and what does not go together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dualstream import list_pairs, list_recipes, load_pair, load_recipe
from dualstream.engine.pair_recipe import holds_streams
from dualstream.engine.recipe import dump_recipe
from dualstream.errors import RecipeError, UnknownNameError

SHIPPED = {
    "demo": {"spatial": "demo_rgb", "temporal": "demo_flow"},
    "jhmdb": {"rgb": "jhmdb_rgb", "flow": "jhmdb_flow"},
    "jhmdb_kinetics": {"rgb": "jhmdb_i3d", "flow": "jhmdb_flow"},
    "tsn": {"rgb": "tsn_rgb", "flow": "tsn_flow"},
}


def test_the_shipped_ones_are_those_of_their_streams_with_videos_held_out() -> None:
    assert set(list_pairs()) == {*SHIPPED, "tsn_modalities"}
    assert not set(list_pairs()) & set(list_recipes())
    for name, streams in SHIPPED.items():
        pair = load_pair(name)
        assert pair.source
        assert pair.fusion.method == "weighted"
        assert [*pair.streams] == [*streams]
        for stream, single in streams.items():
            changed = [f"data.hold_out={pair.streams[stream].data.hold_out}"]
            assert pair.streams[stream] == load_recipe(single, changed)


def test_any_subset_of_modalities() -> None:
    pair = load_pair("tsn_modalities")
    seen = {stream: one.inputs for stream, one in pair.streams.items()}
    assert [*seen] == ["rgb", "rgb_diff", "flow", "warped", "motion_vectors"]
    # A stream's flow lies in the folder of its name, and is computed by the method of its store.
    methods = {
        "flow": "tvl1-fast",
        "warped": "warped-tvl1-fast",
        "motion_vectors": "motion-vectors",
    }
    assert {s: inputs[s].flow_method for s, inputs in seen.items() if s in methods} == methods
    assert pair.streams["warped"].train == pair.streams["flow"].train
    two = load_pair("tsn_modalities", ["streams=[warped, rgb]", "streams.rgb.train.epochs=3"])
    assert [*two.streams] == ["warped", "rgb"]
    assert two.streams["warped"] == pair.streams["warped"]


@pytest.mark.parametrize("name", [*SHIPPED, "tsn_modalities"])
def test_what_is_dumped_is_read_back(name: str, tmp_path: Path) -> None:
    file = tmp_path / "pair.yaml"
    pair = load_pair(name, ["data.hold_out=0", "fusion.folds=3"])
    file.write_text(dump_recipe(pair))
    assert load_pair(file) == pair
    assert holds_streams(file)


def test_overrides_reach_one_stream_all_of_them_or_the_fusion() -> None:
    pair = load_pair(
        "tsn",
        [
            "train.epochs=7",
            "streams.flow.train.epochs=9",
            "streams.flow.input.num_frames=4",
            "fusion.method=svm",
            "title=Mine",
        ],
    )
    assert {name: one.train.epochs for name, one in pair.streams.items()} == {"rgb": 7, "flow": 9}
    assert pair.streams["flow"].inputs["flow"].num_frames == 4
    assert (pair.fusion.method, pair.title) == ("svm", "Mine")


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    """Streams from recipes beside it, shipped ones with changes, and in place."""
    (tmp_path / "mine.yaml").write_text(dump_recipe(load_recipe("demo_rgb", ["train.seed=5"])))
    in_place = dump_recipe(load_recipe("demo_flow", ["train.seed=6"])).replace("\n", "\n      ")
    file = tmp_path / "three.yaml"
    file.write_text(
        "title: three\n"
        "streams:\n"
        "  look: {recipe: mine.yaml}\n"
        "  move: {recipe: i3d, overrides: [input.modality=flow, train.epochs=2]}\n"
        f"  here:\n      {in_place}\n"
        "overrides: [data.hold_out=0.25, train.epochs=3]\n"
    )
    pair = load_pair(file, ["train.batch_size=2"])
    assert pair.streams["look"].train.seed == 5
    assert [*pair.streams["move"].inputs] == ["flow"]
    assert pair.streams["here"].train.seed == 6
    assert [one.train.epochs for one in pair.streams.values()] == [3, 2, 3]
    assert {one.data.hold_out for one in pair.streams.values()} == {0.25}
    assert {one.train.batch_size for one in pair.streams.values()} == {2}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.hold_out=0"], "set data.hold_out=0.2, or fusion.folds=5"),
        (["fusion.folds=5"], "for data.hold_out=0"),
        (["data.hold_out=0", "fusion.folds=1"], "fusion.folds is 2 or more"),
        (["data.hold_out=0", "fusion.folds=3", "fusion.method=mean"], "that learns"),
        (["streams.rgb.data.split=2"], "scores of the same videos"),
        (["streams.flow.data.hold_out=0.3"], "scores of the same videos"),
        (["data.hold_out=0", "data.folds=3"], "give fusion.folds"),
        (["train.devices=2"], "train.devices must be 1"),
        (["fusion.fold=2"], "fusion.fold: no such key; did you mean folds"),
        (["fusion.method=average"], "fusion.method"),
        (["train.epoch=2"], "stream rgb cannot be used:\n  train.epoch: no such key"),
        (["streams.sound.train.epochs=2"], "the streams are rgb, flow"),
        (["streams=[rgb, sound]"], "must be a list of streams.*are rgb, flow"),
        (["streams=rgb"], "must be a list of streams"),
        (["streams=[[rgb], flow]"], "must be a list of streams"),
        (["streams=[rgb]"], "at least 2 items"),
        (["streams=[rgb, rgb]"], "at least 2 items"),
        (["streams.rgb=2"], "must look like streams.NAME.section.key"),
    ],
)
def test_what_does_not_go_together(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_pair("tsn", overrides)


@pytest.mark.parametrize(
    ("streams", "message"),
    [
        ("{rgb: {recipe: tsn_rgb}}", "at least 2 items"),
        ("{rgb: {recipe: tsn_rgb}, a/b: {recipe: tsn_flow}}", "letters, digits"),
        ("{rgb: {recipe: tsn_rgb}, flow: tsn_flow}", "stream flow must be a recipe"),
        ("{rgb: {recipe: tsn_rgb}, flow: {recipe: tsn_flow, epochs: 2}}", "no such key 'epochs'"),
        ("{rgb: {recipe: tsn_rgb}, flow: {recipe: tsn_flow, overrides: a=1}}", "must be a list"),
        ("[tsn_rgb, tsn_flow]", "with a recipe each"),
    ],
)
def test_broken_files(streams: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(f"title: x\nstreams: {streams}\noverrides: [data.hold_out=0.2]\n")
    with pytest.raises(RecipeError, match=message):
        load_pair(file)


def test_one_network_and_several_are_told_apart() -> None:
    assert holds_streams("tsn")
    assert not holds_streams("tsn_rgb")
    with pytest.raises(RecipeError, match=r"recipe of one of its streams.*train_pair"):
        load_recipe("tsn")
    with pytest.raises(RecipeError, match="a recipe of one network is for `load_recipe`"):
        load_pair("tsn_rgb")
    with pytest.raises(UnknownNameError, match="tsn_rgb"):
        load_pair("tsn_rgbb")


def test_the_page_of_the_docs_is_true(tmp_path: Path) -> None:
    """Its recipe can be used, and so can the overrides that it names."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "fusion.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert load_pair(file).streams["flow"].train.epochs == 90
    choices = re.findall(r"\(`([^`]*(?:hold_out|folds)[^`]*)`\)", page)
    assert len(choices) == 3
    for choice in choices:
        load_pair(file, choice.split())
