"""Fisher vectors against the slopes of the log-likelihood that torch finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dualstream.errors import InputError, ShapeError
from dualstream.models.fisher import FisherEncoder, fit_encoder

K, D, WIDE = 3, 2, 4


def encoder(seed: int = 0) -> FisherEncoder:
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.normal(size=(WIDE, D)))
    weights = np.array([0.5, 0.3, 0.2])
    means, variances = rng.normal(size=(K, D)), rng.uniform(0.3, 2, (K, D))
    return FisherEncoder(rng.normal(size=WIDE), axes.T, weights, means, variances)


def descriptors(count: int = 50) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, WIDE)).astype(np.float32)


def test_vector_is_the_slope_of_the_likelihood_in_units_of_the_fisher_information():
    one, seen = encoder(), descriptors()
    means = torch.tensor(one.means, requires_grad=True)
    deviations = torch.tensor(np.sqrt(one.variances), requires_grad=True)
    points = torch.tensor((seen - one.mean) @ one.axes.T)
    gaussians = torch.distributions.Normal(means, deviations)
    logs = gaussians.log_prob(points[:, None]).sum(dim=2) + torch.tensor(one.weights).log()
    logs.logsumexp(dim=1).mean().backward()
    assert means.grad is not None
    assert deviations.grad is not None
    sigma, weights = np.sqrt(one.variances), one.weights[:, None]
    # Fisher information: w / sigma^2 by a mean, 2 w / sigma^2 by a deviation.
    slopes = np.concatenate(
        (
            (means.grad.numpy() * sigma / np.sqrt(weights)).ravel(),
            (deviations.grad.numpy() * sigma / np.sqrt(2 * weights)).ravel(),
        )
    )
    roots = np.sign(slopes) * np.sqrt(abs(slopes))
    expected = roots / np.linalg.norm(roots)
    np.testing.assert_allclose(one.vector(one.sums(seen)), expected, atol=1e-5)


def test_sums_of_parts_add_up_and_nothing_is_zeros(monkeypatch):
    one, seen = encoder(), descriptors()
    whole = one.sums(seen)
    np.testing.assert_allclose(one.sums(seen[:20]) + one.sums(seen[20:]), whole, rtol=1e-6)
    monkeypatch.setattr("dualstream.models.fisher.ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(one.sums(seen), whole, rtol=1e-6)
    assert not one.vector(one.sums(seen[:0])).any()
    np.testing.assert_allclose(one.posteriors(np.zeros((2, D))).sum(axis=1), 1)


def test_fit_finds_axes_and_clusters():
    rng = np.random.default_rng(0)
    centres = np.array([(-3, 0, 0, 0), (3, 0, 0, 0)])
    sample = (centres[np.arange(400) % 2] + 0.3 * rng.normal(size=(400, WIDE))) + 1
    found = fit_encoder(sample.astype(np.float32), num_gaussians=2)
    assert found.axes.shape == (2, WIDE)
    assert abs(found.axes[0, 0]) > 0.99
    np.testing.assert_allclose(sorted(found.means[:, 0]), (-3, 3), atol=0.1)
    np.testing.assert_allclose(found.variances[:, 0], 0.09, atol=0.03)
    again = fit_encoder(sample.astype(np.float32), num_gaussians=2)
    np.testing.assert_array_equal(found.means, again.means)


def test_too_few_descriptors_and_shapes_that_do_not_fit():
    with pytest.raises(InputError, match="cannot teach 60 Gaussians"):
        fit_encoder(descriptors(), num_gaussians=60)
    one = encoder()
    with pytest.raises(ShapeError, match="axes"):
        FisherEncoder(one.mean, one.axes[:1], one.weights, one.means, one.variances)
