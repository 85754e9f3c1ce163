"""LSTM, convolution and attention over frame features, each against its definition."""

import pytest
import torch
from torch import nn

from dualstream.errors import InputError, ShapeError, UnknownNameError
from dualstream.models.trainable import set_trainable
from dualstream.models.zoo.frame_models import (
    LSTM,
    Attention,
    AttentionBlock,
    Convolutions,
    cnn_lstm,
    resampled,
    sinusoids,
    temporal_attention,
    temporal_conv,
)

MAKERS = (cnn_lstm, temporal_conv, temporal_attention)


def tiny(make, **options):
    torch.manual_seed(0)
    return make(**{"num_classes": 5, "backbone": "resnet10t", "hidden": 16, **options})


# ResNet-50 without its classifier has 23,508,032; 101 classes.
# LSTM: 4 * 256 * (2048 + 256 + 2) = 2,361,344; classifier 256*101 + 101 = 25,957.
# Convolutions: 3*2048*512 + 3*512*512 + 2 * 2*512 = 3,934,208; classifier 512*101 + 101 = 51,813.
# Attention: 2048*512 + 512 = 1,049,088; a block 2 * 1024 + 512*1536 + 1536 + 512*512 + 512
# + 512*2048 + 2048 + 2048*512 + 512 = 3,152,384; last norm 1,024; classifier 51,813.
@pytest.mark.parametrize(
    ("make", "options", "parameters"),
    [
        (cnn_lstm, {}, 23_508_032 + 2_361_344 + 25_957),
        (temporal_conv, {}, 23_508_032 + 3_934_208 + 51_813),
        (temporal_attention, {}, 23_508_032 + 1_049_088 + 2 * 3_152_384 + 1_024 + 51_813),
        (
            temporal_attention,
            {"positions": "learned"},
            23_508_032 + 1_049_088 + 32 * 512 + 2 * 3_152_384 + 1_024 + 51_813,
        ),
    ],
)
def test_parameters(make, options, parameters):
    with torch.device("meta"):
        model = make(num_classes=101, **options)
    assert sum(p.numel() for p in model.parameters()) == parameters


