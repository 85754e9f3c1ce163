"""Fusion of streams: closed forms, alignment, searched weights, and what may be learned from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualstream.errors import DiskError, InputError, ScoresError, UnknownNameError
from dualstream.scores import (
    Fusion,
    FusionMethod,
    align,
    fit_fusion,
    fuse,
    measure,
    softmax,
    top_k_accuracy,
    weighted_fusion,
)
from dualstream.scores.fusion import check_fit_on
from dualstream.types import Scores

ALL_METHODS = get_args(FusionMethod)


def make(
    values: object, *, labels: list[int] | None = None, names: str = "", kind: str = "probabilities"
) -> Scores:
    table = np.array(values, np.float32)
    n, k = table.shape
    return Scores(
        tuple(names or "abcdefgh"[:n]),
        np.array(labels if labels is not None else [0] * n, np.int64),
        table,
        tuple(f"class {i}" for i in range(k)),
        kind,  # type: ignore[arg-type]
    )


def two_streams(n: int, *, prefix: str, seed: int) -> list[Scores]:
    """Four classes = two looks x two motions; stream 0 sees only the look, stream 1 the motion."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 4
    look, motion = labels // 2, labels % 2
    classes = np.arange(4)
    tables = (
        rng.normal(scale=0.2, size=(n, 4)) + 3.0 * (classes // 2 == look[:, None]),
        rng.normal(scale=0.2, size=(n, 4)) + 3.0 * (classes % 2 == motion[:, None]),
    )
    return [
        Scores(
            tuple(f"{prefix}{i:03d}" for i in range(n)),
            labels.astype(np.int64),
            table.astype(np.float32),
            ("red left", "red right", "blue left", "blue right"),
            "logits",
        )
        for table in tables
    ]


# Two streams, one video, worked by hand.
A, B = [[0.5, 0.3, 0.2]], [[0.1, 0.3, 0.6]]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("mean", [0.3, 0.3, 0.4]),
        ("max", np.array([0.5, 0.3, 0.6]) / 1.4),
        ("product", np.sqrt([0.05, 0.09, 0.12]) / np.sqrt([0.05, 0.09, 0.12]).sum()),
    ],
)
def test_closed_forms(method: FusionMethod, expected: list[float]) -> None:
    fused = fuse([make(A), make(B)], method=method)
    np.testing.assert_allclose(fused.scores, [expected], rtol=1e-6)
    assert fused.kind == "probabilities"


def test_weighted_mean_with_given_weights() -> None:
    fused = fuse([make(A), make(B)], method="weighted", weights=[1, 3])
    np.testing.assert_allclose(fused.scores, [[0.2, 0.3, 0.5]], rtol=1e-6)
    assert weighted_fusion([1, 1.5], num_streams=2).weights == (0.4, 0.6)


def test_logits_are_joined_as_probabilities() -> None:
    logits = np.log(np.array(A)) + 7.0
    mixed = fuse([make(logits, kind="logits"), make(B)])
    np.testing.assert_allclose(mixed.scores, [[0.3, 0.3, 0.4]], rtol=1e-6)


def test_product_survives_probabilities_of_zero() -> None:
    fused = fuse([make([[1.0, 0.0]]), make([[0.0, 1.0]])], method="product")
    np.testing.assert_allclose(fused.scores, [[0.5, 0.5]])


