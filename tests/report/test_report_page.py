"""The page: one file that needs nothing else and says what the scores say."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from dualstream.errors import DiskError, InputError, ScoresError
from dualstream.report import SampleFigure, render_report, top_by_stream, write_report
from dualstream.report.page import p_value_text, percent, points
from dualstream.scores import fuse
from dualstream.types import Scores

VOID = {"meta", "img", "source", "br", "link", "input"}
EVIL = "<script>alert('1')</script>\"&"


class Page(HTMLParser):
    """What a browser would see: attributes, text, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.text.setdefault(self._open[-1] if self._open else "", []).append(data.strip())

    def said(self) -> str:
        return " ".join(
            part
            for tag, parts in self.text.items()
            if tag not in ("script", "style")
            for part in parts
        )


def two_streams(
    classes: tuple[str, ...] = ("run", "walk", "sit"), n: int = 30
) -> dict[str, Scores]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % len(classes)
    streams = {}
    for name in ("rgb", "flow"):
        logits = rng.normal(size=(n, len(classes)))
        logits[np.arange(n), labels] += 1.2
        streams[name] = Scores(
            tuple(f"{classes[label]}/v{i:02d}.mp4" for i, label in enumerate(labels)),
            labels.astype(np.int64),
            logits.astype(np.float32),
            classes,
            "logits",
        )
    return streams


def sample(
    streams: dict[str, Scores], fused: Scores, *, label: str, place: int = 0
) -> SampleFigure:
    name = fused.names[place]
    frames = np.random.default_rng(1).integers(0, 256, (4, 24, 32, 3), dtype=np.uint8)
    return SampleFigure(name, label, frames, frames[:3], top_by_stream(streams, fused, name=name))


def full_page(classes: tuple[str, ...] = ("run", "walk", "sit")) -> str:
    streams = two_streams(classes)
    fused = fuse(list(streams.values()))
    return render_report(
        title=f"Streams {classes[0]}",
        streams=streams,
        fused=fused,
        samples=[sample(streams, fused, label=classes[0])],
        facts={"recipe": "tsn", classes[0]: f"seed 0 {classes[0]}"},
    )


def test_page_asks_for_nothing_outside_itself() -> None:
    page = Page(full_page())
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "data", "poster", "action", "xlink:href"):
            assert value.startswith(("data:image/webp;base64,", "#")), (tag, name, value[:40])
        assert not name.startswith("on"), (tag, name)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    css = " ".join(page.text["style"])
    assert "url(" not in css
    assert "@import" not in css
    script = " ".join(page.text["script"])
    assert not re.search(r"fetch|XMLHttp|import\(|https?:", script)


def test_only_the_pages_own_script_may_run() -> None:
    text = full_page()
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    policy = [
        value
        for tag, name, value in Page(text).attributes
        if tag == "meta" and name == "content" and "default-src" in value
    ]
    assert len(policy) == 1
    assert "default-src 'none'" in policy[0]
    assert f"script-src 'sha256-{digest}'" in policy[0]


def test_names_from_outside_are_shown_as_text() -> None:
    text = full_page((EVIL, "walk", "sit"))
    page = Page(text)
    assert page.tags.count("script") == 1
    assert text.count("alert('1')") == 0  # every apostrophe is escaped too
    assert page.text["title"][0] == f"Streams {EVIL}"
    assert page.said().count(EVIL) >= 6  # heading, pairs or classes, matrix, example, facts


def test_page_says_what_the_scores_say() -> None:
    def stream(answers: list[int]) -> Scores:
        return Scores(
            tuple(f"v{i}" for i in range(8)),
            np.array([0, 0, 0, 0, 1, 1, 1, 1], np.int64),
            np.eye(2, dtype=np.float32)[answers],
            ("run", "walk"),
            "probabilities",
        )

    rgb = stream([0, 0, 1, 1, 1, 0, 0, 0])  # 3 of 8
    flow = stream([0, 1, 0, 1, 1, 1, 0, 0])  # 4 of 8
    fused = stream([0, 0, 0, 1, 1, 1, 1, 0])  # 6 of 8
    said = Page(
        render_report(
            title="T", streams={"rgb": rgb, "flow": flow}, fused=fused, facts={"seed": "7"}
        )
    ).said()
    said = said.replace("\u202f", " ").replace("\xa0", " ")
    for words in ("8 videos · 2 classes · 2 streams", "37.5 %", "50.0 %", "75.0 %", "+25.0 points"):
        assert words in said, words
    assert "gains 2 and loses 0 videos" in re.sub(r"\s+", " ", said)
    assert "p = 0.500" in said
    assert "chance (50.0 %)" in said
    assert "run taken for walk: 1 of 4" in said
    assert "seed" in said
    assert "Examples" not in said


