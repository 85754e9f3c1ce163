"""The fitted pool: exponents in closed form, and no harm over many simulated data sets."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest

from dualstream.errors import ScoresError
from dualstream.scores import fit_fusion, fuse, log_softmax, top_k_accuracy
from dualstream.scores.pool import fit_exponents, fit_pool, pooled
from dualstream.types import Scores

HELD_OUT, TEST, SEEDS = 80, 800, 20


def scores_of(logits: np.ndarray, labels: np.ndarray, prefix: str) -> Scores:
    n, k = logits.shape
    return Scores(
        tuple(f"{prefix}{i}" for i in range(n)),
        labels.astype(np.int64),
        logits.astype(np.float32),
        tuple(str(i) for i in range(k)),
        "logits",
    )


def simulated(
    seed: int, *, classes: int, strengths: tuple[float, ...], alike: float = 0.0
) -> tuple[list[Scores], list[Scores]]:
    """(held-out scores, test scores) of streams.

    A stream raises the logit of the true class by its strength, easy videos more than hard ones,
    among noise of which the part `alike` is common to all; its logits are then scaled by a factor
    from about .5 to 5, so that it is too sure of itself or not sure enough.
    """
    rng = np.random.default_rng(seed)
    n = HELD_OUT + TEST
    labels = rng.integers(0, classes, n)
    truth = np.arange(classes) == labels[:, None]  # (N, K)
    common = rng.normal(size=(n, classes))
    streams = []
    for strength in strengths:
        own = rng.normal(size=(n, classes))
        noise = np.sqrt(alike) * common + np.sqrt(1 - alike) * own
        ease = np.exp(rng.normal(scale=0.5, size=(n, 1)))
        streams.append((noise + strength * ease * truth) * 1.5 * np.exp(rng.normal(scale=0.6)))
    return (
        [scores_of(one[:HELD_OUT], labels[:HELD_OUT], "train") for one in streams],
        [scores_of(one[HELD_OUT:], labels[HELD_OUT:], "test") for one in streams],
    )


# Strengths that make the better stream right in 75 to 85 of 100, with 2 and with 20 classes.
KINDS = {
    "weak RGB": (0.3, 1.0),
    "weak flow": (1.1, 0.15),
    "flow of chance": (1.0, 0.0),
    "equal": (0.85, 0.85),
    "unequal": (1.0, 0.7),
}


@pytest.mark.parametrize("alike", [0.0, 0.5])
@pytest.mark.parametrize(("classes", "scale"), [(2, 1.5), (20, 3.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_fitted_is_never_clearly_below_the_better_stream(
    kind: str, classes: int, scale: float, alike: float
) -> None:
    strengths = tuple(scale * strength for strength in KINDS[kind])
    better, mean, fitted = [], [], []
    for seed in range(SEEDS):
        held_out, test = simulated(seed, classes=classes, strengths=strengths, alike=alike)
        better.append(max(top_k_accuracy(stream) for stream in test))
        mean.append(top_k_accuracy(fuse(test, method="mean")))
        fitted.append(top_k_accuracy(fuse(test, fit_on=held_out)))
    assert fmean(fitted) >= fmean(better) - 0.005
    assert fmean(fitted) >= fmean(mean) - 0.01  # where both help, the gain is kept
    if kind in ("weak RGB", "weak flow", "flow of chance"):
        assert fmean(mean) < fmean(better)  # what the mean loses
    if kind == "equal" and not alike:
        assert fmean(fitted) > fmean(better) + 0.04


def test_three_streams_of_which_one_knows_nothing() -> None:
    fitted, pair = [], []
    for seed in range(SEEDS):
        held_out, test = simulated(seed, classes=10, strengths=(2.0, 0.0, 2.0))
        fusion = fit_fusion(held_out, method="weighted")
        assert fusion.weights[1] < 0.1
        fitted.append(top_k_accuracy(fusion.apply(test)))
        pair.append(top_k_accuracy(fuse(test[::2], fit_on=held_out[::2])))
    assert fmean(fitted) >= fmean(pair) - 0.005


def test_a_stream_that_does_not_help_is_left_out_bit_for_bit() -> None:
    held_out, test = simulated(0, classes=10, strengths=(2.5, 0.0))
    weights, temperatures = fit_pool(held_out)
    assert weights == (1.0, 0.0)
    assert all(value > 0 for value in temperatures)
    fused = fuse(test, fit_on=held_out)
    order = np.argsort(-fused.scores, axis=1, kind="stable")[:, :3]
    alone = np.argsort(-test[0].scores, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(order, alone)


def test_a_stream_joins_as_far_as_no_video_is_lost() -> None:
    part_way = 0
    for seed in range(SEEDS):
        held_out, _ = simulated(seed, classes=2, strengths=(1.5, 1.05), alike=0.5)
        labels = held_out[0].labels
        log_probs = np.stack([log_softmax(one.scores.astype(np.float64)) for one in held_out])
        weights, temperatures = fit_pool(held_out)
        found = pooled(log_probs, np.divide(weights, temperatures))
        most_likely = pooled(log_probs, fit_exponents(log_probs, labels))
        alone = log_probs[int(np.argmax(weights))]
        right = [int((p.argmax(axis=1) == labels).sum()) for p in (alone, found, most_likely)]
        assert right[1] >= right[0]
        part_way += min(weights) > 0 and right[2] < right[0]
    assert part_way > 0


def test_temperature_undoes_a_scale() -> None:
    """Labels drawn from a stream's own probabilities: 1 is the right temperature, then 4."""
    rng = np.random.default_rng(3)
    logits = rng.normal(scale=2, size=(4000, 3))
    chances = np.exp(log_softmax(logits))
    labels = np.array([rng.choice(3, p=row) for row in chances])
    for scale in (1.0, 4.0):
        weights, (temperature,) = fit_pool([scores_of(scale * logits, labels, "v")])
        assert weights == (1.0,)
        assert temperature == pytest.approx(scale, rel=0.06)


