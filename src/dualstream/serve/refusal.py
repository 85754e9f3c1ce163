"""Refusals: why a request was not served, as HTTP says it."""

from __future__ import annotations

import errno
from typing import Literal, get_args

from dualstream.errors import DiskError, DualstreamError
from dualstream.files import FULL_DISK

Kind = Literal[
    "unauthorized",
    "forbidden",
    "not-found",
    "timeout",
    "conflict",
    "too-large",
    "unsupported-type",
    "invalid",
    "video",
    "queue-full",
    "disk-full",
    "stopping",
    "unavailable",
    "worker",
    "memory",
    "internal",
]
"""What was wrong, for programs."""

STATUS: dict[Kind, int] = {
    "unauthorized": 401,
    "forbidden": 403,
    "not-found": 404,
    "timeout": 408,
    "conflict": 409,
    "too-large": 413,
    "unsupported-type": 415,
    "invalid": 422,
    "video": 422,
    "queue-full": 429,
    "disk-full": 507,
    "stopping": 503,
    "unavailable": 503,
    "worker": 500,
    "memory": 500,
    "internal": 500,
}
"""Status of each kind."""


class RefusedError(DualstreamError):
    """A request that is not served; the message says why, and what to do.

    Args:
        kind: see `Kind`.
        message: for people.
        retry_after_seconds: when it makes sense to ask again.
    """

    def __init__(self, kind: Kind, message: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after_seconds = retry_after_seconds

    @property
    def status(self) -> int:
        """Of HTTP."""
        return STATUS[self.kind]


def as_kind(text: str | None) -> Kind:
    """Return the kind of this name, `internal` for any other text."""
    return next((kind for kind in get_args(Kind) if kind == text), "internal")


def disk_refusal(error: OSError) -> RefusedError:
    """Return the refusal of what could not be written."""
    if error.errno in FULL_DISK:
        return RefusedError(
            "disk-full", "The disk of the service is full. Try again later, or free space there."
        )
    code = errno.errorcode.get(error.errno or 0, "unknown")
    reason = error.strerror if isinstance(error, DiskError) else (error.strerror or str(error))
    return RefusedError("internal", f"The service cannot write its files ({code}: {reason}).")