def test_examples_show_pictures_verdict_and_guesses() -> None:
    streams = two_streams()
    fused = fuse(list(streams.values()))
    figures = [
        sample(streams, fused, label="run"),
        SampleFigure("unknown.mp4", "", np.zeros((2, 8, 8, 3), np.uint8)),
    ]
    page = Page(render_report(title="T", streams=streams, fused=fused, samples=figures))
    pictures = [value for tag, name, value in page.attributes if tag == "img" and name == "src"]
    assert len(pictures) == 2
    assert ("img", "alt", "run") in page.attributes
    assert "class unknown" in page.said()
    assert page.tags.count("article") == 2


@pytest.mark.parametrize("count", [1, 3])
def test_one_stream_or_three_with_or_without_fusion(count: int) -> None:
    stream = two_streams()["rgb"]
    streams = {f"stream {i}": stream for i in range(count)}
    alone = Page(render_report(title="T", streams=streams))
    assert "Confusion matrix of stream 0" in alone.said()
    assert "McNemar" not in alone.said()
    joined = Page(render_report(title="T", streams=streams, fused=stream, fused_name="both"))
    assert "Confusion matrix of both" in joined.said()


def test_nothing_confused_leaves_the_list_out() -> None:
    scores = Scores(
        ("a", "b"), np.array([0, 1]), np.eye(2, dtype=np.float32), ("x", "y"), "probabilities"
    )
    page = Page(render_report(title="T", streams={"rgb": scores}))
    assert "Most confused" not in page.said()


def test_a_long_class_table_scrolls() -> None:
    def has_scroll(k: int) -> bool:
        streams = two_streams(tuple(f"class {i}" for i in range(k)), n=2 * k)
        return 'class="wide tall"' in render_report(title="T", streams=streams)

    assert not has_scroll(21)
    assert has_scroll(51)


def test_file_is_written_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "report.html"
    streams = two_streams()
    assert write_report(path, title="one", streams=streams) == path
    write_report(path, title="브러시 two", streams=streams)
    text = path.read_text(encoding="utf-8")
    assert "<title>브러시 two</title>" in text
    assert text.startswith("<!doctype html>")
    assert text.rstrip().endswith("</html>")
    assert [item.name for item in path.parent.iterdir()] == ["report.html"]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    streams = two_streams()
    with pytest.raises(InputError, match=r"\.html"):
        write_report(tmp_path / "report.txt", title="T", streams=streams)
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot be written"):
        write_report(tmp_path / "file" / "report.html", title="T", streams=streams)
    unknown = Scores(("a",), np.array([-1]), np.zeros((1, 2), np.float32), ("x", "y"), "logits")
    with pytest.raises(ScoresError, match="label -1"):
        write_report(tmp_path / "report.html", title="T", streams={"rgb": unknown})
    assert not (tmp_path / "report.html").exists()


def test_numbers_as_they_are_printed() -> None:
    assert percent(0.83249) == "83.2\u202f%"
    assert percent(float("nan")) == "\u2013"
    assert [points(x) for x in (0.094, -0.0301, 0.0, -0.0004)] == [
        "+9.4",
        "\u22123.0",
        "0.0",
        "0.0",
    ]
    assert [p_value_text(p) for p in (0.00012, 0.0421, 1.0)] == [
        "p < 0.001",
        "p = 0.042",
        "p = 1.000",
    ]


@pytest.mark.parametrize(("num_classes", "is_shown"), [(5, False), (6, True)])
def test_top_5_is_shown_for_more_than_five_classes(num_classes: int, is_shown: bool) -> None:
    streams = two_streams(tuple("abcdef"[:num_classes]))
    page = render_report(title="t", streams=streams, fused=fuse(list(streams.values())))
    assert ("<th>top-5</th>" in page) is is_shown
    assert page.count("<th>mean class</th>") == 1