def test_independent_streams_count_in_full() -> None:
    """Where streams are independent given the class, their probabilities multiply (Bayes)."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 4000)
    truth = np.arange(3) == labels[:, None]
    # log p(x | class) of a normal with mean 1 or 0 a class is x + a constant: the softmax of x is
    # the posterior of the class.
    streams = [scores_of(rng.normal(size=truth.shape) + truth, labels, "v") for _ in range(2)]
    weights, temperatures = fit_pool(streams)
    powers = np.divide(weights, temperatures)
    np.testing.assert_allclose(powers, [1, 1], rtol=0.08)


def test_exponents_in_closed_form() -> None:
    # N videos of two classes, p = (2/3, 1/3) each, of which the share q is right: the best power e
    # makes 2^e / (2^e + 1) = q. The counts are (N + 1) / (N + 2) of a video for its class.
    log_probs = np.log(np.array([[[2 / 3, 1 / 3]] * 100]))
    labels = np.array([0] * 80 + [1] * 20)
    q = (80 * 101 + 20 * 1) / (100 * 102)
    expected = np.log2(q / (1 - q))
    np.testing.assert_allclose(fit_exponents(log_probs, labels), [expected], rtol=1e-4)
    # A stream that is wrong more often than right gets the smallest power, not a negative one.
    assert fit_exponents(log_probs, 1 - labels)[0] == pytest.approx(1e-3)
    # All right: finite nevertheless.
    assert 1 < fit_exponents(log_probs, np.zeros(100, np.int64))[0] < 20


def test_pooled_as_a_table() -> None:
    log_probs = np.log(np.array([[[0.8, 0.2]], [[0.5, 0.5]]]))
    np.testing.assert_allclose(np.exp(pooled(log_probs, [1, 1])), [[0.8, 0.2]])
    np.testing.assert_allclose(np.exp(pooled(log_probs, [2, 0])), [[0.64 / 0.68, 0.04 / 0.68]])
    np.testing.assert_allclose(np.exp(pooled(log_probs, [0, 1])), [[0.5, 0.5]])


def test_one_video_and_unknown_classes() -> None:
    one = scores_of(np.array([[2.0, 0.0]]), np.array([0]), "v")
    assert sum(fit_pool([one, one])[0]) == pytest.approx(1)
    with pytest.raises(ScoresError, match="label -1"):
        fit_pool([replace(one, labels=np.array([-1]))])
