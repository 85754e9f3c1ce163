"""Facts that are stored beside the flow of a video."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from dualstream.errors import FlowStoreError, InputError, check_choice, check_least
from dualstream.flow.methods.params import Direction
from dualstream.flow.quantize import check_bound

FORMATS = {"dualstream flow 1": 1, "dualstream flow 2": 2}
"""First value of every meta.json -> number of the format; a file without it is not ours.

Format 1 has two images a field (`flow_x_00000.jpg`, `flow_y_00000.jpg`), as have folders; format
2 has one, x over y (`flow_00000.jpg`)."""

MOST_PX = 65_500
"""Largest height and width of a JPEG image."""

QUALITY = 95
"""JPEG quality, 1..100, where none is given."""

_SETTINGS = ("method", "params", "direction", "bound_px", "step", "short_side", "quality")


@dataclass(frozen=True, kw_only=True)
class FlowMeta:
    """Facts kept beside the fields of one video (`meta.json`)."""

    format: int = 2
    """Number of the format, see `FORMATS`."""
    method: str
    """Flow method, `unknown` for folders of other programs."""
    params: dict[str, Any] = field(default_factory=dict)
    """Settings of the method by name."""
    direction: Direction = "forward"
    bound_px: float = 20.0
    """Displacement that the bytes reach (see `quantize`)."""
    step: int = 1
    """Frames between the two images of a field."""
    short_side: int | None = None
    """Short side that frames were resized to, None for the video's own size."""
    quality: int = QUALITY
    """JPEG quality."""
    height: int = 0
    width: int = 0
    num_fields: int = 0
    fps: float = 0.0
    """Mean frame rate of the video, 0 where unknown."""
    source: str = ""
    """Name of the video."""
    source_sha256: str | None = None
    """SHA-256 of the video file in hex."""
    version: str = ""
    """Version of the package that wrote the file."""

    def __post_init__(self) -> None:
        check_choice("direction", self.direction, Direction)
        check_bound(self.bound_px)
        if not 1 <= self.quality <= 100:
            raise InputError(f"quality must lie in 1..100, got {self.quality}.")
        if self.short_side is not None:
            check_least(1, short_side=self.short_side)

    def same_settings(self, other: FlowMeta) -> bool:
        """Whether both were made in the same way, whatever the video."""
        return all(getattr(self, name) == getattr(other, name) for name in _SETTINGS)

    def to_json(self) -> str:
        """Text of `meta.json`."""
        return json.dumps({**asdict(self), "format": f"dualstream flow {self.format}"}, indent=1)

    @classmethod
    def from_json(cls, text: bytes, *, path: object) -> FlowMeta:
        """Read `meta.json`; `path` is the flow file that errors name.

        Raises:
            FlowStoreError: the text is no JSON object of this format.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FlowStoreError(f"{path}: meta.json is not JSON ({error}).") from error
        if not isinstance(values, dict) or values.get("format") not in (*FORMATS,):
            raise FlowStoreError(
                f"{path}: meta.json does not say {' or '.join(map(repr, FORMATS))}; the file was "
                "not written by `dualstream flow`, or by a later version of it."
            )
        values["format"] = FORMATS[values["format"]]
        known = {f.name for f in fields(cls)}
        missing = sorted(known - values.keys())
        if missing:
            raise FlowStoreError(f"{path}: meta.json lacks {', '.join(missing)}.")
        for name, most in (("height", MOST_PX), ("width", MOST_PX), ("num_fields", math.inf)):
            if not isinstance(values[name], int) or not 1 <= values[name] <= most:
                raise FlowStoreError(f"{path}: meta.json has {name} {values[name]!r}.")
        kinds: dict[str, Any] = {"method": str, "params": dict, "step": int, "fps": int | float}
        kinds |= {"source": str, "source_sha256": str | None, "version": str, "direction": str}
        for name, kind in kinds.items():
            if not isinstance(values[name], kind):
                raise FlowStoreError(f"{path}: meta.json has {name} {values[name]!r}.")
        try:
            return cls(**{name: values[name] for name in known})
        except (InputError, TypeError) as error:
            raise FlowStoreError(f"{path}: meta.json cannot be used: {error}") from error
