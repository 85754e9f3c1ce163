"""Names of efficientnet_lite_pytorch -> names of timm."""

import pytest
import timm
import torch

from dualstream.errors import WeightsError
from dualstream.models.convert.efficientnet_lite import (
    EFFICIENTNET_LITE_REPEATS,
    convert_efficientnet_lite,
    efficientnet_lite_key,
)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("_conv_stem.weight", "backbone.conv_stem.weight"),
        ("_bn0.running_mean", "backbone.bn1.running_mean"),
        ("_blocks.0._depthwise_conv.weight", "backbone.blocks.0.0.conv_dw.weight"),
        ("_blocks.0._bn1.bias", "backbone.blocks.0.0.bn1.bias"),
        ("_blocks.0._project_conv.weight", "backbone.blocks.0.0.conv_pw.weight"),
        ("_blocks.0._bn2.bias", "backbone.blocks.0.0.bn2.bias"),
        ("_blocks.1._expand_conv.weight", "backbone.blocks.1.0.conv_pw.weight"),
        ("_blocks.2._bn0.weight", "backbone.blocks.1.1.bn1.weight"),
        ("_blocks.3._depthwise_conv.weight", "backbone.blocks.2.0.conv_dw.weight"),
        ("_blocks.10._bn1.running_var", "backbone.blocks.4.2.bn2.running_var"),
        ("_blocks.14._project_conv.weight", "backbone.blocks.5.3.conv_pwl.weight"),
        ("_blocks.15._bn2.num_batches_tracked", "backbone.blocks.6.0.bn3.num_batches_tracked"),
        ("_conv_head.weight", "backbone.conv_head.weight"),
        ("_bn1.weight", "backbone.bn2.weight"),
        ("_fc.bias", "classifier.bias"),
    ],
)
def test_names(theirs, ours):
    assert efficientnet_lite_key(theirs, repeats=(1, 2, 2, 3, 3, 4, 1)) == ours


@pytest.mark.parametrize(
    "name",
    [
        "conv_stem.weight",
        "_blocks.16._bn1.bias",
        "_blocks.0._expand_conv.weight",
        "_blocks.x._bn1.bias",
        "_blocks.1._se_reduce.weight",
        "_fc",
        "",
    ],
)
def test_foreign_names_are_refused(name):
    with pytest.raises(WeightsError, match="not a name of efficientnet_lite_pytorch"):
        efficientnet_lite_key(name, repeats=(1, 2, 2, 3, 3, 4, 1))


@pytest.mark.parametrize("backbone", sorted(EFFICIENTNET_LITE_REPEATS))
def test_repeats_are_those_of_timm(backbone):
    with torch.device("meta"):
        blocks = timm.create_model(backbone).blocks
    assert tuple(len(stage) for stage in blocks) == EFFICIENTNET_LITE_REPEATS[backbone]


def test_values_are_kept_and_made_contiguous():
    weight = torch.arange(24.0).reshape(2, 3, 2, 2).permute(1, 0, 3, 2)
    state = convert_efficientnet_lite(
        {"_conv_stem.weight": weight}, backbone="tf_efficientnet_lite0"
    )
    assert torch.equal(state["backbone.conv_stem.weight"], weight)
    assert state["backbone.conv_stem.weight"].is_contiguous()
