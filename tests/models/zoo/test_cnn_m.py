"""CNN-M-2048: sizes by hand, norms, input."""

import pytest
import torch
from torch import nn

from dualstream.errors import InputError
from dualstream.models.zoo.cnn_m import CNNM2048, SMALLEST_IMAGE, cnn_m_2048, feature_side


def count(**options):
    with torch.device("meta"):
        return sum(p.numel() for p in cnn_m_2048(**options).parameters())


# conv1 3*96*49 + 96 = 14,208 (20 channels: 94,176); conv2 96*256*25 + 256 = 614,656;
# conv3 256*512*9 + 512 = 1,180,160; conv4 and conv5 512*512*9 + 512 = 2,359,808 each;
# fc6 512*6*6*4096 + 4096 = 75,501,568; fc7 4096*2048 + 2048 = 8,390,656;
# classifier 2048*101 + 101 = 206,949.
@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({"num_classes": 101}, 90_627_813),
        ({"num_classes": 101, "in_channels": 2, "length": 10}, 90_707_781),
        ({"num_classes": 1000}, 92_469_864),
        ({"num_classes": 101, "image_size": 112}, 34_004_709),
    ],
)
def test_parameters_as_counted_by_hand(options, parameters):
    assert count(**options) == parameters


@pytest.mark.parametrize(
    ("image_size", "side"), [(41, 1), (47, 1), (64, 1), (112, 3), (224, 6), (256, 7)]
)
def test_last_pooling_has_the_side_that_the_formula_says(image_size, side):
    assert feature_side(image_size) == side
    with torch.device("meta"):
        model = cnn_m_2048(num_classes=2, image_size=image_size)
        image = torch.zeros(1, 3, image_size, image_size)
    assert model.features(image).shape == (1, 512, side, side)


def test_side_of_every_layer_at_224():
    with torch.device("meta"):
        model = cnn_m_2048(num_classes=2)
        values = torch.zeros(1, 3, 224, 224)
    sides = []
    for layer in model.features:
        values = layer(values)
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            sides.append(values.shape[-1])
    assert sides == [109, 54, 26, 13, 13, 13, 13, 6]


def test_smallest_image_is_the_smallest():
    assert feature_side(SMALLEST_IMAGE) == 1
    assert feature_side(SMALLEST_IMAGE - 1) < 1
    with pytest.raises(InputError, match="at least 41, got 40"):
        cnn_m_2048(num_classes=2, image_size=40)


@pytest.mark.parametrize(
    ("options", "norms"),
    [
        ({}, 2),
        ({"in_channels": 2, "length": 10}, 1),
        ({"in_channels": 3, "length": 5}, 1),
        ({"in_channels": 2, "length": 10, "second_norm": True}, 2),
        ({"second_norm": False}, 1),
    ],
)
def test_temporal_network_leaves_out_the_second_norm(options, norms):
    with torch.device("meta"):
        model = cnn_m_2048(num_classes=2, **options)
    assert sum(isinstance(m, nn.LocalResponseNorm) for m in model.modules()) == norms


def test_response_norm_is_that_of_the_caffe_network():
    with torch.device("meta"):
        norm = cnn_m_2048(num_classes=2).features[2]
    assert (norm.size, norm.alpha, norm.beta, norm.k) == (5, 5e-4, 0.75, 2.0)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return cnn_m_2048(num_classes=7, in_channels=2, length=3, image_size=41).eval()


def test_order_of_fields_matters(small):
    clips = torch.randn(1, 2, 3, 41, 41)
    with torch.inference_mode():
        assert not torch.allclose(small(clips), small(clips.flip(2)))


def test_start_keeps_the_signal_alive(small):
    with torch.inference_mode():
        logits = small(torch.randn(8, 2, 3, 41, 41))
    assert 1e-3 < logits.std() < 10


def test_dropout_acts_after_both_fully_connected_layers():
    with torch.device("meta"):
        model = cnn_m_2048(num_classes=2, dropout=0.9)
    assert isinstance(model, CNNM2048)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.9, 0.9]