@given(st.integers(0, 1000), st.sampled_from(["mean", "max", "product"]))
def test_joined_probabilities_sum_to_one_in_any_order(seed: int, method: FusionMethod) -> None:
    rng = np.random.default_rng(seed)
    streams = [make(softmax(rng.normal(scale=3, size=(5, 4)))) for _ in range(3)]
    fused = fuse(streams, method=method)
    np.testing.assert_allclose(fused.scores.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(fuse(streams[::-1], method=method).scores, fused.scores, rtol=1e-5)


@pytest.mark.parametrize("method", ["mean", "max", "product"])
def test_one_stream_joined_with_itself_is_itself(method: FusionMethod) -> None:
    stream = make([[0.2, 0.8], [0.6, 0.4]])
    for streams in ([stream], [stream, stream, stream]):
        np.testing.assert_allclose(fuse(streams, method=method).scores, stream.scores, rtol=1e-5)


# Without the maximum: it follows the surer stream and cannot combine two halves of the truth.
@pytest.mark.parametrize("method", ["mean", "weighted", "product", "svm", "logistic"])
def test_both_streams_together_beat_either(method: FusionMethod) -> None:
    held_out = two_streams(80, prefix="train", seed=0)
    streams = two_streams(120, prefix="test", seed=1)
    assert max(top_k_accuracy(stream) for stream in streams) < 0.7
    fused = fuse(streams, method=method, fit_on=held_out)
    assert top_k_accuracy(fused) > 0.95
    assert fused.kind == ("logits" if method == "svm" else "probabilities")


@pytest.mark.parametrize("method", ALL_METHODS)
def test_order_of_videos_does_not_matter(method: FusionMethod) -> None:
    held_out = two_streams(40, prefix="train", seed=0)
    streams = two_streams(24, prefix="test", seed=1)
    fused = fuse(streams, method=method, fit_on=held_out)
    mixed = fuse(
        [streams[0], shuffled(streams[1], 3)],
        method=method,
        fit_on=[shuffled(held_out[0], 1), shuffled(held_out[1], 2)],
    )
    assert mixed.names == streams[0].names
    np.testing.assert_allclose(mixed.scores, fused.scores, rtol=1e-4, atol=1e-5)


def shuffled(scores: Scores, seed: int) -> Scores:
    order = np.random.default_rng(seed).permutation(len(scores))
    return Scores(
        tuple(scores.names[i] for i in order),
        scores.labels[order],
        scores.scores[order],
        scores.classes,
        scores.kind,
    )


def test_a_fitted_weighted_fusion_is_a_product_of_powers() -> None:
    fusion = Fusion("weighted", 2, weights=(0.25, 0.75), temperatures=(0.5, 1.5))
    # Both powers are weight / temperature = .5: the geometric mean, scaled.
    expected = fuse([make(A), make(B)], method="product").scores
    np.testing.assert_allclose(fusion.apply([make(A), make(B)]).scores, expected, rtol=1e-6)
    assert str(fusion) == "weighted, 0.25 : 0.75, temperatures 0.5 : 1.5"


def test_what_can_be_fitted_is_fitted_unless_said_otherwise() -> None:
    held_out = two_streams(40, prefix="train", seed=0)
    streams = two_streams(24, prefix="test", seed=1)
    fitted = fuse(streams, method="weighted", fit_on=held_out)
    np.testing.assert_array_equal(fuse(streams, fit_on=held_out).scores, fitted.scores)
    np.testing.assert_array_equal(fuse(streams).scores, fuse(streams, method="mean").scores)
    given = fuse(streams, method="weighted", weights=[1, 3])
    np.testing.assert_array_equal(fuse(streams, weights=[1, 3]).scores, given.scores)


@pytest.mark.parametrize("method", ALL_METHODS)
def test_a_saved_fusion_gives_the_same_scores(method: FusionMethod, tmp_path: Path) -> None:
    held_out = two_streams(40, prefix="train", seed=0)
    streams = two_streams(24, prefix="test", seed=1)
    fusion = fit_fusion(held_out, method=method)
    fusion.save(tmp_path / "run" / "fusion.json")
    loaded = Fusion.load(tmp_path / "run" / "fusion.json")
    assert (loaded.method, loaded.num_streams, loaded.weights) == (method, 2, fusion.weights)
    assert loaded.temperatures == fusion.temperatures
    np.testing.assert_array_equal(loaded.apply(streams).scores, fusion.apply(streams).scores)
    np.testing.assert_array_equal(
        fusion.apply(streams).scores, fuse(streams, method=method, fit_on=held_out).scores
    )
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["fusion.json"]


def test_fusion_files_of_format_1_are_weighted_averages(tmp_path: Path) -> None:
    path = tmp_path / "fusion.json"
    path.write_text(
        '{"format": "dualstream-fusion-1", "method": "weighted", "num_streams": 2, '
        '"weights": [0.25, 0.75], "classifier": null}'
    )
    fused = Fusion.load(path).apply([make(A), make(B)])
    np.testing.assert_allclose(fused.scores, [[0.2, 0.3, 0.5]], rtol=1e-6)


def test_broken_fusion_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "fusion.json"
    with pytest.raises(ScoresError, match=r"fusion\.json: there is no such file"):
        Fusion.load(path)
    fit_fusion(two_streams(8, prefix="t", seed=0), method="svm").save(path)
    content = json.loads(path.read_text())
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ScoresError, match="JSON"):
        Fusion.load(path)
    path.write_text("[1, 2]")
    with pytest.raises(ScoresError, match="no fusion file"):
        Fusion.load(path)
    for key, value in (
        ("method", "median"),
        ("weights", [0.5, 0.5]),
        ("temperatures", [1.0, 1.0]),
        ("classifier", None),
        ("num_streams", "x"),
    ):
        path.write_text(json.dumps({**content, key: value}))
        with pytest.raises(ScoresError, match="incomplete or broken"):
            Fusion.load(path)
    path.write_text(json.dumps({k: v for k, v in content.items() if k != "weights"}))
    with pytest.raises(ScoresError, match="incomplete or broken"):
        Fusion.load(path)
    with pytest.raises(DiskError, match="cannot be written"):
        Fusion("mean", 2).save(path / "below_a_file.json")


