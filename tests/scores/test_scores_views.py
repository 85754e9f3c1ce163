"""Averaging of views: closed forms and invariants."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dualstream.errors import InputError, ShapeError, UnknownNameError
from dualstream.scores import average_views, log_softmax, probabilities, softmax
from dualstream.scores.views import log_probabilities
from dualstream.types import Scores

finite = st.floats(-1e4, 1e4, width=32)


def one_video(values: list[float], kind: str) -> Scores:
    return Scores(
        ("a",),
        np.array([0], np.int64),
        np.array([values], np.float32),
        tuple(str(i) for i in range(len(values))),
        kind,  # type: ignore[arg-type]
    )


def test_softmax_of_known_logits() -> None:
    np.testing.assert_allclose(softmax(np.log([1.0, 2.0, 5.0])), [0.125, 0.25, 0.625], rtol=1e-6)
    assert softmax(np.zeros((2, 4), np.float32)).dtype == np.float32


def test_softmax_of_huge_logits_is_finite() -> None:
    np.testing.assert_array_equal(softmax(np.array([1e4, 0.0])), [1.0, 0.0])
    np.testing.assert_allclose(log_softmax(np.array([1e4, 0.0])), [0.0, -1e4])


@given(arrays(np.float32, (3, 5), elements=finite), st.floats(-100, 100))
def test_softmax_sums_to_one_and_ignores_a_shift(logits: np.ndarray, shift: float) -> None:
    result = softmax(logits)
    np.testing.assert_allclose(result.sum(axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(softmax(logits.astype(float) + shift), result, atol=1e-6)


def test_average_of_logits() -> None:
    views = np.array([[[1.0, 3.0], [3.0, 5.0]], [[0.0, 0.0], [2.0, -2.0]]], np.float32)
    np.testing.assert_array_equal(average_views(views), [[2.0, 4.0], [1.0, -1.0]])
    np.testing.assert_array_equal(average_views(views[0]), [2.0, 4.0])


def test_average_of_probabilities() -> None:
    views = np.log(np.array([[1.0, 3.0], [3.0, 1.0], [1.0, 1.0]]))  # .25 .75, .75 .25, .5 .5
    np.testing.assert_allclose(average_views(views, average="probabilities"), [0.5, 0.5], rtol=1e-6)


def test_the_two_averages_differ() -> None:
    # One very sure view outweighs two mild ones as logits, and not as probabilities.
    views = np.array([[9.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
    assert average_views(views).argmax() == 0
    assert average_views(views, average="probabilities").argmax() == 1


@given(arrays(np.float32, (2, 4, 3), elements=finite), st.permutations(range(4)))
def test_order_of_views_does_not_matter(views: np.ndarray, order: list[int]) -> None:
    np.testing.assert_allclose(average_views(views[:, order]), average_views(views), atol=1e-2)


def test_average_refuses_what_it_cannot_use() -> None:
    with pytest.raises(ShapeError, match=r"\(4,\)"):
        average_views(np.zeros(4))
    with pytest.raises(ShapeError, match="at least one view"):
        average_views(np.zeros((3, 0, 5)))
    with pytest.raises(InputError, match="NaN"):
        average_views(np.array([[np.nan, 0.0]]))
    with pytest.raises(UnknownNameError, match="logits, probabilities"):
        average_views(np.zeros((2, 3)), average="mean")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="K at least 1"):
        softmax(np.zeros((3, 0)))


def test_probabilities_of_either_kind() -> None:
    np.testing.assert_allclose(probabilities(one_video([0.0, 0.0], "logits")), [[0.5, 0.5]])
    np.testing.assert_allclose(
        probabilities(one_video([0.25, 0.75], "probabilities")), [[0.25, 0.75]]
    )


def test_log_probabilities_of_stored_zero_are_finite() -> None:
    np.testing.assert_allclose(
        log_probabilities(one_video([0.0, 1.0], "probabilities")), [[np.log(1e-12), 0.0]]
    )
    np.testing.assert_allclose(log_probabilities(one_video([-50.0, 0.0], "logits")), [[-50.0, 0.0]])
