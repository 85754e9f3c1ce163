"""Factors, sizes, cost and candidates of the expansion, against the published figures."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from subprocess import run

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.x3d_factors import PUBLISHED, X2D
from torch import nn

from dualstream.errors import InputError
from dualstream.models.x3d_expansion import (
    AXES,
    Axis,
    Candidate,
    Factors,
    expand,
    layer_sizes,
    multiply_adds,
    round_width,
    squeezed_width,
)
from dualstream.models.zoo.x3d import x3d


def by_axis(candidates: tuple[Candidate, ...]) -> dict[Axis, Candidate]:
    return {candidate.axis: candidate for candidate in candidates}


@contextmanager
def counted(model: nn.Module) -> Iterator[list[int]]:
    """Multiply-adds of every convolution and linear layer that is called, for one sample."""
    counts: list[int] = []

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv3d | nn.Linear)
        counts.append(output[0].numel() * module.weight[0].numel())

    hooks = [
        module.register_forward_hook(count)
        for module in model.modules()
        if isinstance(module, nn.Conv3d | nn.Linear)
    ]
    yield counts
    for hook in hooks:
        hook.remove()


def hook_count(factors: Factors, *, num_classes: int, in_channels: int) -> int:
    with torch.device("meta"):
        model = x3d(
            num_classes=num_classes,
            in_channels=in_channels,
            gamma_w=factors.gamma_w,
            gamma_b=factors.gamma_b,
            gamma_d=factors.gamma_d,
        ).eval()
        clip = torch.empty(1, in_channels, factors.gamma_t, *[factors.image_size] * 2)
    with counted(model) as counts:
        model(clip)
    return sum(counts)


@pytest.mark.parametrize(
    ("factors", "size", "exact", "printed"),
    [
        # Printed by Feichtenhofer 2020 (tables 1 to 4), in 1e9.
        (X2D, 112, 20_662_304, 0.02067),
        (PUBLISHED["x3d_xs"], 160, 605_256_512, 0.60),
        (PUBLISHED["x3d_s"], 160, 1_962_892_112, 1.96),
        (PUBLISHED["x3d_m"], 224, 4_732_468_736, 4.73),
        (PUBLISHED["x3d_l"], 312, 18_367_710_176, 18.37),
        (PUBLISHED["x3d_xl"], 312, 35_837_627_616, 35.84),
    ],
)
def test_cost_of_the_published_networks(
    factors: Factors, size: int, exact: int, printed: float
) -> None:
    assert factors.image_size == size
    assert multiply_adds(factors) == exact
    assert exact / 1e9 == pytest.approx(printed, rel=0.01)
    assert hook_count(factors, num_classes=400, in_channels=3) == exact


@pytest.mark.parametrize(
    ("name", "giga"), [("x3d_xs", 0.63), ("x3d_s", 2.03), ("x3d_m", 4.90), ("x3d_l", 18.93)]
)
def test_cost_as_counted_from_public_code(name: str, giga: float) -> None:
    # pytorchvideo's model zoo; it counts a few per cent of other operations as well.
    assert multiply_adds(PUBLISHED[name]) / 1e9 == pytest.approx(giga, rel=0.06)


@settings(max_examples=12)
@given(
    st.builds(
        Factors,
        gamma_tau=st.integers(1, 9),
        gamma_t=st.integers(1, 9),
        gamma_s=st.floats(0.1, 1.5),
        gamma_w=st.floats(0.2, 1.6),
        gamma_b=st.floats(0.3, 3.0),
        gamma_d=st.floats(0.2, 1.5),
    ),
    st.integers(1, 50),
    st.sampled_from([2, 3]),
)
def test_the_closed_form_counts_what_is_computed(
    factors: Factors, num_classes: int, in_channels: int
) -> None:
    closed = multiply_adds(factors, num_classes=num_classes, in_channels=in_channels)
    assert closed == hook_count(factors, num_classes=num_classes, in_channels=in_channels)


@pytest.mark.parametrize(
    ("options", "blocks", "inner", "widths"),
    [
        ((1.0, 1.0, 1.0), (1, 2, 5, 3), (24, 48, 96, 192), (24, 48, 96, 192)),
        ((1.0, 2.25, 2.2), (3, 5, 11, 7), (54, 108, 216, 432), (24, 48, 96, 192)),
        ((1.0, 2.25, 5.0), (5, 10, 25, 15), (54, 108, 216, 432), (24, 48, 96, 192)),
        ((1.45, 2.25, 5.0), (5, 10, 25, 15), (72, 162, 306, 630), (32, 72, 136, 280)),
    ],
)
def test_layer_sizes(
    options: tuple[float, float, float],
    blocks: tuple[int, ...],
    inner: tuple[int, ...],
    widths: tuple[int, ...],
) -> None:
    gamma_w, gamma_b, gamma_d = options
    sizes = layer_sizes(gamma_w=gamma_w, gamma_b=gamma_b, gamma_d=gamma_d)
    assert tuple(stage.blocks for stage in sizes) == blocks
    assert tuple(stage.inner for stage in sizes) == inner
    assert tuple(stage.width for stage in sizes) == widths


@pytest.mark.parametrize(
    ("width", "rounded"),
    [(1, 8), (11, 16), (12, 16), (24, 24), (27.9, 32), (34.8, 32), (36, 40), (278.4, 280)],
)
def test_round_width(width: float, rounded: int) -> None:
    assert round_width(width) == rounded


def test_squeezed_width() -> None:
    assert [squeezed_width(inner) for inner in (54, 108, 216, 432, 630)] == [8, 8, 16, 32, 40]


def test_doubling_finds_the_published_factors() -> None:
    first = by_axis(expand(X2D, target=2 * multiply_adds(X2D)))
    assert first["bottleneck"].factors == Factors(gamma_b=2.25)
    assert first["resolution"].factors.image_size == 160
    assert first["duration"].factors == Factors(gamma_t=2)
    medium, large = PUBLISHED["x3d_m"], PUBLISHED["x3d_l"]
    deeper = by_axis(expand(medium, target=2 * multiply_adds(medium)))["depth"]
    assert deeper.factors == replace(medium, gamma_d=5.0)
    wider = by_axis(expand(large, target=2 * multiply_adds(large)))["width"]
    assert wider.factors == PUBLISHED["x3d_xl"]
    assert wider.multiply_adds == 35_837_627_616


def test_a_path_from_x2d_to_x3d_xs_and_s() -> None:
    """Axes that lead to the published factors; X2D's one frame stands for 24 of the video."""
    factors = replace(X2D, gamma_tau=24)
    path: tuple[Axis, ...] = ("bottleneck", "frame_rate", "resolution", "depth", "duration")
    for axis in path:
        factors = by_axis(expand(factors, target=2 * multiply_adds(factors)))[axis].factors
    assert factors == replace(PUBLISHED["x3d_xs"], gamma_s=160 / 112)
    assert multiply_adds(factors) == 605_256_512
    faster = by_axis(expand(factors, target=2 * multiply_adds(factors)))["frame_rate"].factors
    assert (faster.gamma_t, faster.gamma_tau) == (8, 6)
    small = by_axis(expand(faster, target=1.96e9))["duration"]
    assert small.factors == replace(PUBLISHED["x3d_s"], gamma_s=160 / 112)


