"""Which videos a report shows, and what it says about each."""

from __future__ import annotations

import numpy as np
import pytest

from dualstream.errors import InputError, ShapeError
from dualstream.report import SampleFigure, choose_examples, top_by_stream
from dualstream.scores import fuse, predicted_classes
from dualstream.types import Scores

FRAMES = np.zeros((3, 4, 6, 3), np.uint8)


def answering(answers: str, labels: str, sureness: list[float] | None = None) -> Scores:
    """Videos v0 v1 ... of classes a b c; each answer has the probability given (.8)."""
    places, truth = ["abc".index(c) for c in answers], ["abc".index(c) for c in labels]
    sure = np.array(sureness or [0.8] * len(answers), np.float32)
    table = np.repeat((1 - sure[:, None]) / 2, 3, axis=1)
    table[np.arange(len(places)), places] = sure
    return Scores(
        tuple(f"v{i}" for i in range(len(places))),
        np.array(truth, np.int64),
        table.astype(np.float32),
        tuple("abc"),
        "probabilities",
    )


# v0 saved from both, v1 saved from rgb, v2 saved from flow, v3 v4 mistakes, v5 v6 plainly right
TRUTH = "abcabca"
RGB = answering("bcccaca", TRUTH)
FLOW = answering("cbabaca", TRUTH)
FUSED = answering("abccaca", TRUTH, [0.5, 0.6, 0.7, 0.6, 0.9, 0.8, 0.9])


def test_examples_are_saved_mistaken_and_right_ones() -> None:
    streams = {"rgb": RGB, "flow": FLOW}
    # saved: most wrong streams first, then by confidence (v0, v2, v1); mistakes and right by it.
    assert choose_examples(streams, FUSED, count=7) == ("v0", "v2", "v1", "v4", "v3", "v6", "v5")
    assert choose_examples(streams, FUSED, count=3) == ("v0", "v4", "v6")
    assert choose_examples(streams, FUSED, count=99) == choose_examples(streams, FUSED, count=7)
    assert choose_examples(streams, FUSED, count=1) in (("v0",), ("v4",), ("v6",))


def test_examples_without_a_fusion_and_without_mistakes() -> None:
    right = answering(TRUTH, TRUTH)
    assert len(choose_examples({"rgb": right}, count=4)) == 4
    assert set(choose_examples({"rgb": RGB, "flow": FLOW}, count=7)) == {f"v{i}" for i in range(7)}


def test_examples_show_every_class_before_one_twice() -> None:
    labels = "aaaaaabc"
    scores = answering(labels, labels, [0.99] * 6 + [0.5, 0.5])
    assert set(choose_examples({"rgb": scores}, count=3)) == {"v0", "v6", "v7"}


def test_choice_is_large_enough_and_never_repeats() -> None:
    rng = np.random.default_rng(0)
    letters = ["".join(rng.choice(list("abc"), 60)) for _ in range(3)]
    streams = {"rgb": answering(letters[0], letters[2]), "flow": answering(letters[1], letters[2])}
    fused = fuse(list(streams.values()))
    chosen = choose_examples(streams, fused, count=12)
    assert len(set(chosen)) == len(chosen) == 12
    right = dict(zip(fused.names, predicted_classes(fused) == fused.labels, strict=True))
    assert {right[name] for name in chosen} == {True, False}
    with pytest.raises(InputError, match="at least 1"):
        choose_examples(streams, fused, count=0)


def test_top_by_stream_puts_the_fusion_last() -> None:
    logits = Scores(
        ("v0",),
        np.array([0], np.int64),
        np.log(np.array([[0.5, 0.3, 0.2]], np.float32)),
        tuple("abc"),
        "logits",
    )
    other = answering("b", "a")
    top = top_by_stream({"rgb": logits}, other, name="v0", fused_name="both", k=2)
    assert list(top) == ["rgb", "both"]
    assert [name for name, _ in top["rgb"]] == ["a", "b"]
    assert [p for _, p in top["rgb"]] == pytest.approx([0.5, 0.3])
    assert top["both"][0] == ("b", pytest.approx(0.8))
    with pytest.raises(InputError, match="no scores of a video 'v9'"):
        top_by_stream({"rgb": logits}, name="v9")


def test_a_sample_is_right_by_its_last_stream() -> None:
    right, wrong = [("a", 0.9), ("b", 0.1)], [("b", 0.9), ("a", 0.1)]
    assert SampleFigure("v", "a", FRAMES, top={"rgb": wrong, "fused": right}).is_right is True
    assert SampleFigure("v", "a", FRAMES, top={"rgb": right, "fused": wrong}).is_right is False
    assert SampleFigure("v", "", FRAMES, top={"rgb": right}).is_right is None
    assert SampleFigure("v", "a", FRAMES).is_right is None


def test_a_sample_checks_its_pictures() -> None:
    for frames in (FRAMES[0], FRAMES.astype(np.float32), FRAMES[:0], FRAMES[..., :2]):
        with pytest.raises(ShapeError, match=r"SampleFigure\.frames"):
            SampleFigure("v", "a", frames)
    with pytest.raises(ShapeError, match=r"SampleFigure\.flow_rgb"):
        SampleFigure("v", "a", FRAMES, FRAMES[0])
    with pytest.raises(InputError, match="fps"):
        SampleFigure("v", "a", FRAMES, fps=0)
