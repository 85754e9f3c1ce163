"""Pictures of a report: the matrix as readable XML, the animations decoded again."""

from __future__ import annotations

import base64
import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageSequence

from dualstream.errors import ShapeError
from dualstream.report.page import (
    LONGEST_LABEL,
    MATRIX_STYLES,
    animation,
    confusion_svg,
)


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def decode(uri: str) -> Image.Image:
    head, _, content = uri.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_matrix_draws_each_cell_with_videos_at_its_place() -> None:
    matrix = np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    root = parse(confusion_svg(matrix, ["run", "walk", "sit"]))
    cells = root.findall("g")
    assert [(c.get("class"), c.findtext("title")) for c in cells] == [
        ("hit", "run taken for run: 3 of 4"),
        ("miss", "run taken for walk: 1 of 4"),
        ("hit", "walk taken for walk: 2 of 2"),
    ]
    assert [c.findtext("text") for c in cells] == ["3", "1", "2"]
    boxes = [c.find("rect") for c in cells]
    x = [float(box.get("x")) for box in boxes if box is not None]  # type: ignore[arg-type]
    y = [float(box.get("y")) for box in boxes if box is not None]  # type: ignore[arg-type]
    cell = MATRIX_STYLES[0].cell
    assert (x[1] - x[0], x[2] - x[1], y[1] - y[0], y[2] - y[1]) == (cell, 0, 0, cell)
    shades = [float(box.get("fill-opacity")) for box in boxes if box is not None]  # type: ignore[arg-type]
    assert shades[2] == 1.0
    assert shades[1] < shades[0] < shades[2]


@pytest.mark.parametrize("k", [2, 16, 21, 51, 101, 400])
def test_matrix_labels_fit_their_rows_at_any_size(k: int) -> None:
    classes = [f"class number {i}" for i in range(k)]
    root = parse(confusion_svg(np.eye(k, dtype=np.int64), classes))
    style = next(style for style in MATRIX_STYLES if k <= style.most_classes)
    assert style.font <= style.cell
    assert style.font >= 9
    texts = [text.text for text in root.findall("text")]
    assert all(texts.count(name) == 2 for name in classes)  # beside its row and above its column
    assert len(root.findall("g")) == k
    if k <= 101:
        assert int(root.get("width", "0")) < 1180


def test_matrix_of_101_classes_stays_small() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.multinomial(37, np.full(101, 1 / 101), size=101)
    assert len(confusion_svg(matrix, [f"class {i}" for i in range(101)])) < 700_000


def test_matrix_escapes_names_and_shortens_long_ones() -> None:
    svg = confusion_svg(np.eye(2, dtype=np.int64), ["<script>alert(1)</script>&\"'", "x" * 80])
    assert "<script" not in svg
    assert parse(svg).findtext("g/title") == (
        "<script>alert(1)</script>&\"' taken for <script>alert(1)</script>&\"': 1 of 1"
    )
    labels = [text.text or "" for text in parse(svg).findall("text")]
    assert max(map(len, labels)) == LONGEST_LABEL
    just_short = confusion_svg(np.eye(1, dtype=np.int64), ["x" * LONGEST_LABEL])
    assert "x" * LONGEST_LABEL in [text.text for text in parse(just_short).findall("text")]


def test_matrix_of_another_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(3, 3\), got \(2, 2\)"):
        confusion_svg(np.eye(2, dtype=np.int64), list("abc"))


def coloured(levels: list[int], size: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.stack([np.full((*size, 3), level, np.uint8) for level in levels])


def test_animation_shows_frames_and_flow_side_by_side_in_step() -> None:
    frames, flow = coloured([0, 60, 120, 180]), coloured([250, 130, 10], (20, 30))
    moving, still, width, height = animation(frames, flow, fps=10)
    picture = decode(moving)
    assert picture.size == (width, height) == (60 + 4 + 60, 40)
    seen = [np.asarray(frame.convert("RGB"))[20] for frame in ImageSequence.Iterator(picture)]
    left, right = [int(row[20, 0]) for row in seen], [int(row[100, 0]) for row in seen]
    np.testing.assert_allclose(left, [0, 60, 120, 180], atol=6)
    np.testing.assert_allclose(right, [250, 130, 130, 10], atol=6)
    middle = decode(still)
    assert getattr(middle, "n_frames", 1) == 1
    assert int(np.asarray(middle.convert("RGB"))[20, 20, 0]) == pytest.approx(120, abs=6)


def test_long_videos_are_thinned_out_and_last_as_long() -> None:
    moving, _, width, height = animation(coloured([3 * i for i in range(80)]), fps=20)
    picture = decode(moving)
    assert (width, height) == (60, 40)
    durations = []
    for frame in ImageSequence.Iterator(picture):
        frame.load()  # the duration is known only then
        durations.append(frame.info["duration"])
    assert len(durations) == 24
    assert sum(durations) == pytest.approx(80 / 20 * 1000, rel=0.02)


def test_large_frames_are_made_small_and_small_ones_kept() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 720, 1280, 3), dtype=np.uint8)
    _, _, width, height = animation(noise)
    assert (width, height) == (256, 144)
    assert animation(coloured([1]))[2:] == (60, 40)
