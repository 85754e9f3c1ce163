"""Max pooling by slices gives what torch's kernel gives."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from dualstream.models.layers.pooling import MaxPool, windows_of_offset

LAYERS = [
    ((1, 3, 3), (1, 2, 2), (0, 1, 1)),  # after the stem of a ResNet
    ((2, 1, 1), (2, 1, 1), (0, 0, 0)),  # after res2 of I3D-R50
    ((3, 3, 3), (1, 1, 1), (1, 1, 1)),  # Inception's fourth branch
    ((3, 3, 3), (2, 2, 2), (1, 1, 1)),
]


@pytest.mark.parametrize(
    ("length", "offset", "stride", "count", "expected"),
    [
        (7, -1, 2, 4, (1, 4)),
        (7, 0, 2, 4, (0, 4)),
        (7, 1, 2, 4, (0, 3)),
        (8, 1, 2, 4, (0, 4)),
        (5, -1, 1, 5, (1, 5)),
        (5, 1, 1, 5, (0, 4)),
        (1, 1, 2, 1, (0, 0)),
        (6, -3, 2, 4, (2, 4)),
    ],
)
def test_windows_that_have_a_value_at_an_offset(length, offset, stride, count, expected):
    assert windows_of_offset(length, offset, stride=stride, count=count) == expected


@given(
    size=st.tuples(*[st.integers(1, 7)] * 3),
    kernel=st.tuples(*[st.integers(1, 4)] * 3),
    stride=st.tuples(*[st.integers(1, 3)] * 3),
    padding=st.tuples(*[st.integers(0, 2)] * 3),
)
def test_values_are_those_of_torch(size, kernel, stride, padding):
    assume(all(2 * p <= k for k, p in zip(kernel, padding, strict=True)))
    assume(all(s + 2 * p >= k for s, k, p in zip(size, kernel, padding, strict=True)))
    x = torch.randn(2, 3, *size)
    before = x.clone()
    expected = nn.MaxPool3d(kernel, stride, padding)(x)
    found = MaxPool(kernel, stride, padding)(x)
    assert torch.equal(found, expected)
    assert found.is_contiguous()
    assert torch.equal(x, before)


@pytest.mark.parametrize("layer", LAYERS)
def test_torch_s_kernel_is_not_called_without_gradients(layer, monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("torch's kernel")

    pool = MaxPool(*layer)
    x = torch.randn(1, 2, 4, 8, 8)
    expected = pool(x)
    monkeypatch.setattr("torch.nn.functional.max_pool3d", refuse)
    assert torch.equal(pool(x), expected)
    with torch.no_grad():
        pool(x.requires_grad_())
    with pytest.raises(AssertionError, match="torch's kernel"):
        pool(x)


@pytest.mark.parametrize("layer", LAYERS)
def test_gradients_and_other_layouts_are_those_of_torch(layer):
    pool, reference = MaxPool(*layer), nn.MaxPool3d(*layer)
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        x = torch.randn(2, 3, 4, 8, 8).contiguous(memory_format=layout)
        ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        pool(ours).square().sum().backward()
        reference(theirs).square().sum().backward()
        assert torch.equal(ours.grad, theirs.grad)
        assert torch.equal(pool(x), reference(x))


def test_a_nan_stays_one():
    x = torch.zeros(1, 1, 1, 5, 5)
    x[..., 2, 2] = torch.nan
    layer = LAYERS[0]
    assert torch.equal(MaxPool(*layer)(x).isnan(), nn.MaxPool3d(*layer)(x).isnan())
    assert MaxPool(*layer)(x).isnan().any()


def test_too_small_a_clip_is_torch_s_error():
    with pytest.raises(RuntimeError, match="too small"):
        MaxPool((2, 1, 1))(torch.zeros(1, 1, 1, 4, 4))


def test_an_exported_graph_holds_one_pool():
    program = torch.export.export(MaxPool(*LAYERS[0]), (torch.zeros(1, 2, 2, 6, 6),))
    operations = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert operations == [torch.ops.aten.max_pool3d.default]
