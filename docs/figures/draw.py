"""Draws the pictures of the networks' pages: boxes with shapes, one row a pathway.

    python docs/figures/draw.py

Each figure is a list of rows that join on the right. The files lie beside this script and are
committed; text follows the reader's dark or light setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, HEIGHT, GAP, ROW = 168, 46, 26, 66
STYLE = """
text { font: 13px sans-serif; fill: #222; text-anchor: middle }
text.small { font-size: 11px; fill: #555 }
rect { fill: #eef3fb; stroke: #4a6fa5 }
line { stroke: #888; marker-end: url(#tip) }
path.tip { fill: #888 }
@media (prefers-color-scheme: dark) {
  text { fill: #eee } text.small { fill: #bbb } rect { fill: #26324a; stroke: #7aa0d8 }
}
"""

Box = tuple[str, str]
"""What it is, and the shape that leaves it."""


@dataclass(frozen=True)
class Figure:
    """Rows of boxes from left to right, and what they end in together."""

    rows: tuple[tuple[Box, ...], ...]
    joined: tuple[Box, ...] = ()


FIGURES = {
    "two_stream": Figure(
        (
            (("one frame", "3 x 224 x 224"), ("spatial network", "CNN-M-2048"), ("softmax", "K")),
            (
                ("10 flow fields", "20 x 224 x 224"),
                ("temporal network", "CNN-M-2048"),
                ("softmax", "K"),
            ),
        ),
        (("fusion", "mean or SVM"), ("class", "")),
    ),
    "tsn": Figure(
        tuple(
            ((f"snippet of part {n}", "3 x 224 x 224"), ("the same network", "K"))
            for n in (1, 2, 3)
        ),
        (("consensus", "mean over parts"), ("class", "")),
    ),
    "time_fusion": Figure(
        (
            (("single frame", "3 x 170 x 170"), ("AlexNet-like", "K")),
            (("late: 2 frames, 15 apart", "3 x 170 x 170 each"), ("towers, joined by fc6", "K")),
            (("early: 10 frames", "3 x 10 x 170 x 170"), ("first layer sees all", "K")),
            (("slow: 10 frames", "3 x 10 x 170 x 170"), ("three layers join them", "K")),
        ),
    ),
    "frame_features": Figure(
        (
            (("frame 1", "3 x 224 x 224"), ("ResNet-50", "2048")),
            (("frame 2", "3 x 224 x 224"), ("ResNet-50", "2048")),
            (("frame T", "3 x 224 x 224"), ("ResNet-50", "2048")),
        ),
        (("LSTM, 1D convolution", "or self-attention"), ("class", "")),
    ),
    "resnet3d": Figure(
        (
            (("C3D, R3D", "16 x 112 x 112"), ("3x3x3 convolutions", "time and space at once")),
            (("R(2+1)D", "16 x 112 x 112"), ("1x3x3, then 3x1x1", "as many parameters")),
            (("MC3", "16 x 112 x 112"), ("3D below, 2D above", "rMC3: the reverse")),
        ),
    ),
    "t3d": Figure(
        (
            (("transition", "1x1x1 convolution"),),
            (("transition", "3x3x3 convolution"),),
            (("transition", "4 or 6 frames deep"),),
        ),
        (("concatenation", "channels"), ("pooling", "then the next block")),
    ),
    "i3d": Figure(
        (
            (
                ("2D filter", "64 x 3 x 7 x 7"),
                ("repeated in time", "64 x 3 x 7 x 7 x 7"),
                ("/ 7", ""),
            ),
        ),
        (("a still video gives", "the 2D network's answer"),),
    ),
    "slowfast": Figure(
        (
            (("slow: 8 frames", "stride 8"), ("ResNet-50", "2048 x 8 x 7 x 7")),
            (("fast: 32 frames", "stride 2"), ("1/8 of the channels", "256 x 32 x 7 x 7")),
        ),
        (("lateral 5x1x1", "after each stage"), ("mean, joined", "2304"), ("class", "")),
    ),
    "x3d": Figure(
        (
            (
                ("X2D", "a tiny 2D network"),
                ("expand one axis", "time, rate, size, width..."),
                ("train six, keep one", "accuracy a cost"),
                ("X3D-XS to XL", ""),
            ),
        ),
    ),
    "non_local": Figure(
        (
            (("query", "1x1x1, C/2"),),
            (("key", "1x1x1, C/2, pooled"),),
            (("value", "1x1x1, C/2, pooled"),),
        ),
        (("every place sees", "every other"), ("1x1x1, from zero", "C"), ("+ input", "")),
    ),
    "conv_fusion": Figure(
        (
            (("RGB tower", "512 x 14 x 14"), ("T frames", "512 x T x 14 x 14")),
            (("flow tower", "512 x 14 x 14"), ("T stacks", "512 x T x 14 x 14")),
        ),
        (("3x3x3 convolution", "1024 to 512"), ("3D pooling", ""), ("joint head", "K")),
    ),
    "hidden_two_stream": Figure(
        (
            (
                ("11 frames", "33 x 224 x 224"),
                ("MotionNet", "20 x 112 x 112 flow"),
                ("clip to 20 px", "20 x 224 x 224"),
                ("temporal network", "K"),
            ),
        ),
    ),
    "cross_attention": Figure(
        (
            (("frame + map of flow", "4 x 299 x 299"), ("Inception-v3", ""), ("map of RGB", "1")),
            (("flow + map of RGB", "2m + 1 channels"), ("Inception-v3", ""), ("map of flow", "1")),
        ),
        (("weighted mean", ""), ("class", "")),
    ),
    "compressed": Figure(
        (
            (
                ("packets of the file", "H.264, MPEG-4"),
                ("decoder's vectors", "a block each"),
                ("field", "2 x H x W px"),
                ("a stream as any other", ""),
            ),
        ),
    ),
}


def svg(figure: Figure) -> str:
    """Draw a figure."""
    columns = max(len(row) for row in figure.rows)
    height = ROW * len(figure.rows) + 10
    width = (columns + len(figure.joined)) * (WIDTH + GAP) + 10
    middle = (height - HEIGHT) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path class="tip" d="M0 0 L8 4 L0 8 z"/></marker></defs>',
    ]
    for number, row in enumerate(figure.rows):
        top = 10 + ROW * number
        parts += boxes(row, 5.0, top)
        end = 5 + len(row) * (WIDTH + GAP) - GAP
        if figure.joined:
            start = 5 + columns * (WIDTH + GAP)
            parts.append(arrow(end, top + HEIGHT / 2, start, middle + HEIGHT / 2))
    parts += boxes(figure.joined, 5.0 + columns * (WIDTH + GAP), middle)
    return "\n".join([*parts, "</svg>", ""])


def boxes(row: tuple[Box, ...], left: float, top: float) -> list[str]:
    """Draw boxes side by side with arrows between them."""
    parts = []
    for number, (title, shape) in enumerate(row):
        x = left + number * (WIDTH + GAP)
        centre, first = x + WIDTH / 2, top + (20 if shape else 28)
        parts.append(f'<rect x="{x}" y="{top}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>')
        parts.append(f'<text x="{centre}" y="{first}">{escape(title)}</text>')
        if shape:
            parts.append(f'<text class="small" x="{centre}" y="{top + 37}">{escape(shape)}</text>')
        if number:
            parts.append(arrow(x - GAP, top + HEIGHT / 2, x, top + HEIGHT / 2))
    return parts


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """Draw an arrow."""
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


if __name__ == "__main__":
    for name, figure in FIGURES.items():
        Path(__file__).with_name(f"{name}.svg").write_text(svg(figure), encoding="utf-8")
