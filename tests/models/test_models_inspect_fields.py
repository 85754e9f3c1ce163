"""Receptive fields against the truth: which input entries have a gradient at an output entry."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from dualstream.models import create_model
from dualstream.models.inspect import LayerRow, inspect_network

Size = tuple[int, int, int, int]
Function = Callable[[torch.Tensor], torch.Tensor]


class Made(nn.Module):
    """A network of a function and the layers that it calls, all weights equal and positive."""

    def __init__(self, function: Callable[[nn.ModuleList, torch.Tensor], torch.Tensor], *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.function = function
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(1 / parameter[0].numel())

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.function(self.layers, clips)


def actual(model: nn.Module, size: Size, index: tuple[int, ...]) -> list[tuple[int, int]]:
    """First and last position along each axis with a gradient; [] where there is none."""
    clips = torch.ones((1, *size), requires_grad=True)
    model(clips)[index].backward()
    assert clips.grad is not None
    seen = clips.grad[0].abs().sum(dim=0) > 0
    if not seen.any():
        return []
    extents = []
    for axis in range(3):
        other = tuple(a for a in range(3) if a != axis)
        places = seen.any(dim=other).nonzero().flatten().tolist()
        extents.append((places[0], places[-1]))
    return extents


def measured(model: nn.Module, size: Size) -> LayerRow:
    """Row of the network's output."""
    row = inspect_network(nn.Sequential(model, nn.Identity()), input_size=size, depth="all").row(
        "1"
    )
    assert row.receptive_field is not None
    return row


