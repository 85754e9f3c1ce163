"""The inner loop of TV-L1 in torch."""

from dataclasses import replace

import pytest
import torch

from dualstream.flow.methods.params import Schedule
from dualstream.flow.on_torch import iterate
from dualstream.flow.on_torch.iterate import Linearised, Variables, iteration, minimise

ROUNDS = Schedule(warps=1, inner_iterations=7, outer_iterations=3, median_size=1, epsilon=0.01)


def at_rest(flow: torch.Tensor) -> Variables:
    return Variables(flow, torch.zeros_like(flow), torch.zeros_like(flow))


def without_data(flow: torch.Tensor) -> Linearised:
    plane = torch.zeros_like(flow[:, 0])
    return Linearised(torch.zeros_like(flow), plane, plane)


def test_one_iteration_by_hand():
    # n = (0.6, 0.8) and rho = 2 everywhere, cut to m = 0.05: U = -0.05 n, flat, so that p stays 0.
    zeros, ones = torch.zeros(1, 2, 3, 4), torch.ones(1, 3, 4)
    normal = torch.stack((0.6 * ones, 0.8 * ones), 1)
    flow, dual_x, dual_y = iteration(zeros, zeros, zeros, normal, 2 * ones, 0.05 * ones, 0.25)
    assert flow[0, 0].numpy() == pytest.approx(torch.full((3, 4), -0.03).numpy())
    assert flow[0, 1].numpy() == pytest.approx(torch.full((3, 4), -0.04).numpy())
    assert not dual_x.any()
    assert not dual_y.any()
    # Within m the step goes all the way: rho + n . U = 0.01, so U = -0.01 n.
    flow, *_ = iteration(zeros, zeros, zeros, normal, 0.01 * ones, 0.05 * ones, 0.25)
    assert flow[0, 0].numpy() == pytest.approx(torch.full((3, 4), -0.006).numpy())


def test_smoothing_is_the_dual_step_of_total_variation():
    # No data term; one pixel stands out by 1. U does not change while p is 0; then
    # p = grad U / (1 + |grad U|), and U moves by tau div p.
    flow = torch.zeros(1, 2, 3, 3)
    flow[0, 0, 1, 1] = 1
    tau, nothing = 0.2, without_data(flow)
    data = (nothing.normal, nothing.offset, nothing.limit)
    same, dual_x, dual_y = iteration(flow, 0 * flow, 0 * flow, *data, tau)
    assert torch.equal(same, flow)
    beside = 1 / 2  # left of and above the pixel |grad U| is 1
    at = 1 / (1 + 2**0.5)  # at the pixel it is sqrt(2)
    u = iteration(same, dual_x, dual_y, *data, tau)[0][0, 0]
    assert u[1, 1] == pytest.approx(1 - tau * (2 * at + 2 * beside))
    assert u[1, 0] == pytest.approx(tau * beside)
    assert u[1, 2] == pytest.approx(tau * at)
    assert u[2, 1] == pytest.approx(tau * at)
    assert u.sum() == pytest.approx(1)  # nothing leaves through the edges


def counted(monkeypatch) -> list[int]:
    """Pairs that take part in each iteration from now on."""
    pairs: list[int] = []

    def count(flow, *others):
        pairs.append(len(flow))
        return iteration(flow, *others)

    monkeypatch.setattr(iterate, "iteration", count)
    return pairs


def test_pairs_end_when_their_flow_stands_still(monkeypatch):
    pairs = counted(monkeypatch)
    flow = torch.zeros(2, 2, 8, 8)
    flow[1] = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(1))
    start, variables = flow.clone(), at_rest(flow)
    minimise(variables, without_data(flow), ROUNDS, tau=0.25, scale=1)
    # The still one ends when it is looked at first; the other runs all rounds of 5 and 2.
    assert pairs == [2] * 5 + [1] * (2 + 5 + 2 + 5 + 2)
    assert torch.equal(variables.flow[0], start[0])
    assert variables.flow[1].std() < 0.5 * start[1].std()


def test_epsilon_0_runs_all_iterations(monkeypatch):
    pairs = counted(monkeypatch)
    flow = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    schedule = Schedule(warps=1, inner_iterations=7, outer_iterations=3, median_size=3, epsilon=0.0)
    minimise(at_rest(flow), without_data(flow), schedule, tau=0.25, scale=1)
    assert len(pairs) == 3 * 7


def test_rounds_end_when_the_flow_changes_no_less(monkeypatch):
    # Filter and data term undo each other's work: the data pull one pixel away from its
    # neighbours, and the median puts it back.
    pairs = counted(monkeypatch)
    flow = torch.zeros(1, 2, 9, 9)
    normal, limit = torch.zeros_like(flow), torch.zeros(1, 9, 9)
    normal[0, 0, 4, 4], limit[0, 4, 4] = 1, 0.5
    problem = Linearised(normal, torch.full((1, 9, 9), -100.0), limit)
    schedule = Schedule(
        warps=1, inner_iterations=5, outer_iterations=50, median_size=3, epsilon=1e-9
    )
    minimise(at_rest(flow), problem, schedule, tau=0.25, scale=1)
    assert len(pairs) < 50
    pairs.clear()
    minimise(at_rest(flow), problem, replace(schedule, epsilon=0.0), tau=0.25, scale=1)
    assert len(pairs) == 250
