"""Pictures of an explanation, and the page of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dualstream.errors import InputError
from dualstream.report.explanation import (
    BAR_PX,
    FALLS,
    GAP_PX,
    LINE_PX,
    PICTURE_WIDTH_PX,
    RISES,
    TICK_PX,
    Moment,
    TimeBar,
    explanation_strip,
    overlay_in_box,
    scale_of,
    with_bar,
)
from dualstream.report.explanation_page import write_explanation_page
from dualstream.report.page import ExplanationEntry

GREY = np.full((40, 80, 3), 100, np.uint8)
BAR = TimeBar(
    10.0,
    14.0,
    np.array([11.0]),
    np.array([[10.0, 11], [11, 12], [12, 13], [13, 14]]),
    np.array([0.0, 0.3, -0.1, 0.15], np.float32),
)


def test_only_what_was_seen_is_tinted() -> None:
    heat = np.zeros((20, 40), np.float32)
    heat[:, 20:] = 1
    laid = overlay_in_box(GREY, heat, (20, 4, 60, 36))
    assert laid[:, :20].tolist() == GREY[:, :20].tolist()
    assert laid[20, 20].tolist() == [255, 255, 255]  # the line around
    assert laid[20, 22].tolist() == [50, 50, 114]  # JET at 0, half
    assert laid[20, 58].tolist() == [114, 50, 50]  # and at 1
    with pytest.raises(InputError, match="leaves the 40 x 80 picture"):
        overlay_in_box(GREY, heat, (20, 4, 81, 36))


def test_bars_stand_at_their_times_and_heights() -> None:
    height, width = 46, 80
    drawn = BAR.draw(height, width)
    room = height - TICK_PX - 2  # 40 pixels for 0.4: the line of zero is 30 down
    column = {piece: drawn[:room, 20 * piece + 8].tolist() for piece in range(4)}
    assert column[0].count([255, 255, 255]) == room - 1  # nothing but the line
    assert column[1].count(list(FALLS)) == 30
    assert drawn[0, 28].tolist() == list(FALLS)
    assert column[2].count(list(RISES)) == 9  # 10 less the line
    assert drawn[39, 48].tolist() == list(RISES)
    assert column[3].count(list(FALLS)) == 15
    ticks = np.nonzero((drawn[-1] != 255).any(axis=1))[0]
    assert ticks.tolist() == [20]
    line = BAR.draw(height, width, at_seconds=12.0)
    assert np.nonzero((line == 0).all(axis=(0, 2)))[0].tolist() == [39, 40]
    nothing = TimeBar(0.0, 1.0, np.zeros(0), np.zeros((0, 2)), np.zeros(0, np.float32))
    assert (nothing.draw(30, 30)[:20] == 255).all()


def test_a_strip_has_columns_of_moments() -> None:
    red = np.zeros((40, 80, 3), np.uint8)
    red[..., 0] = 255
    moments = [Moment(10.5, [GREY, red]), Moment(12.5, [red, GREY])]
    strip = explanation_strip(moments, BAR, title="flow, layer4: golf 0.93")
    step, high = PICTURE_WIDTH_PX + GAP_PX, PICTURE_WIDTH_PX // 2 + GAP_PX
    assert strip.shape[1] == 2 * step + GAP_PX
    assert strip.shape[0] == LINE_PX + 2 * high + 2 * LINE_PX + BAR_PX + GAP_PX
    colours = [
        [strip[LINE_PX + i * high + 9, GAP_PX + j * step + 9].tolist() for j in (0, 1)]
        for i in (0, 1)
    ]
    assert colours == [[[100] * 3, [255, 0, 0]], [[255, 0, 0], [100] * 3]]
    assert (strip[:LINE_PX] < 128).any()  # the title
    assert "most +0.300 without 11.00 to 12.00 s" in scale_of(BAR)
    falls = np.array([-0.2, -0.1, -0.4, -0.3], np.float32)
    rising = replace(BAR, falls=falls)
    assert "bars: rise of the probability" in scale_of(rising)
    assert "most +0.400 without 12.00 to 13.00 s" in scale_of(rising)
    with pytest.raises(InputError, match="no picture to draw"):
        explanation_strip([], BAR, title="")


@pytest.mark.parametrize(("height", "whole"), [(40, 64), (41, 66), (240, 280)])
def test_a_frame_with_its_bar_is_even_in_height(height: int, whole: int) -> None:
    image = np.full((height, 80, 3), 100, np.uint8)
    both = with_bar(image, BAR, at_seconds=12.0)
    assert both.shape == (whole, 80, 3)
    assert np.array_equal(both[:height], image)


def test_the_page_holds_its_pictures(tmp_path: Path) -> None:
    strip = b"\xff\xd8picture"
    entry = ExplanationEntry(
        "<b>.mp4", 0.0, 2.5, "brush & comb", 0.9321, [("brush & comb", 0.9321)], [strip]
    )
    page = write_explanation_page(tmp_path / "new" / "page.html", [entry], title="T")
    text = page.read_text()
    assert "data:image/jpeg;base64,/9hwaWN0dXJl" in text
    assert "brush &amp; comb 93.2" in text
    assert "&lt;b&gt;.mp4, 0.0 to 2.5 s" in text
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "")
    with pytest.raises(InputError, match=r"ends in \.html"):
        write_explanation_page(tmp_path / "page.txt", [entry])
    with pytest.raises(InputError, match="no explanation to show"):
        write_explanation_page(tmp_path / "page.html", [])
