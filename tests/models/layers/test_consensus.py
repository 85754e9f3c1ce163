"""Consensus functions on numbers whose answer is plain."""

import math

import pytest
import torch

from dualstream.errors import InputError, ShapeError, UnknownNameError
from dualstream.models.layers.consensus import make_consensus

LOGITS = torch.tensor([[[1.0, 8.0], [3.0, 0.0], [2.0, 4.0], [6.0, 0.0]]])  # (N=1, S=4, K=2)
FEATURES = torch.tensor([[[0.0], [1.0], [0.0], [0.0]]])  # (N=1, S=4, D=1)


def make(name, *, num_segments=None, top_k=2):
    return make_consensus(name, num_features=1, num_segments=num_segments, top_k=top_k)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("average", [3.0, 3.0]),
        ("max", [6.0, 8.0]),
        ("top_k", [4.5, 6.0]),
        ("attention", [3.0, 3.0]),  # equal weights at the start
    ],
)
def test_joins_segments(name, expected):
    assert make(name)(LOGITS, FEATURES)[0].tolist() == expected


def test_linear_starts_as_the_average_and_uses_its_weights():
    linear = make("linear", num_segments=4)
    assert linear(LOGITS, FEATURES)[0].tolist() == [3.0, 3.0]
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([1.0, 0.0, 0.5, 0.0]))
    assert linear(LOGITS, FEATURES)[0].tolist() == [2.0, 10.0]
    assert linear.weight.requires_grad
    with pytest.raises(ShapeError, match="weights for 4 segments, got 3"):
        linear(LOGITS[:, :3], FEATURES[:, :3])


def test_attention_weighs_by_softmax_of_the_features():
    attention = make("attention")
    with torch.no_grad():
        attention.score.weight.fill_(math.log(5.0))  # weights 1, 5, 1, 1 over 8
    expected = torch.tensor([[(1 + 15 + 2 + 6) / 8, (8 + 0 + 4 + 0) / 8]])
    torch.testing.assert_close(attention(LOGITS, FEATURES), expected)


def test_attention_learns():
    attention = make("attention")
    attention(LOGITS, FEATURES)[0, 1].backward()
    assert attention.score.weight.grad.item() < 0  # looking at segment 1 lowers class 1


def test_top_k_of_fewer_segments_is_the_average():
    assert make("top_k", top_k=9)(LOGITS, FEATURES)[0].tolist() == [3.0, 3.0]


@pytest.mark.parametrize("name", ["average", "max", "top_k", "attention"])
def test_any_number_of_segments_and_no_order(name):
    consensus = make(name)
    longer = torch.cat([LOGITS, LOGITS], dim=1), torch.cat([FEATURES, FEATURES], dim=1)
    assert consensus(*longer).shape == (1, 2)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        consensus(LOGITS[:, order], FEATURES[:, order]), consensus(LOGITS, FEATURES)
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": "mean"}, UnknownNameError, "Unknown consensus 'mean'"),
        ({"name": "linear"}, InputError, "num_segments"),
        ({"name": "average", "num_segments": 3}, InputError, "only there"),
        ({"name": "linear", "num_segments": 0}, InputError, "at least 1, got 0"),
        ({"name": "top_k", "top_k": 0}, InputError, "top_k must be at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        make(**options)