def check(model: nn.Module, size: Size, *, most: int = 24, alike: bool = True) -> LayerRow:
    """Compare the receptive field with gradients at corners, in the middle and elsewhere.

    No entry sees more; away from the border each sees exactly that much; and where entries have no
    place of their own, together they do. Where entries are not `alike` (recurrence), the field is
    that of the one that sees most.
    """
    row = measured(model, size)
    shape = model(torch.ones((1, *size))).shape
    indices = list(itertools.product(*(range(n) for n in shape)))
    middle = tuple(n // 2 for n in shape)
    some = random.Random(5).sample(indices, min(most, len(indices)))
    extents = [actual(model, size, index) for index in {indices[0], indices[-1], middle, *some}]
    extents = [found for found in extents if found]  # entries of padding see nothing
    for axis, field in enumerate(row.receptive_field or ()):
        for first, last in (found[axis] for found in extents):
            assert last - first + 1 <= field, axis
            inside = first - field >= 0 and last + field < size[1 + axis]
            if alike and row.positions[axis] and inside:
                assert last - first + 1 == field, axis
        if not row.positions[axis] and len(indices) <= most:
            seen = [end for found in extents for end in found[axis]]
            assert max(seen) - min(seen) + 1 == field
    return row


def conv(cin: int, cout: int, kernel, **options) -> nn.Conv3d:
    return nn.Conv3d(cin, cout, kernel, bias=False, **options)


def in_order(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
    for layer in layers:
        x = layer(x)
    return x


def flat(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
    """The layers on images of all frames in a row: (1, C, T, H, W) -> (1, C', H', W')."""
    return in_order(layers, x.transpose(1, 2).flatten(1, 2))


@pytest.mark.parametrize(
    ("kernel", "step", "pad", "apart", "alike"),
    [
        (4, 2, 1, 1, True),
        (3, 2, 1, 1, False),
        (5, 1, 2, 1, True),
        (2, 3, 0, 1, False),
        (3, 2, 2, 2, False),
    ],
)
def test_transposed_convolutions(kernel: int, step: int, pad: int, apart: int, alike: bool) -> None:
    model = Made(
        flat,
        nn.Conv2d(4, 3, 3, padding=1, bias=False),
        nn.ConvTranspose2d(3, 2, kernel, step, pad, dilation=apart, bias=False),
        nn.Conv2d(2, 2, 3, padding=1, bias=False),
    )
    row = check(model, (2, 2, 17, 13), alike=alike)
    assert row.stride[1:] == pytest.approx((1 / step, 1 / step), abs=0.01)


def test_a_decoder_beside_its_encoder() -> None:
    """As in MotionNet: halved twice, enlarged twice, each time beside what came in, cut to it."""

    def run(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        first = x.transpose(1, 2).flatten(1, 2)
        second = layers[0](first)
        third = layers[1](second)
        back = layers[2](third)[..., : second.shape[-2], : second.shape[-1]]
        back = layers[3](torch.cat((second, back), dim=1))
        return back[..., : first.shape[-2], : first.shape[-1]]

    model = Made(
        run,
        nn.Conv2d(2, 2, 3, stride=2, padding=1, bias=False),
        nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False),
        nn.ConvTranspose2d(3, 2, 4, 2, 1, bias=False),
        nn.ConvTranspose2d(4, 2, 4, 2, 1, bias=False),
    )
    row = check(model, (1, 2, 45, 39), alike=False)
    assert row.stride[1:] == (1, 1)
    # Two neighbours see up to three places of the innermost layer, which see 7 and are 4 apart.
    assert row.receptive_field == (2, 15, 15)


@pytest.mark.parametrize("size", [(26, 20), (39, 30), (13, 10), (20, 14), (7, 5)])
def test_bilinear_resizing(size: tuple[int, int]) -> None:
    def run(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        images = flat(layers, x)
        return functional.interpolate(images, size=size, mode="bilinear", align_corners=False)

    check(Made(run, nn.Conv2d(4, 3, 3, padding=1, bias=False)), (2, 2, 13, 10), alike=False)


def test_windows() -> None:
    model = Made(
        in_order,
        conv(2, 3, (3, 5, 3), padding=(1, 2, 0)),
        nn.ReLU(),
        nn.AvgPool3d((1, 2, 3), stride=(1, 2, 2), padding=(0, 0, 1)),
        conv(3, 2, (2, 3, 3), stride=(2, 1, 2), padding=(0, 2, 2), dilation=(1, 2, 1)),
        nn.BatchNorm3d(2).eval(),
        nn.AvgPool3d(2, stride=1),
    )
    row = check(model, (2, 14, 24, 22))
    assert row.receptive_field == (6, 16, 13)
    assert row.stride == (2, 2, 4)


def test_residual_block_with_strided_shortcut() -> None:
    def block(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(layers[1](layers[0](x)) + layers[2](x)) + 0 * layers[2](x)

    model = Made(
        block,
        conv(2, 3, 3, padding=1, stride=(1, 2, 2)),
        conv(3, 3, (1, 3, 3), padding=(0, 1, 1)),
        conv(2, 3, 1, stride=(1, 2, 2)),
    )
    row = check(model, (2, 6, 15, 15))
    assert row.receptive_field == (3, 7, 7)


def test_inception_block_joins_branches() -> None:
    def block(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([layer(x) for layer in layers], dim=1)

    model = Made(
        block,
        conv(2, 1, 1),
        conv(2, 2, 3, padding=1),
        nn.Sequential(
            conv(2, 2, (3, 1, 1), padding=(1, 0, 0)), conv(2, 1, (1, 5, 5), padding=(0, 2, 2))
        ),
        nn.Sequential(nn.AvgPool3d((3, 3, 7), stride=1, padding=(1, 1, 3)), conv(2, 1, 1)),
    )
    assert measured(model, (2, 6, 12, 14)).receptive_field == (3, 5, 7)
    summed = Made(lambda layers, x: block(layers, x).sum(dim=1), *model.layers)
    check(summed, (2, 6, 12, 14))


def test_time_in_the_batch_and_back() -> None:
    def frames(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        images = x.transpose(1, 2).flatten(0, 1)  # (N*T, C, H, W)
        maps = layers[0](images)
        vectors = maps.mean(dim=(2, 3)).reshape(1, x.shape[2], -1)  # (N, T, D)
        return layers[1](vectors.transpose(1, 2))

    model = Made(
        frames,
        nn.Conv2d(2, 3, 3, stride=2, bias=False),
        nn.Conv1d(3, 2, 3, padding=1, stride=2, bias=False),
    )
    row = check(model, (2, 9, 8, 6))
    assert (row.positions[0], row.stride[0]) == (5, 2)
    assert row.receptive_field == (3, 7, 5)  # the last column is not used


def test_time_in_the_channels() -> None:
    def stacked(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        return in_order(layers, x.transpose(1, 2).flatten(1, 2))

    both = Made(stacked, nn.Conv2d(12, 4, 3, padding=1, bias=False))
    assert check(both, (2, 6, 9, 9)).receptive_field == (6, 3, 3)
    groups = Made(stacked, nn.Conv2d(12, 6, 3, padding=1, groups=3, bias=False))
    row = check(groups, (2, 6, 9, 9))  # two frames a group
    assert (row.receptive_field[0], row.stride[0]) == (2, 2)


@pytest.mark.parametrize(
    ("choose", "field", "stride"),
    [
        (lambda x: x[:, :, ::4], 1, 4),
        (lambda x: x[:, :, 1:].flip(2), 1, 1),
        (lambda x: x.index_select(2, torch.arange(0, 12, 3)), 1, 3),
        (lambda x: x[:, :, [0, -1]], 1, 11),
        (lambda x: torch.stack([x[:, :, t] for t in (1, 4, 7)], dim=2), 1, 3),
        (lambda x: torch.cat([x[:, :, :7], x[:, :, 7:]], dim=2), 1, 1),
        (lambda x: torch.cat([x[:, :, t : t + 1] for t in (2, 7)], dim=2), 1, 5),
        (lambda x: x[:, :, 0] + x[:, :, 5], 6, None),
        (lambda x: torch.cat([x[:, :, 3], x[:, :, 9]], dim=1), 7, None),
        (lambda x: x.reshape(1, 2, 3, 4, 6, 6).mean(dim=3), 4, 4),
        (lambda x: x.reshape(1, 2, 3, 4, 6, 6).mean(dim=2), 9, 1),
        (lambda x: x.unfold(2, 4, 4).mean(dim=-1), 4, 4),
    ],
)  # fmt: skip
def test_chosen_frames(choose: Function, field: int, stride: int | None) -> None:
    def chosen(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        frames = choose(x)
        return frames.sum(dim=1, keepdim=True)

    model = Made(chosen)
    row = check(model, (2, 12, 6, 6))
    assert (row.receptive_field[0], row.stride[0]) == (field, stride)


def test_frames_taken_evenly_and_cut_to_whole_ones() -> None:
    """SlowFast's 4 of 32: 0, 10, 20, 31. A window of three sees at most 22 frames."""

    def slow(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        index = torch.tensor([i * 31 // 3 for i in range(4)], device=x.device)
        return layers[0](x.index_select(2, index))

    model = Made(slow, conv(1, 1, (3, 1, 1), padding=(1, 0, 0)))
    row = measured(model, (1, 32, 2, 2))
    assert (row.receptive_field, row.stride[0]) == ((22, 1, 1), 10.33)
    spans = [actual(model, (1, 32, 2, 2), (0, 0, t, 0, 0))[0] for t in range(4)]
    assert spans == [(0, 10), (0, 20), (10, 31), (20, 31)]


def test_padding_on_one_side() -> None:
    def padded(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        return layers[0](functional.pad(x, (0, 1, 2, 0, 1, 1)))

    check(Made(padded, conv(1, 2, 3, stride=(1, 2, 2))), (1, 6, 9, 10))


def test_recurrence_sees_all_frames_so_far() -> None:
    def recurrent(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        state = torch.zeros_like(x[:, :, 0])
        states = []
        for frame in x.unbind(dim=2):
            state = frame + layers[0](state)
            states.append(state)
        return torch.stack(states, dim=2)

    model = Made(recurrent, nn.Conv2d(1, 1, (1, 3), padding=(0, 1), bias=False))
    row = check(model, (1, 5, 4, 11), alike=False)
    assert row.receptive_field == (5, 1, 9)
    assert actual(model, (1, 5, 4, 11), (0, 0, 4, 2, 5)) == [(0, 4), (2, 2), (1, 9)]


def test_lstm_sees_all_frames() -> None:
    def vectors(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        return layers[0](x.mean(dim=(3, 4)).transpose(1, 2))[0]

    model = Made(vectors, nn.LSTM(2, 3, num_layers=2, batch_first=True))
    assert check(model, (2, 6, 2, 2)).receptive_field == (6, 2, 2)


def test_attention_over_all_places_and_in_windows() -> None:
    def attention(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        # The scores do not come from x, so that weights are positive: (N, T*H*W, C).
        tokens = layers[0](x).flatten(2).transpose(1, 2)
        scores = (tokens @ tokens.transpose(1, 2)).softmax(dim=-1)
        return (scores @ tokens).transpose(1, 2)

    everything = check(Made(attention, conv(2, 2, 1)), (2, 3, 4, 2), most=6)
    assert everything.receptive_field == (3, 4, 2)

    def windows(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        (maps,) = layers[0](x).unbind(dim=2)  # (N, C, 6, 6), in windows of 3 x 2
        tiles = maps.reshape(1, 2, 2, 3, 3, 2).permute(0, 2, 4, 3, 5, 1)
        tokens = tiles.reshape(6, 6, 2)  # (windows, places, C)
        seen = functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return seen.reshape(1, 2, 3, 3, 2, 2).permute(0, 5, 1, 3, 2, 4).reshape(1, 2, 6, 6)

    model = Made(windows, conv(2, 2, 1))
    row = check(model, (2, 1, 6, 6))
    assert row.receptive_field == (1, 3, 2)
    assert row.stride[1:] == (1, 1)


def test_class_token_sees_nothing_until_attention() -> None:
    def tokens_of(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        (maps,) = layers[0](x).unbind(dim=2)
        tokens = maps.flatten(2).transpose(1, 2)  # (N, H*W, C)
        return torch.cat([torch.ones_like(tokens[:, :1]), tokens], dim=1)

    patches = Made(lambda layers, x: tokens_of(layers, x)[:, 1:], conv(1, 2, (1, 2, 2), stride=2))
    assert check(patches, (1, 1, 8, 8)).receptive_field == (1, 2, 2)
    alone = Made(lambda layers, x: tokens_of(layers, x)[:, 0], conv(1, 2, (1, 2, 2), stride=2))
    table = inspect_network(
        nn.Sequential(alone, nn.Identity()), input_size=(1, 1, 8, 8), depth="all"
    )
    assert table.row("1").receptive_field is None

    def attended(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        tokens = tokens_of(layers, x)
        return functional.scaled_dot_product_attention(tokens, tokens, tokens)[:, 0]

    row = check(Made(attended, conv(1, 2, (1, 2, 2), stride=2)), (1, 1, 8, 8))
    assert row.receptive_field == (1, 8, 8)


@pytest.mark.parametrize(
    ("name", "parts", "size", "fields"),
    [
        ("r3d_18", ("stem", "res2.0"), (1, 12, 24, 24), (7, 15, 15)),
        ("r2plus1d_18", ("stem", "res2.0"), (1, 12, 24, 24), (7, 15, 15)),
        ("i3d", ("stem", "mixed_3.0"), (1, 20, 56, 56), (15, 43, 43)),
        ("s3d", ("stem", "mixed_3.0"), (1, 20, 56, 56), (15, 43, 43)),
        ("t3d_121", ("stem", "dense1.0", "dense1.1"), (1, 24, 40, 40), (15, 27, 27)),
    ],
)
def test_parts_of_real_networks(
    name: str,
    parts: tuple[str, ...],
    size: Size,
    fields: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Max pools have means in their place here, so that no entry of a window loses."""
    monkeypatch.setattr(
        functional,
        "max_pool3d",
        lambda x, kernel, stride, padding=0, dilation=1, ceil_mode=False, return_indices=False: (
            functional.avg_pool3d(x, kernel, stride, padding, ceil_mode=ceil_mode)
        ),
    )
    whole = create_model(name, num_classes=2, in_channels=1)
    joined = Applied(lambda x: x.sum(dim=1, keepdim=True))  # channels see more and less
    model = Made(in_order, *(whole.get_submodule(part) for part in parts), joined).eval()
    row = check(model, size, most=1)
    assert row.receptive_field == fields


window = st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(0, 1), st.integers(1, 2))
layer = st.one_of(
    st.tuples(st.just("conv"), window, window, window),
    st.tuples(st.just("pool"), window, window, window),
    st.tuples(st.just("residual"), st.sampled_from([1, 3, 5])),
    st.tuples(st.just("cut"), st.integers(1, 3)),
    st.tuples(st.just("same"), st.integers(1, 4), st.integers(1, 2)),
)


class Applied(nn.Module):
    """A function without weights."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Residual(nn.Module):
    """A convolution of height and width beside the identity."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.around = conv(1, 1, (1, kernel, 3), padding=(0, kernel // 2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.around(x)) + x


def made_layer(what: str, *numbers) -> nn.Module:
    """The layer that the strategy above describes."""
    if what == "residual":
        return Residual(numbers[0])
    if what == "cut":
        return Applied(lambda x: x[:, :, :: numbers[0]])
    if what == "same":  # TensorFlow's padding: more of it behind than in front
        kernel, stride = numbers
        total = max(kernel - stride, 0)
        zeros = (total // 2, total - total // 2)
        padded = Applied(lambda x: functional.pad(x, (*zeros, 0, 0, *zeros)))
        return nn.Sequential(padded, conv(1, 1, (kernel, 1, kernel), stride=(stride, 1, stride)))
    kernel, stride, padding, dilation = zip(*numbers, strict=True)
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
    if what == "pool":
        return nn.AvgPool3d(kernel, stride, padding)
    return conv(1, 1, kernel, stride=stride, padding=padding, dilation=dilation)


@settings(max_examples=20)
@given(st.lists(layer, min_size=1, max_size=5))
def test_any_stack_of_windows(stack: list[tuple]) -> None:
    """Fields are exact away from the border, whatever windows stand on top of each other."""
    size = (1, 17, 21, 19)
    model = Made(in_order, *(made_layer(*layer) for layer in stack))
    try:
        shape = model(torch.ones(1, *size)).shape
    except (RuntimeError, ValueError):
        assume(False)
    assume(0 not in shape)
    check(model, size, most=4)