def test_the_frame_rate_rises_only_where_frames_are_left_out() -> None:
    assert "frame_rate" not in by_axis(expand(X2D, target=2 * multiply_adds(X2D)))
    sparse = Factors(gamma_t=2, gamma_tau=2)
    denser = by_axis(expand(sparse, target=2 * multiply_adds(sparse)))["frame_rate"]
    assert denser.factors == Factors(gamma_t=4, gamma_tau=1)
    # At most all 3 frames of the span can be seen: 1.5 times the cost, not 10 times.
    almost = Factors(gamma_t=3, gamma_tau=1)
    assert "frame_rate" not in by_axis(expand(almost, target=10 * multiply_adds(almost)))


def test_an_axis_with_steps_too_large_is_left_out() -> None:
    # A second frame doubles the cost, a tenth more is wanted.
    axes = by_axis(expand(X2D, target=1.1 * multiply_adds(X2D)))
    assert "duration" not in axes
    assert "bottleneck" in axes


@settings(max_examples=25)
@given(
    st.builds(
        Factors,
        gamma_tau=st.integers(1, 12),
        gamma_t=st.integers(1, 16),
        gamma_s=st.floats(0.3, 3.0),
        gamma_w=st.floats(0.5, 2.0),
        gamma_b=st.floats(0.5, 3.0),
        gamma_d=st.floats(0.5, 5.0),
    ),
    st.floats(1.2, 6.0),
)
def test_candidates_change_one_axis_and_come_near(factors: Factors, growth: float) -> None:
    present = multiply_adds(factors)
    changes = {
        "frame_rate": {"gamma_t", "gamma_tau"},
        "duration": {"gamma_t"},
        "resolution": {"gamma_s"},
        "width": {"gamma_w"},
        "bottleneck": {"gamma_b"},
        "depth": {"gamma_d"},
    }
    candidates = expand(factors, target=growth * present)
    assert [c.axis for c in candidates] == [axis for axis in AXES if axis in by_axis(candidates)]
    for candidate in candidates:
        changed = {
            name
            for name in vars(factors)
            if getattr(candidate.factors, name) != getattr(factors, name)
        }
        assert changed <= changes[candidate.axis]
        assert candidate.multiply_adds == multiply_adds(candidate.factors) > present
        assert abs(math.log(candidate.multiply_adds / (growth * present))) <= math.log(growth) / 2
        if candidate.axis == "frame_rate":
            assert candidate.factors.gamma_t <= factors.span


def test_a_far_target_is_found_at_once() -> None:
    assert by_axis(expand(X2D, target=1e18))["duration"].multiply_adds == pytest.approx(1e18)


@pytest.mark.parametrize("target", [0.0, 20_662_304, math.inf, math.nan])
def test_targets_that_lie_below(target: float) -> None:
    with pytest.raises(InputError, match="above the present 20,662,304 multiply-adds"):
        expand(X2D, target=target)


@pytest.mark.parametrize(
    ("name", "value"),
    [("gamma_tau", 0), ("gamma_t", 0), ("gamma_s", 0.0), ("gamma_w", -1.0), ("gamma_d", math.nan)],
)
def test_factors_out_of_range(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        replace(X2D, **{name: value})


def test_a_bottleneck_without_channels() -> None:
    with pytest.raises(InputError, match="leaves no channel of 24"):
        layer_sizes(gamma_w=1.0, gamma_b=0.04, gamma_d=1.0)


def test_importing_it_does_not_import_torch() -> None:
    code = "import sys, dualstream.models.x3d_expansion; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
