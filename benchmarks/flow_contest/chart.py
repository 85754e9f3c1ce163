"""A chart of error against time, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 30, 54, 56

_OURS, _OTHERS, _INK, _GRID = "#c2410c", "#475569", "#1e293b", "#e2e8f0"
_CHARACTER_WIDTH, _LINE_HEIGHT = 6.6, 14


@dataclass(frozen=True)
class ChartPoint:
    """One method."""

    label: str
    milliseconds: float
    error: float
    is_ours: bool = False


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: _Box) -> bool:
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)


def chart_svg(points: Sequence[ChartPoint], *, title: str, subtitle: str, error_name: str) -> str:
    """Both axes logarithmic: time to the right, error upwards; down and left is better.

    Args:
        points: at least one, all numbers above 0.
        title: first line.
        subtitle: second line.
        error_name: what the error is and its unit.

    Returns:
        Text of an SVG file.
    """
    if not points:
        raise ValueError("A chart needs at least one point.")
    times = _limits([point.milliseconds for point in points], steps=(1, 2, 5))
    errors = _limits([point.error for point in points], steps=(1, 1.2, 1.5, 2, 3, 5, 7))

    def x_of(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * _share(value, times)

    def y_of(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * _share(value, errors)

    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="12">'
    )
    parts = [
        head,
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 24, title, extra='font-size="15" font-weight="600"'),
        _text(LEFT, 42, subtitle, colour=_OTHERS),
    ]
    for value in times:
        x = x_of(value)
        parts.append(_line(x, TOP, x, HEIGHT - BOTTOM))
        parts.append(_text(x, HEIGHT - BOTTOM + 18, f"{value:g}", extra='text-anchor="middle"'))
    for value in errors:
        y = y_of(value)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y))
        parts.append(_text(LEFT - 8, y + 4, f"{value:g}", extra='text-anchor="end"'))
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    centred = 'text-anchor="middle"'
    parts.append(_text(middle_x, HEIGHT - 14, "milliseconds a pair, one thread", extra=centred))
    turned = f'{centred} transform="rotate(-90 18 {middle_y:.0f})"'
    parts.append(_text(18, middle_y, error_name, extra=turned))
    parts += _marks(points, [(x_of(p.milliseconds), y_of(p.error)) for p in points])
    return "\n".join([*parts, "</svg>"]) + "\n"


def _marks(points: Sequence[ChartPoint], places: Sequence[tuple[float, float]]) -> list[str]:
    """Dots with labels, each on the first side where it covers nothing else."""
    taken = [_Box(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    parts = []
    for point, (x, y) in zip(points, places, strict=True):
        colour = _OURS if point.is_ours else _OTHERS
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
        width = _CHARACTER_WIDTH * len(point.label)
        sides = [
            _Box(x + 9, y + shift - 8, x + 9 + width, y + shift - 8 + _LINE_HEIGHT)
            for shift in (0, -15, 15, -29, 29)
        ]
        sides += [_Box(b.left - 18 - width, b.top, b.left - 18, b.bottom) for b in sides]
        sides += [
            _Box(x - width / 2, y + shift, x + width / 2, y + shift + _LINE_HEIGHT)
            for shift in (9, -23, 23, -37, 37, -51)
        ]
        box = next((b for b in sides if _inside(b) and not any(map(b.overlaps, taken))), sides[0])
        taken.append(box)
        weight = 'font-weight="600"' if point.is_ours else ""
        parts.append(_text(box.left, box.bottom - 3, point.label, colour=colour, extra=weight))
    return parts


def _inside(box: _Box) -> bool:
    return box.left >= LEFT and box.right <= WIDTH - 4 and TOP <= box.top <= HEIGHT - BOTTOM - 14


def _limits(values: Sequence[float], *, steps: Sequence[float]) -> list[float]:
    """Ticks that reach over all values: [0.9, 30], steps 1, 2, 5 -> 0.5, 1, 2, 5, ..., 50."""
    low, high = math.floor(math.log10(min(values))) - 1, math.ceil(math.log10(max(values))) + 1
    ticks = [step * 10.0**power for power in range(low, high + 1) for step in steps]
    first = max(i for i, tick in enumerate(ticks) if tick < min(values))
    last = min(i for i, tick in enumerate(ticks) if tick > max(values))
    return ticks[first : last + 1]


def _share(value: float, ticks: Sequence[float]) -> float:
    """0 at the first tick, 1 at the last, by logarithm."""
    return math.log(value / ticks[0]) / math.log(ticks[-1] / ticks[0])


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{_GRID}"/>'


def _text(x: float, y: float, text: str, *, colour: str = _INK, extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" {extra}>{escape(text)}</text>'
