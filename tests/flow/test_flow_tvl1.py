"""TV-L1 in torch."""

import cv2
import numpy as np
import pytest
import torch

from dualstream.flow import TVL1Params, read_flo
from dualstream.flow import tvl1 as tvl1_module
from dualstream.flow.tvl1 import level_sizes, tvl1_flow


def texture(size=(64, 80), seed=1) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 2) * 300 + 128, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "scales", "step", "expected"),
    [
        ((100, 40), 5, 0.5, [(100, 40), (50, 20)]),
        ((64, 64), 3, 0.5, [(64, 64), (32, 32), (16, 16)]),
        ((64, 64), 4, 0.5, [(64, 64), (32, 32), (16, 16)]),
        ((240, 320), 5, 0.8, [(240, 320), (192, 256), (154, 205), (123, 164), (98, 131)]),
        ((10, 300), 5, 0.8, [(10, 300)]),
        ((50, 50), 1, 0.8, [(50, 50)]),
    ],
)
def test_level_sizes(size, scales, step, expected):
    assert level_sizes(*size, scales=scales, scale_step=step) == expected


@pytest.mark.parametrize("name", ["rubberwhale", "chairs1"])
@pytest.mark.parametrize("schedule", ["default", "fixed"])
def test_error_is_opencvs(shared, name, schedule):
    # Mean end-point error in px over the known pixels of
    # cv2.optflow.DualTVL1OpticalFlow_create() (opencv-contrib-python-headless 5.0.0.93) on the
    # same grey images; `fixed` has epsilon 0 and one outer iteration, 30 iterations a warp.
    expected = {
        ("rubberwhale", "default"): 0.1568,
        ("rubberwhale", "fixed"): 0.1539,
        ("chairs1", "default"): 1.1737,
        ("chairs1", "fixed"): 1.1534,
    }[name, schedule]
    names = ("1", "2") if name == "rubberwhale" else ("_frame0", "_frame1")
    images = [cv2.imread(str(shared / "flow" / f"{name}{end}.png"))[..., ::-1] for end in names]
    first, second = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[None] for image in images)
    params = TVL1Params() if schedule == "default" else TVL1Params(epsilon=0, outer_iterations=1)
    flow = tvl1_flow(first, second, params=params)[0]
    truth = read_flo(shared / "flow" / f"{name}_gt.flo")
    known = np.abs(truth).max(0) < 1e9
    error = np.hypot(*(flow - truth))[known].mean()
    assert error == pytest.approx(expected, rel=0.01)


def test_flow_of_opencv_inside_the_image():
    # DualTVL1OpticalFlow_create().calc(texture(), moved), same package as above, where `moved`
    # is cv2.warpAffine(texture(), [[1, .02, 1.5], [0, 1, -.75]]): flow at pixels (x, y)
    expected = {
        (20, 16): (1.8463, -0.8018),
        (60, 16): (1.8556, -0.8001),
        (20, 48): (2.4475, -0.7889),
        (60, 48): (2.4479, -0.7903),
        (40, 32): (2.1062, -0.8085),
    }
    image = texture()
    matrix = np.array([[1, 0.02, 1.5], [0, 1, -0.75]])
    moved = cv2.warpAffine(image, matrix, (80, 64), borderMode=cv2.BORDER_REFLECT)
    flow = tvl1_flow(image[None], moved[None], params=TVL1Params())[0]
    for (x, y), vector in expected.items():
        assert flow[:, y, x] == pytest.approx(vector, abs=0.03)


@pytest.mark.parametrize("epsilon", [0.0, 0.01])
def test_a_batch_gives_what_its_pairs_give_alone(monkeypatch, epsilon):
    # Still, moving and unrelated pairs stop after very different numbers of iterations.
    image, other = texture(), texture(seed=2)
    first = np.stack([image, image, image, np.roll(image, 3, 0)])
    second = np.stack([image, np.roll(image, 2, 1), other, image])
    params = TVL1Params(epsilon=epsilon, outer_iterations=3, warps=2)
    together = tvl1_flow(first, second, params=params)
    monkeypatch.setattr(tvl1_module, "_CPU_PIXELS", 1)
    alone = tvl1_flow(first, second, params=params)
    assert np.allclose(together, alone, atol=1e-4)
    assert np.abs(together[0]).max() < 0.01
    assert np.median(together[1][0]) == pytest.approx(2, abs=0.1)
    assert np.median(together[3][1]) == pytest.approx(-3, abs=0.1)


def test_iterations_end_when_the_flow_stands_still(monkeypatch):
    steps = []
    iterate = tvl1_module._iterate

    def counted(variables, problem, params):
        steps.append(len(variables.flow))
        return iterate(variables, problem, params)

    monkeypatch.setattr(tvl1_module, "_iterate", counted)
    image = texture()
    pairs = np.stack([image, image]), np.stack([image, texture(seed=2)])
    params = TVL1Params(scales=1, warps=1, outer_iterations=2, inner_iterations=20)
    tvl1_flow(*pairs, params=params)
    assert steps[0] == 2  # both pairs take part in the first iteration,
    assert steps[1] == 1  # the still one ends with it,
    assert len(steps) > 5  # the other goes on
    steps.clear()
    tvl1_flow(*pairs, params=TVL1Params(scales=1, warps=3, epsilon=0, outer_iterations=2))
    assert steps == [2] * (3 * 2 * 30)


def test_one_iteration_by_hand():
    # |g|^2 = 4, rho = 8 everywhere: rho / |g|^2 = 2 is cut to lambda theta = 0.045, so that
    # v = -0.045 g = (-0.09, 0). p is 0 and v is flat, so u = v and p stays 0.
    ones = torch.ones(1, 3, 4)
    gradient = torch.stack((2 * ones, 0 * ones), 1)
    problem = tvl1_module._Linearised(2 * ones, gradient / 4, gradient)
    variables = tvl1_module._Variables(
        torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 5), torch.zeros(1, 2, 4, 4)
    )
    change = tvl1_module._iterate(variables, problem, TVL1Params())
    assert variables.flow[0, 0] == pytest.approx(torch.full((3, 4), -0.09))
    assert not variables.flow[0, 1].any()
    assert not variables.dual_x.any()
    assert change == pytest.approx(0.0081)


def test_smoothing_is_the_dual_step_of_total_variation():
    # No data term; one pixel stands out by 1. u does not change while p is 0; then
    # p = (tau / theta) grad u / (1 + tau / theta |grad u|), and u moves by theta div p.
    params = TVL1Params(tau=0.15, theta=0.3)
    zeros = torch.zeros(1, 3, 3)
    problem = tvl1_module._Linearised(zeros, torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3))
    flow = torch.zeros(1, 2, 3, 3)
    flow[0, 0, 1, 1] = 1
    variables = tvl1_module._Variables(
        flow.clone(), torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 4, 3)
    )
    tvl1_module._iterate(variables, problem, params)
    assert torch.equal(variables.flow, flow)
    beside = 0.5 / 1.5  # left of and above the pixel |grad u| is 1
    at = 0.5 / (1 + 0.5 * 2**0.5)  # at the pixel it is sqrt(2)
    tvl1_module._iterate(variables, problem, params)
    u = variables.flow[0, 0]
    assert u[1, 1] == pytest.approx(1 - 0.3 * (2 * at + 2 * beside))
    assert u[1, 0] == pytest.approx(0.3 * beside)
    assert u[1, 2] == pytest.approx(0.3 * at)
    assert u[2, 1] == pytest.approx(0.3 * at)
    assert u.sum() == pytest.approx(1)  # nothing leaves through the edges