@torch.no_grad()
def lstm_by_hand(lstm, features, layer=0):
    """States (N, T, H) by the equations; torch keeps the gates in the order i, f, g, o."""
    weight_x, weight_h, bias_x, bias_h = (
        getattr(lstm, f"{name}_l{layer}")
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    hidden = cell = torch.zeros(features.shape[0], lstm.hidden_size)
    states = []
    for t in range(features.shape[1]):
        gates = features[:, t] @ weight_x.T + bias_x + hidden @ weight_h.T + bias_h
        i, f, g, o = gates.chunk(4, dim=1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        states.append(hidden)
    return torch.stack(states, dim=1)


@pytest.mark.parametrize("prediction", ["mean", "last"])
@pytest.mark.parametrize("layers", [1, 2])
def test_lstm_is_the_hand_written_loop(prediction, layers):
    torch.manual_seed(1)
    part = LSTM(6, hidden=4, layers=layers, prediction=prediction)
    features = torch.randn(3, 5, 6)
    states = features
    for layer in range(layers):
        states = lstm_by_hand(part.lstm, states, layer)
    expected = states.mean(dim=1) if prediction == "mean" else states[:, -1]
    torch.testing.assert_close(part(features), expected)


def test_mean_prediction_is_the_mean_of_the_logits_of_each_step():
    model = tiny(cnn_lstm).eval()
    clips = torch.randn(2, 3, 4, 32, 32)
    with torch.inference_mode():
        states = model.over_time.lstm(model.frames(clips))[0]
        logits = torch.stack([model.classifier(states[:, t]) for t in range(4)])
        torch.testing.assert_close(model(clips), logits.mean(dim=0))


def test_frame_features_are_those_of_each_image():
    model = tiny(cnn_lstm).eval()
    clips = torch.randn(2, 3, 3, 32, 32)
    with torch.inference_mode():
        features = model.frames(clips)
        assert features.shape == (2, 3, 512)
        for t in range(3):
            torch.testing.assert_close(features[:, t], model.frames.backbone(clips[:, :, t]))


def test_convolution_is_a_sum_over_neighbouring_steps():
    torch.manual_seed(2)
    part = Convolutions(3, hidden=4, layers=1, kernel=3).eval()
    norm = part.units[0].norm
    for statistic in (norm.running_mean, norm.weight.data, norm.bias.data):
        statistic.normal_()
    weight = part.units[0].conv.weight[..., 0, 0]  # (4, 3, 3): out, in, time
    features = torch.randn(2, 5, 3)
    padded = torch.cat((torch.zeros(2, 1, 3), features, torch.zeros(2, 1, 3)), dim=1)
    steps = []
    for t in range(5):
        sums = sum(padded[:, t + k] @ weight[..., k].T for k in range(3))  # (2, 4)
        scaled = (sums - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        steps.append((scaled * norm.weight + norm.bias).relu())
    torch.testing.assert_close(part(features), torch.stack(steps).mean(dim=0))


def test_attention_block_is_torchs_pre_norm_encoder_layer():
    torch.manual_seed(3)
    ours = AttentionBlock(12, heads=3)
    theirs = nn.TransformerEncoderLayer(
        12, 3, dim_feedforward=48, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    pairs = {
        "norm1": theirs.norm1, "norm2": theirs.norm2, "projection": theirs.self_attn.out_proj,
        "full.0": theirs.linear1, "full.2": theirs.linear2,
    }  # fmt: skip
    theirs.self_attn.in_proj_bias.data.normal_()
    theirs.norm1.weight.data.normal_()
    state = {
        f"{name}.{kind}": getattr(module, kind)
        for name, module in pairs.items()
        for kind in ("weight", "bias")
    }
    state["query_key_value.weight"] = theirs.self_attn.in_proj_weight
    state["query_key_value.bias"] = theirs.self_attn.in_proj_bias
    ours.load_state_dict(state)
    x = torch.randn(2, 7, 12)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("positions", ["none", "sinusoidal", "learned"])
def test_attention_knows_the_order_of_frames_by_positions_only(positions):
    torch.manual_seed(4)
    part = Attention(6, hidden=8, layers=2, heads=2, positions=positions).eval()
    if positions == "learned":
        part.table.data.normal_()
    features, order = torch.randn(2, 6, 6), torch.tensor([3, 0, 5, 1, 4, 2])
    same = torch.allclose(part(features[:, order]), part(features), atol=1e-5)
    assert same == (positions == "none")
    if positions == "none":
        x = part.projection(features)
        torch.testing.assert_close(part.blocks(x[:, order]), part.blocks(x)[:, order])


def test_sinusoids():
    # Four channels: rates 1 and 10000^(-2/4) = 0.01.
    expected = torch.tensor([
        [0.0, 1.0, 0.0, 1.0],
        [0.84147098, 0.54030231, 0.00999983, 0.99995000],
        [0.90929743, -0.41614684, 0.01999867, 0.99980001],
    ])  # fmt: skip
    torch.testing.assert_close(sinusoids(3, 4), expected)
    assert torch.equal(sinusoids(40, 6)[:9], sinusoids(9, 6))


@pytest.mark.parametrize(
    ("length", "expected"),
    [(1, [0.0]), (2, [0.0, 6.0]), (3, [0.0, 3.0, 6.0]), (4, [0.0, 2.0, 4.0, 6.0]),
     (7, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])],
)  # fmt: skip
def test_learned_positions_stretch_over_the_clip(length, expected):
    table = torch.tensor([[0.0, 0.0], [2.0, -2.0], [4.0, -4.0], [6.0, -6.0]])
    found = resampled(table, length)
    torch.testing.assert_close(found, torch.tensor([[v, -v] for v in expected]))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("frames", [1, 2, 45])
def test_any_length_from_one_frame_of_one_pixel(make, frames):
    model = tiny(make).eval()
    assert model.inputs["clip"].smallest == (1, 1, 1)
    with torch.inference_mode():
        assert model(torch.randn(2, 3, frames, 1, 1)).shape == (2, 5)


def test_learned_positions_take_any_length():
    model = tiny(temporal_attention, positions="learned").eval()
    with torch.inference_mode():
        for frames in (1, 32, 40):
            assert model(torch.randn(1, 3, frames, 16, 24)).shape == (1, 5)


def test_stages_are_trained_from_the_end():
    model = tiny(cnn_lstm)
    set_trainable(model, 2)
    trained = {".".join(n.split(".")[:3]) for n, p in model.named_parameters() if p.requires_grad}
    assert {name for name in trained if name.startswith("frames")} == {"frames.backbone.layer4"}
    assert {name.split(".")[0] for name in trained} == {"frames", "over_time", "classifier"}


def test_backbone_with_a_least_size_says_which():
    with torch.device("meta"):
        model = temporal_conv(num_classes=2, backbone="inception_v3").eval()
        assert model.inputs["clip"].smallest == (1, 75, 75)
        assert model(torch.zeros(1, 3, 1, 75, 75)).shape == (1, 2)
        with pytest.raises(ShapeError, match=r"at least 1 x 75 x 75 .*got 1 x 75 x 74"):
            model(torch.zeros(1, 3, 1, 75, 74))


def test_backbone_of_one_size_says_which():
    with torch.device("meta"):
        model = cnn_lstm(num_classes=2, backbone="test_vit").eval()
        with pytest.raises(ShapeError, match="160 x 160, got 192 x 160"):
            model(torch.zeros(1, 3, 2, 192, 160))
        with pytest.raises(ShapeError, match="160 x 160, got 159 x 160"):
            model(torch.zeros(1, 3, 2, 159, 160))
        assert model.frames(torch.zeros(1, 3, 2, 160, 160)).shape == (1, 2, 64)


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (cnn_lstm, {"prediction": "max"}, UnknownNameError, "prediction 'max'"),
        (cnn_lstm, {"hidden": 0}, InputError, "hidden must be at least 1, got 0"),
        (cnn_lstm, {"in_channels": 0}, InputError, "in_channels must be at least 1"),
        (cnn_lstm, {"layers": 0}, InputError, "layers must be at least 1"),
        (cnn_lstm, {"dropout": -0.1}, InputError, "dropout"),
        (cnn_lstm, {"backbone": "resnet5O"}, UnknownNameError, "Unknown backbone"),
        (cnn_lstm, {"backbone": "vgg11", "checkpointing": True}, InputError, "checkpointing"),
        (temporal_conv, {"kernel": 4}, InputError, "kernel must be odd and at least 1, got 4"),
        (temporal_conv, {"layers": 0}, InputError, "layers"),
        (temporal_attention, {"positions": "rotary"}, UnknownNameError, "positions 'rotary'"),
        (temporal_attention, {"hidden": 12}, InputError, "multiple of heads, got 12 and 8"),
        (temporal_attention, {"hidden": 9, "heads": 3}, InputError, "even"),
        (temporal_attention, {"heads": 0}, InputError, "heads"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, options, error, message):
    with torch.device("meta"), pytest.raises(error, match=message):
        tiny(make, **options)
