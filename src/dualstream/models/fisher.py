"""Fisher vectors: how a set of descriptors differs from what a Gaussian mixture expects."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, check_shape

ROWS_AT_ONCE = 8192
"""Descriptors that are looked at together; bounds memory, changes no result."""


@dataclass(frozen=True, eq=False)
class FisherEncoder:
    """Principal axes and a Gaussian mixture with diagonal covariances over one descriptor."""

    mean: NDArray[np.float64]
    """(D,) of the descriptors."""
    axes: NDArray[np.float64]
    """(d, D) of length 1."""
    weights: NDArray[np.float64]
    """(K,) of the Gaussians, summing to 1."""
    means: NDArray[np.float64]
    """(K, d)."""
    variances: NDArray[np.float64]
    """(K, d), above 0."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))
        (k, d), wide = self.means.shape, self.mean.size
        check_shape("FisherEncoder.axes", self.axes, (d, wide))
        check_shape("FisherEncoder.weights", self.weights, (k,))
        check_shape("FisherEncoder.variances", self.variances, (k, d))

    def posteriors(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (N, K) the probability of each Gaussian for each of the points (N, d)."""
        precision = 1 / self.variances
        constant = np.log(self.weights) - 0.5 * (
            np.log(2 * np.pi * self.variances) + self.means**2 * precision
        ).sum(axis=1)
        logs = points @ (self.means * precision).T - 0.5 * points**2 @ precision.T + constant
        logs = np.exp(logs - logs.max(axis=1, keepdims=True))
        return np.asarray(logs / logs.sum(axis=1, keepdims=True))

    def sums(self, descriptors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return (K, 1 + 2d) sums over descriptors (N, D), all that their Fisher vector needs.

        For each Gaussian the sums of its posteriors, and of these times the points and their
        squares. Those of parts of a video add up to those of the whole.
        """
        k, d = self.means.shape
        total = np.zeros((k, 1 + 2 * d))
        for first in range(0, len(descriptors), ROWS_AT_ONCE):
            points = (descriptors[first : first + ROWS_AT_ONCE] - self.mean) @ self.axes.T
            values = np.concatenate((np.ones((len(points), 1)), points, points**2), axis=1)
            total += self.posteriors(points).T @ values
        return total

    def vector(self, sums: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the improved Fisher vector of some descriptors.

        The slopes of their mean log-likelihood by the means and the standard deviations of the
        Gaussians, in units of the Fisher information; then signed square roots, scaled to length 1.
        (Scaling the absolute values to sum to 1 before the roots would change nothing.)

        Args:
            sums: of `sums`, or added-up ones.

        Returns:
            (2Kd,): K times the d slopes by the means, then those by the deviations. Zeros where
            there are no descriptors.

        Source:
            Perronnin, Sanchez & Mensink 2010, "Improving the Fisher Kernel for Large-Scale Image
            Classification".
        """
        d = self.means.shape[1]
        count = max(float(sums[:, 0].sum()), 1e-12)
        soft, first, second = sums[:, :1], sums[:, 1 : d + 1], sums[:, d + 1 :]
        centred = first - soft * self.means
        spread = second - 2 * self.means * first + soft * (self.means**2 - self.variances)
        root_weight = np.sqrt(self.weights)[:, None]
        by_mean = centred / (np.sqrt(self.variances) * root_weight)
        by_deviation = spread / (self.variances * root_weight * np.sqrt(2))
        slopes = np.concatenate((by_mean.ravel(), by_deviation.ravel())) / count
        roots = np.sign(slopes) * np.sqrt(np.abs(slopes))
        return np.asarray(roots / max(float(np.linalg.norm(roots)), 1e-12), np.float32)


def fit_encoder(
    sample: NDArray[np.float32], *, num_gaussians: int = 256, seed: int = 0
) -> FisherEncoder:
    """Fit half as many principal axes as there are dimensions, and a mixture over them.

    Args:
        sample: (S, D) descriptors of training videos.
        num_gaussians: K.
        seed: of the start of the mixture.

    Raises:
        InputError: fewer descriptors than Gaussians or axes.
    """
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    count, dimensions = sample.shape
    if count < max(num_gaussians, dimensions):
        raise InputError(
            f"{count} descriptors cannot teach {num_gaussians} Gaussians over {dimensions} "
            "dimensions: give more or longer videos, or lower encoding.gaussians."
        )
    axes = PCA(n_components=dimensions // 2, random_state=seed).fit(sample)
    mixture = GaussianMixture(
        num_gaussians, covariance_type="diag", init_params="k-means++", random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 100 rounds are enough for a codebook
        mixture.fit(axes.transform(sample))
    parts = (mixture.weights_, mixture.means_, mixture.covariances_)
    return FisherEncoder(axes.mean_, axes.components_, *parts)
