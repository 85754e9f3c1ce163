"""`create_model`: names, options, lazy loading."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import dualstream.models
from dualstream.errors import InputError, UnknownNameError
from dualstream.models import MODELS, Accepts, create_model, list_models, model_function


def test_names():
    assert " ".join(list_models()) == (
        "c2d_r50 c3d cnn_lstm cnn_m_2048 conv_fusion cross_attention early_fusion "
        "hidden_two_stream i3d i3d_r50 inception_v1 inflated_2d late_fusion lecture_3d_cnn "
        "lecture_early_fusion lecture_late_fusion mc3_18 motionnet r2plus1d_18 r2plus1d_34 "
        "r2plus1d_r50 r3d_18 r3d_34 recurrent_conv rmc3_18 s3d s3d_g single_frame slow_fusion "
        "slow_r50 slowfast_r101_16x8 slowfast_r101_8x8 slowfast_r50_4x16 slowfast_r50_8x8 t3d_121 "
        "t3d_169 temporal_attention temporal_conv tsn two_stream x3d x3d_l x3d_m x3d_s x3d_xl "
        "x3d_xs"
    )
    for name in MODELS:
        assert callable(model_function(name))


def test_networks_are_made_with_their_options():
    with torch.device("meta"):
        made = create_model("tsn", num_classes=3, backbone="resnet18", in_channels=2, length=5)
        assert isinstance(made, nn.Module)
        assert made.num_classes == 3
        assert made.inputs == {"clip": Accepts(channels=2, length=5)}
        assert (made.spec, made.classes) == (None, ())
        made = create_model("cnn_m_2048", num_classes=3, image_size=64)
        assert made.inputs == {"clip": Accepts(channels=3, length=1, side=64)}


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
        "import sys, dualstream.cli.models, dualstream.models as m; "
        "m.list_models(); m.list_weights(); "
        "sys.exit(int(any(name in sys.modules for name in ('torch', 'timm', 'safetensors'))))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