def test_a_fusion_takes_only_what_it_was_made_for() -> None:
    streams = two_streams(24, prefix="test", seed=1)
    with pytest.raises(ScoresError, match="joins 3 streams, got 2"):
        Fusion("mean", 3).apply(streams)
    fusion = fit_fusion(two_streams(40, prefix="train", seed=0), method="logistic")
    with pytest.raises(ScoresError, match="fitted on 8 scores"):
        fusion.apply([make(A), make(B)])


def test_options_that_do_not_fit_the_method() -> None:
    streams = [make(A), make(B)]
    with pytest.raises(UnknownNameError, match="Did you mean 'mean'"):
        fuse(streams, method="meen")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="fusion method"):
        fit_fusion(streams, method="meen")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="belong to the method 'weighted'"):
        fuse(streams, method="mean", weights=[1, 1])
    with pytest.raises(InputError, match="not both"):
        fuse(
            streams,
            method="weighted",
            weights=[1, 1],
            fit_on=[make(A, names="x"), make(B, names="x")],
        )
    for method in ("svm", "logistic", "weighted"):
        with pytest.raises(InputError, match="learns from `fit_on`"):
            fuse(streams, method=method)  # type: ignore[arg-type]
    for weights in ([1], [1, 2, 3], [-1, 2], [0, 0], [np.nan, 1], [np.inf, 1]):
        with pytest.raises(InputError, match=r"[Ww]eights"):
            fuse(streams, method="weighted", weights=weights)
    with pytest.raises(InputError, match="at least one of `streams`"):
        fuse([])
    for temperatures in ((1.0,), (0.0, 1.0), (float("inf"), 1.0)):
        with pytest.raises(InputError, match=r"[Tt]emperatures"):
            Fusion("weighted", 2, weights=(0.5, 0.5), temperatures=temperatures)


def test_fitting_on_the_test_set_is_refused() -> None:
    held_out = two_streams(8, prefix="v", seed=0)
    streams = two_streams(6, prefix="v", seed=1)
    with pytest.raises(ScoresError, match=r"6 videos are both .*'v000'.*fitting on the test set"):
        fuse(streams, method="svm", fit_on=held_out)
    with pytest.raises(ScoresError, match="fitting on the test set"):
        check_fit_on(streams, held_out)


def test_held_out_scores_must_match_the_streams() -> None:
    held_out = two_streams(8, prefix="train", seed=0)
    streams = two_streams(6, prefix="test", seed=1)
    check_fit_on(streams, held_out)
    with pytest.raises(ScoresError, match="1 streams and 2 are to be joined"):
        fuse(streams, method="svm", fit_on=held_out[:1])
    with pytest.raises(ScoresError, match=r"fit_on\[0\] has other classes"):
        fuse(streams, method="svm", fit_on=[make(A, names="x"), make(B, names="x")])


def test_align_takes_the_first_streams_order_and_fills_labels() -> None:
    first = make([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]], names="abc", labels=[0, -1, 1])
    second = make([[0.7, 0.3], [0.9, 0.1], [0.8, 0.2]], names="cab", labels=[1, 0, 1])
    aligned = align([first, second])
    assert aligned[1].names == ("a", "b", "c")
    np.testing.assert_allclose(aligned[1].scores[:, 0], [0.9, 0.8, 0.7])
    assert [stream.labels.tolist() for stream in aligned] == [[0, 1, 1]] * 2


def test_what_cannot_be_aligned_is_named() -> None:
    first = make(np.full((5, 2), 0.5), names="abcde")
    with pytest.raises(ScoresError, match=r"streams\[1\] lacks 4 .*'b', 'c', 'd' and 1 more"):
        align([first, make(np.full((2, 2), 0.5), names="ax")])
    with pytest.raises(ScoresError, match=r"streams\[0\] lacks 1 .*'z'"):
        align([first, make(np.full((6, 2), 0.5), names="abcdez")])
    with pytest.raises(ScoresError, match=r"1 names more than once: 'a'"):
        align([make(np.full((3, 2), 0.5), names="aba")])
    with pytest.raises(ScoresError, match=r"different classes \(2 and 3\).*'class 2'"):
        align([make([[0.5, 0.5]]), make(A)])
    reordered = Scores(first.names, first.labels, first.scores, first.classes[::-1], first.kind)
    with pytest.raises(ScoresError, match="another order"):
        align([first, reordered])
    with pytest.raises(ScoresError, match="'b' is 'class 0' in one and 'class 1' in the other"):
        align([first, make(np.full((5, 2), 0.5), names="abcde", labels=[0, 1, 0, 0, 0])])


def test_unknown_labels_stay_unknown() -> None:
    fused = fuse([make(A, labels=[-1]), make(B, labels=[-1])])
    assert fused.labels.tolist() == [-1]
    with pytest.raises(ScoresError, match="label -1"):
        measure(fused)
