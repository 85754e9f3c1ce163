"""Tensors that belong together and share their first dimension."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

from torch import Tensor


@dataclass
class Batch:
    """Subclasses have tensors as fields, whose first dimension counts the same things."""

    def take(self, rows: Tensor) -> Self:
        """Those at the indices `rows`, or where the mask `rows` is true; a copy."""
        return type(self)(*(getattr(self, f.name)[rows] for f in fields(self)))

    def put(self, rows: Tensor, values: Self) -> None:
        """Overwrite those at `rows` in place."""
        for f in fields(self):
            getattr(self, f.name)[rows] = getattr(values, f.name)
