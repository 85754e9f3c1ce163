"""Names of efficientnet_lite_pytorch <-> names of `tsn` over timm."""

import pytest
import torch

from dualstream.errors import WeightsError
from dualstream.models import create_model
from dualstream.models.convert import from_layout, to_layout


def on_meta(backbone="tf_efficientnet_lite0", **options):
    with torch.device("meta"):
        return create_model("tsn", num_classes=1000, backbone=backbone, **options)


@pytest.fixture(scope="module")
def lite0():
    return create_model("tsn", num_classes=1000, backbone="tf_efficientnet_lite0")


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
def test_names(theirs, ours, lite0):
    own = lite0.state_dict()[ours]
    assert to_layout(lite0, layout="efficientnet_lite")[theirs].data_ptr() == own.data_ptr()


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
def test_foreign_names_are_refused(name, lite0):
    state = {**to_layout(lite0, layout="efficientnet_lite"), name: torch.zeros(1)}
    with pytest.raises(WeightsError, match=f"efficientnet_lite's .*1 not of this network: {name}"):
        from_layout(state, lite0, layout="efficientnet_lite")


@pytest.mark.parametrize(("index", "blocks"), [(0, 16), (1, 21), (2, 21)])
def test_there_and_back(index, blocks):
    model = on_meta(f"tf_efficientnet_lite{index}")
    theirs = to_layout(model, layout="efficientnet_lite")
    assert len(theirs) == len(model.state_dict())
    numbers = {int(key.split(".")[1]) for key in theirs if key.startswith("_blocks.")}
    assert numbers == set(range(blocks))
    back = from_layout(theirs, model, layout="efficientnet_lite")
    assert [(key, value.shape) for key, value in back.items()] == [
        (key, value.shape) for key, value in model.state_dict().items()
    ]


def test_values_are_kept_and_made_contiguous(lite0):
    state = to_layout(lite0, layout="efficientnet_lite")
    weight = torch.arange(864.0).reshape(3, 3, 32, 3).permute(2, 0, 3, 1)
    state["_conv_stem.weight"] = weight
    ours = from_layout(state, lite0, layout="efficientnet_lite")["backbone.conv_stem.weight"]
    assert torch.equal(ours, weight)
    assert ours.is_contiguous()


def test_consensus_is_left_out_and_other_backbones_have_no_such_names(lite0):
    state = to_layout(lite0, layout="efficientnet_lite")
    with_consensus = on_meta(consensus="attention")
    assert "consensus.score.weight" in with_consensus.state_dict()
    ours = from_layout(state, with_consensus, layout="efficientnet_lite")
    assert ours.keys() == lite0.state_dict().keys()
    for model in (on_meta("resnet10t"), create_model("x3d_xs", num_classes=2)):
        with pytest.raises(WeightsError, match="only for tsn with a backbone tf_efficientnet_lite"):
            to_layout(model, layout="efficientnet_lite")
