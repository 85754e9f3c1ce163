"""X3D: parameters, sizes, layers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.models.x3d_factors import PUBLISHED, X2D
from torch import nn
from torch.nn import functional as F

from dualstream.errors import InputError, UnknownNameError
from dualstream.models.trainable import set_trainable
from dualstream.models.zoo.x3d import (
    X3D,
    Block,
    SqueezeExcitation,
    TimeConv,
    x3d,
    x3d_l,
    x3d_m,
    x3d_s,
    x3d_xl,
    x3d_xs,
)

VARIANTS = {"x3d_xs": x3d_xs, "x3d_s": x3d_s, "x3d_m": x3d_m, "x3d_l": x3d_l, "x3d_xl": x3d_xl}


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def clips(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(seed))


def small(**options: object) -> X3D:
    """X2D with weights that let every block do something."""
    torch.manual_seed(0)
    model = x3d(num_classes=5, **options)
    for block in model.modules():
        if isinstance(block, Block):
            nn.init.constant_(block.narrow.norm.weight, 0.5)
    return model.eval()


@pytest.mark.parametrize(
    ("make", "count"),
    [
        # Counted from pytorchvideo's create_x3d; the paper prints 1.63 M for X2D, and 3.8, 6.1 and
        # 11.0 M for the others.
        (x3d, 1_633_512),
        (x3d_xs, 3_794_274),
        (x3d_s, 3_794_274),
        (x3d_m, 3_794_274),
        (x3d_l, 6_153_384),
        (x3d_xl, 11_095_840),
    ],
)
def test_parameters(make: Callable[..., X3D], count: int) -> None:
    with torch.device("meta"):
        assert parameters(make(num_classes=400)) == count
        # One channel less of input: 3 x 3 weights less for each channel of the stem.
        model = make(num_classes=400, in_channels=2)
        assert parameters(model) == count - 9 * model.stem.space.out_channels


@pytest.mark.parametrize("name", list(VARIANTS))
def test_variants_are_their_published_factors(name: str) -> None:
    factors = PUBLISHED[name]
    with torch.device("meta"):
        grown = x3d(
            num_classes=7,
            gamma_w=factors.gamma_w,
            gamma_b=factors.gamma_b,
            gamma_d=factors.gamma_d,
        )
        variant = VARIANTS[name](num_classes=7)
    shapes = [{key: value.shape for key, value in m.state_dict().items()} for m in (grown, variant)]
    assert shapes[0] == shapes[1]


def test_x2d_is_the_default() -> None:
    with torch.device("meta"):
        model = x3d(num_classes=3)
    stages = (model.res2, model.res3, model.res4, model.res5)
    assert [len(stage) for stage in stages] == [1, 2, 5, 3]
    assert (X2D.gamma_w, X2D.gamma_b, X2D.gamma_d) == (1.0, 1.0, 1.0)


def test_time_is_kept_and_space_halved_five_times() -> None:
    model = small()
    x = clips(1, 3, 3, 64, 40)
    sizes = []
    with torch.inference_mode():
        for stage in model.stages()[:-1]:
            x = stage(x)
            sizes.append(tuple(x.shape[1:]))
    assert sizes == [
        (24, 3, 32, 20),
        (24, 3, 16, 10),
        (48, 3, 8, 5),
        (96, 3, 4, 3),
        (192, 3, 2, 2),
    ]


def test_every_second_block_is_squeezed() -> None:
    with torch.device("meta"):
        model = x3d_m(num_classes=2)
    squeezed = [isinstance(block.gate, SqueezeExcitation) for block in model.res3]
    assert squeezed == [True, False, True, False, True]


def test_squeeze_excitation_by_hand() -> None:
    gate = SqueezeExcitation(2)
    with torch.no_grad():
        gate.squeeze.weight.fill_(0)
        gate.squeeze.weight[0] = torch.tensor([1.0, 1.0])  # the sum of both means, 2 + 4
        gate.squeeze.bias.fill_(-1)
        gate.excite.weight.fill_(0)
        gate.excite.weight[1, 0] = 0.2
        gate.excite.bias.fill_(0)
    x = torch.stack([torch.full((1, 2, 1), 2.0), torch.full((1, 2, 1), 4.0)])[
        None
    ]  # (1, 2, 1, 2, 1)
    y = gate(x)[0, :, 0, 0, 0]
    assert y.tolist() == pytest.approx([2 * 0.5, 4 * 0.7310586], rel=1e-6)  # sigmoid of 0 and 1


def test_blocks_start_as_nothing() -> None:
    model = x3d(num_classes=2)
    block = model.res3[1]
    x = clips(2, 48, 2, 4, 4)
    assert torch.equal(block.train()(x), x)  # x is not negative, so the ReLU keeps it


@pytest.mark.parametrize("frames", [1, 2, 4, 9])
def test_time_conv_is_the_convolution(frames: int) -> None:
    torch.manual_seed(1)
    conv = TimeConv(3, 5)
    conv.bias = nn.Parameter(torch.rand(3))  # as folding a batch norm leaves it
    x = torch.rand(2, 3, frames, 4, 5, requires_grad=True)
    again = x.detach().clone().requires_grad_()
    y = conv(x)
    expected = F.conv3d(again, conv.weight, conv.bias, padding=(2, 0, 0), groups=3)
    torch.testing.assert_close(y, expected)
    push = torch.rand_like(y)
    (of_weight,) = torch.autograd.grad(y, conv.weight, push, retain_graph=True)
    (expected_of_weight,) = torch.autograd.grad(expected, conv.weight, push, retain_graph=True)
    torch.testing.assert_close(of_weight, expected_of_weight)
    y.backward(push)
    expected.backward(push)
    torch.testing.assert_close(x.grad, again.grad)


def test_time_conv_takes_channels_last() -> None:
    conv = TimeConv(3, 5)
    x = clips(2, 3, 4, 5, 6)
    torch.testing.assert_close(conv(x.to(memory_format=torch.channels_last_3d)), conv(x))


def test_non_local_blocks_start_as_the_identity() -> None:
    plain = small()
    torch.manual_seed(0)
    wider = x3d(num_classes=5, non_local={"res4": [1, 3]}, non_local_kind="dot_product").eval()
    missing, foreign = wider.load_state_dict(plain.state_dict(), strict=False)
    assert not foreign
    assert {name.partition(".non_local.")[0] for name in missing} == {"res4.1", "res4.3"}
    x = clips(1, 3, 2, 32, 32)
    with torch.inference_mode():
        assert torch.equal(plain(x), wider(x))


def test_the_last_stage_is_the_embedding() -> None:
    model = small()
    set_trainable(model, 1)
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"embedding", "classifier"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"gamma_w": 0.0}, InputError, "gamma_w must be a number above 0"),
        ({"gamma_d": float("inf")}, InputError, "gamma_d"),
        ({"gamma_b": 0.01}, InputError, "leaves no channel"),
        ({"dropout": 1.0}, InputError, "dropout"),
        ({"in_channels": 0}, InputError, "in_channels"),
        ({"non_local": {"res6": [0]}}, UnknownNameError, "res6"),
        ({"non_local": {"res2": [1]}}, InputError, "blocks 0..0"),
    ],
)
def test_options_out_of_range(
    options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        x3d(num_classes=2, **options)
