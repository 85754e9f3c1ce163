"""`create_model`: names, options, lazy loading."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import dualstream.models
from dualstream.errors import InputError, UnknownNameError
from dualstream.models import MODELS, create_model, list_models, model_function


def test_names():
    assert list_models() == ("cnn_m_2048", "tsn")
    for name in MODELS:
        assert model_function(name).__name__ == name


def test_networks_are_made_with_their_options():
    with torch.device("meta"):
        made = create_model("tsn", num_classes=3, backbone="resnet18", in_channels=2, length=5)
        assert isinstance(made, nn.Module)
        assert (made.num_classes, made.in_channels, made.length) == (3, 2, 5)
        assert (made.spec, made.classes) == (None, ())
        assert create_model("cnn_m_2048", num_classes=3, image_size=64).image_size == 64


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("tns", {}, UnknownNameError, "Unknown model 'tns'. Did you mean 'tsn'"),
        ("tsn", {"num_clases": 3}, UnknownNameError, "option of tsn.*Did you mean 'num_classes'"),
        ("tsn", {}, InputError, "tsn needs the option 'num_classes'"),
        ("tsn", {"weights": "resnet"}, UnknownNameError, "Unknown weights 'resnet'"),
        ("cnn_m_2048", {"num_classes": 3, "backbone": "x"}, UnknownNameError, "option of cnn_m"),
        (
            "tsn",
            {"weights": "efficientnet_lite0_imagenet", "pretrained": True},
            InputError,
            "not both",
        ),
    ],
)
def test_mistakes_are_explained(name, options, error, message):
    with pytest.raises(error, match=message):
        create_model(name, **options)


def test_public_names_exist():
    for name in dualstream.models.__all__:
        assert getattr(dualstream.models, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'resnet'"):
        _ = dualstream.models.resnet


def test_listing_needs_no_torch():
    code = (
        "import sys, dualstream.cli.models, dualstream.cli.weights, dualstream.models as m; "
        "m.list_models(); m.list_weights(); "
        "sys.exit(int(any(name in sys.modules for name in ('torch', 'timm', 'safetensors'))))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
