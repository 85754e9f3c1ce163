"""Pictures of where a network looked."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dualstream.errors import InputError, ReportError, ShapeError
from dualstream.report.attention import (
    CAPTION_PX,
    GAP_PX,
    LEAST_SIDE_PX,
    Look,
    attention_strip,
    overlay,
    write_attention_strip,
)

GREY = np.full((20, 40, 3), 100, np.uint8)


def test_a_map_is_blue_where_nothing_is_and_red_where_all_is() -> None:
    heat = np.zeros((20, 40), np.float32)
    heat[:, 20:] = 1
    laid = overlay(GREY, heat)
    # Half grey, half JET's ends: (0, 0, 128) and (128, 0, 0).
    assert laid[0, 0].tolist() == [50, 50, 114]
    assert laid[0, -1].tolist() == [114, 50, 50]
    with pytest.raises(ShapeError, match="map of an image of 20 x 40"):
        overlay(GREY, heat[:10])


def test_rows_and_captions_have_their_places(tmp_path: Path) -> None:
    red = np.zeros((40, 40, 3), np.uint8)
    red[..., 0] = 255
    rows = [[Look("one", GREY), Look("two", red)], [Look("three", red)]]
    strip = attention_strip(rows)
    step = LEAST_SIDE_PX + GAP_PX
    assert strip.shape == (2 * (step + CAPTION_PX) + GAP_PX, 2 * step + GAP_PX, 3)
    middle = CAPTION_PX + LEAST_SIDE_PX // 2
    assert strip[middle, GAP_PX + step + 5].tolist() == [255, 0, 0]
    assert strip[middle + step + CAPTION_PX, GAP_PX + 5].tolist() == [255, 0, 0]
    # Twice as wide as high: enlarged to the side in width, white below.
    assert strip[CAPTION_PX + 5, GAP_PX + 5].tolist() == [100, 100, 100]
    assert strip[middle + 10, GAP_PX + 5].tolist() == [255, 255, 255]
    assert (strip[:CAPTION_PX, :step] < 128).any()  # a caption
    path = write_attention_strip(tmp_path / "new" / "strip.png", rows)
    assert np.array_equal(cv2.imread(str(path))[..., ::-1], strip)


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no picture to draw"):
        attention_strip([])
    with pytest.raises(InputError, match=r"\.png or a \.jpg file"):
        write_attention_strip(tmp_path / "strip.svg", [[Look("a", GREY)]])
    (tmp_path / "file").write_text("")
    with pytest.raises((ReportError, OSError)):
        write_attention_strip(tmp_path / "file" / "strip.png", [[Look("a", GREY)]])
