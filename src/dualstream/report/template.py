"""Templates of a report, and how they write numbers."""

from __future__ import annotations

import math
from importlib.resources import files

from markupsafe import Markup


def rendered(template: str, **values: object) -> Markup:
    """Fill in a template of this folder; values are escaped unless they are `Markup`.

    In it, `percent`, `points` and `p_value` format numbers.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=percent, points=points, p_value=p_value_text)
    return Markup(environment.from_string(package_text(template)).render(values))


def package_text(name: str) -> str:
    """Return the text of a file of this folder."""
    return files("dualstream.report").joinpath(name).read_text(encoding="utf-8")


def percent(share: float) -> str:
    """0.8325 -> '83.2 %'; a NaN (a class without a video) -> a dash."""
    return "\u2013" if math.isnan(share) else f"{100 * share:.1f}\u202f%"


def points(difference: float) -> str:
    """A difference of shares in percentage points with its sign: 0.094 -> '+9.4', 0.0 -> '0.0'."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\u2212")


def p_value_text(value: float) -> str:
    """'p < 0.001', or 'p = 0.042'."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
