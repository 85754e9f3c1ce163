"""Messages between the service and its worker process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from dualstream.serve.documents import PredictOptions
from dualstream.serve.refusal import Kind

RESULT = "result.json"
"""File that the worker leaves for a job that is done, last of all; see `ResultDocument`."""
EXPLANATION = "explanation.json"
"""File that it leaves for an explained window: `ExplanationDocument` with names of files."""


@dataclass(frozen=True)
class Order:
    """Something to do; its number comes back with the answer."""

    number: int
    path: str
    """Of the video."""
    name: str
    """By which messages call the video."""


@dataclass(frozen=True)
class Check(Order):
    """Look at the header of a video; the answer is its length in seconds."""


@dataclass(frozen=True)
class Predict(Order):
    """Predict a video, and write what was found to a folder; the answer is None."""

    folder: str
    options: PredictOptions


@dataclass(frozen=True)
class Explain(Order):
    """Draw where the streams looked in a window to a folder; the answer is None."""

    folder: str
    start_seconds: float
    end_seconds: float
    options: PredictOptions


@dataclass(frozen=True)
class AddToProject(Order):
    """Add a video to a project of taught actions; the answer is None."""

    project: str
    """Folder."""


@dataclass(frozen=True)
class Cancel:
    """Give up an order, as soon as it is possible."""

    number: int


@dataclass(frozen=True)
class Ready:
    """The networks are loaded; what `/v1/models` tells of them."""

    models: dict[str, Any]


@dataclass(frozen=True)
class NotReady:
    """The networks cannot be loaded."""

    error: Exception


@dataclass(frozen=True)
class Progress:
    """How far an order is."""

    number: int
    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Batch:
    """A network has run over so many windows at once."""

    num_windows: int


@dataclass(frozen=True)
class Done:
    """An order is carried out."""

    number: int
    value: Any


@dataclass(frozen=True)
class Failed:
    """An order cannot be carried out."""

    number: int
    kind: Kind | None
    """None where it was given up on demand."""
    message: str
    detail: str = ""
    """For the log: where in the code an unexpected error came up."""


class Pace:
    """Lets messages about progress through a few times a second, and at the end."""

    def __init__(self, seconds: float = 0.2) -> None:
        self._seconds, self._last = seconds, float("-inf")

    def is_due(self, *, at_end: bool = False) -> bool:
        """Whether it is time."""
        now = time.monotonic()
        if at_end or now - self._last >= self._seconds:
            self._last = now
            return True
        return False
