"""Non-local blocks against the paper's equations, written as loops."""

import math

import pytest
import torch
from torch import nn

from dualstream.errors import InputError, UnknownNameError
from dualstream.models import create_model
from dualstream.models.layers.non_local import NonLocalBlock, add_non_local

KINDS = ["embedded_gaussian", "gaussian", "dot_product", "concatenation"]


def trained(channels, **options):
    """A block with random weights and statistics, for evaluation."""
    torch.manual_seed(0)
    block = NonLocalBlock(channels, **options)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.7)
    nn.init.normal_(block.norm.running_mean)
    nn.init.uniform_(block.norm.running_var, 0.5, 2.0)
    return block.double().eval()


def places(x):
    """(C, T, H, W) -> the vector of C at each place, in order of t, h, w."""
    return [x[:, t, h, w] for t in range(x.shape[1]) for h in range(x.shape[2])
            for w in range(x.shape[3])]  # fmt: skip


def pooled(x):
    """Maximum of each 2 x 2 in height and width; (C, T, H, W) -> (C, T, H // 2, W // 2)."""
    rows = [x[:, :, 2 * h : 2 * h + 2].amax(dim=2) for h in range(x.shape[2] // 2)]
    x = torch.stack(rows, dim=2)
    columns = [x[..., 2 * w : 2 * w + 2].amax(dim=3) for w in range(x.shape[3] // 2)]
    return torch.stack(columns, dim=3)


def linear(conv, vector):
    return conv.weight.flatten(1) @ vector + conv.bias


def compared(block, here, there):
    """f(x_i, x_j), section 3.2."""
    if block.kind == "gaussian":
        return math.exp(float(here @ there))
    query, key = linear(block.query, here), linear(block.key, there)
    if block.kind == "embedded_gaussian":
        return math.exp(float(query @ key))
    if block.kind == "dot_product":
        return float(query @ key)
    return max(0.0, float(block.compare.weight.flatten() @ torch.cat((query, key))))


def by_loops(block, x, keys):
    """Equations 1 and 6 for one clip x (C, T, H, W) and the clip that it looks at."""
    rows = []
    for here in places(x):
        weights = [compared(block, here, there) for there in places(keys)]
        exponential = block.kind in ("embedded_gaussian", "gaussian")
        total = sum(weights) if exponential else len(weights)
        gathered = sum(
            weight / total * linear(block.value, there)
            for weight, there in zip(weights, places(keys), strict=True)
        )
        projected = linear(block.projection, gathered)
        norm = block.norm
        scaled = (projected - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        rows.append(here + norm.weight * scaled + norm.bias)
    return torch.stack(rows, dim=1).reshape(x.shape)


@pytest.mark.parametrize("subsample", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_equations(kind, subsample):
    block = trained(4, kind=kind, subsample=subsample)
    clips = torch.randn(2, 4, 2, 3, 5, dtype=torch.float64)
    with torch.no_grad():
        found = block(clips)
        expected = [by_loops(block, x, pooled(x) if subsample else x) for x in clips]
    torch.testing.assert_close(found, torch.stack(expected))


def test_a_single_row_is_not_pooled():
    block = trained(2, subsample=True)
    x = torch.randn(1, 2, 2, 1, 4, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(block(x), by_loops(block, x[0], x[0])[None])


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_block_is_the_identity_and_learns(kind):
    block = NonLocalBlock(6, kind=kind)
    x = torch.randn(2, 6, 3, 4, 4)
    for training in (True, False):
        assert torch.equal(block.train(training)(x), x)
    block.train()(x).square().sum().backward()
    assert block.norm.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_each_parameter_gets_a_gradient_once_the_gain_is_not_zero(kind):
    block = trained(6, kind=kind).train()
    block(torch.randn(2, 6, 2, 4, 4, dtype=torch.float64)).square().sum().backward()
    # A key's bias adds the same to all products of a query, which softmax takes away; what the
    # batch norm subtracts can have none either.
    blind = {"projection.bias"} | ({"key.bias"} if kind == "embedded_gaussian" else set())
    if kind in ("embedded_gaussian", "gaussian"):
        blind.add("value.bias")  # weights that sum to one bring it to every place alike
    for name, parameter in block.named_parameters():
        size = parameter.grad.abs().max().item()
        assert (size < 1e-9) == (name in blind), (name, size)


def test_parameters():
    # 4 x (C x C/2 weights) + 3 x C/2 + C biases + 2 C of the norm, for C = 8.
    assert sum(p.numel() for p in NonLocalBlock(8).parameters()) == 128 + 12 + 8 + 16
    assert sum(p.numel() for p in NonLocalBlock(8, kind="gaussian").parameters()) == 64 + 4 + 8 + 16
    concatenation = NonLocalBlock(8, kind="concatenation")
    assert sum(p.numel() for p in concatenation.parameters()) == 164 + 8


def test_wrong_options_are_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'dot_product'"):
        NonLocalBlock(8, kind="dot_produkt")
    with pytest.raises(InputError, match="at least 2 channels, got 1"):
        NonLocalBlock(1)


class Block(nn.Module):
    def __init__(self, out_channels):
        super().__init__()
        self.out_channels = out_channels
        self.non_local = nn.Identity()


def stages():
    return {"res2": [Block(4)], "res3": [Block(6), Block(6), Block(6)]}


def test_insertion_after_the_chosen_blocks_only():
    parts = stages()
    add_non_local(parts, {"res3": [0, 2]}, kind="gaussian")
    kinds = [type(block.non_local) for block in parts["res3"]]
    assert kinds == [NonLocalBlock, nn.Identity, NonLocalBlock]
    assert isinstance(parts["res2"][0].non_local, nn.Identity)
    assert parts["res3"][2].non_local.norm.num_features == 6
    assert parts["res3"][2].non_local.kind == "gaussian"


@pytest.mark.parametrize("nothing", [None, {}, {"res2": []}])
def test_no_places_change_nothing(nothing):
    parts = stages()
    add_non_local(parts, nothing, kind="gaussian")
    assert all(isinstance(b.non_local, nn.Identity) for blocks in parts.values() for b in blocks)


def test_wrong_places_are_refused():
    with pytest.raises(UnknownNameError, match=r"stage for non-local blocks 'res6'.*res2, res3"):
        add_non_local(stages(), {"res6": [0]}, kind="gaussian")
    for index in (3, -1):
        with pytest.raises(InputError, match=rf"res3 has blocks 0..2, no {index}"):
            add_non_local(stages(), {"res3": [index]}, kind="gaussian")
    with pytest.raises(UnknownNameError, match="kind of non-local block"):
        add_non_local(stages(), None, kind="max")


@pytest.mark.parametrize("places", [{"res3": 1}, ["res3"], {"res3": ["1"]}, {"res3": "1"}, 3])
def test_places_of_another_form_are_refused(places):
    with pytest.raises(InputError, match=r"non_local of r3d_18 must be Mapping\[str, Sequence"):
        create_model("r3d_18", num_classes=2, non_local=places)
