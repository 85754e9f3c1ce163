"""Every error that this package raises on purpose.

    DualstreamError
    ├── InputError (also ValueError)        what the caller passed is wrong
    │   ├── ShapeError                      an array or tensor of another shape or dtype
    │   └── UnknownNameError                a name that is not in the list of allowed ones
    ├── VideoError                          a video file, camera or URL
    │   ├── VideoNotFoundError (also FileNotFoundError)
    │   ├── NoVideoStreamError              audio-only, or not a media file at all
    │   └── CorruptVideoError               empty, truncated, or without a decodable frame
    ├── FlowError                           computing optical flow
    │   └── FlowStoreError                  a stored flow file: broken, foreign or of another video
    ├── AnnotationError                     split files, class lists, manifests; names file and line
    ├── RecipeError                         a recipe or an override that cannot be used
    ├── DivergedError                       a training loss that is not a number
    ├── CheckpointError                     a run folder: incomplete, foreign or of other classes
    ├── WeightsError                        pretrained weights: missing, corrupt, of another net
    ├── ScoresError                         score files that cannot be read or joined
    ├── ReportError                         a report page that cannot be written
    ├── DiskError (also OSError)            a file that cannot be written: full disk, no permission
    ├── SharedMemoryError                   no room for what reading processes hand over
    ├── ClusterError                        a Ray cluster that cannot be reached
    └── MissingDependencyError (also ImportError)   an optional package is not installed

Messages name the file (or argument), say what was found and what to do about it.
"""

import difflib
import errno
from collections.abc import Iterable, Sequence
from typing import Any, get_args


class DualstreamError(Exception):
    """Base of every error raised on purpose by this package."""


class InputError(DualstreamError, ValueError):
    """An argument has a value that cannot be used."""


class ShapeError(InputError):
    """An array or tensor has another shape or dtype than the one documented."""


class UnknownNameError(InputError):
    """A name is not one of the allowed ones; the message lists them and the nearest."""

    def __init__(self, kind: str, name: object, allowed: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.allowed = tuple(allowed)
        nearest = difflib.get_close_matches(str(name), self.allowed, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        super().__init__(f"Unknown {kind} {name!r}.{hint} Allowed: {', '.join(self.allowed)}.")

    def __reduce__(self) -> tuple[type, tuple[str, object, tuple[str, ...]]]:
        # Worker processes send errors back by pickle, which would replay the message as `kind`.
        return (type(self), (self.kind, self.name, self.allowed))


class VideoError(DualstreamError):
    """A video cannot be opened, probed or decoded."""


class VideoNotFoundError(VideoError, FileNotFoundError):
    """The video file does not exist."""


class NoVideoStreamError(VideoError):
    """The file has no video stream: audio only, or not a media file."""


class CorruptVideoError(VideoError):
    """The file is empty, truncated, or gives no decodable frame where one was asked for."""


class FlowError(DualstreamError):
    """Optical flow cannot be computed."""


class FlowStoreError(FlowError):
    """A stored flow file is missing, broken, foreign, or belongs to another video."""


class AnnotationError(DualstreamError):
    """A split file, class list or manifest is wrong; the message names file and line."""


class RecipeError(DualstreamError):
    """A recipe, or an override of one of its keys, cannot be used."""


class DivergedError(DualstreamError):
    """Training reached a loss that is not a number; the message says what to change."""


class CheckpointError(DualstreamError):
    """A run folder is incomplete, foreign, or does not fit the data."""


class WeightsError(DualstreamError):
    """Pretrained weights are missing, corrupt, or made for another network."""


class ExportError(DualstreamError):
    """A network cannot be exported, or an exported file cannot be used."""


class ScoresError(DualstreamError):
    """Scores cannot be read, written, joined or measured."""


class ReportError(DualstreamError):
    """A report cannot be written."""


class DiskError(DualstreamError, OSError):
    """A file cannot be written; made as OSError is, of (errno, strerror, filename)."""

    def __str__(self) -> str:
        is_full = self.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "Free space there" if is_full else "Choose another place, or allow it"
        return f"{self.filename}: cannot be written ({self.strerror}). {remedy}, then try again."


class SharedMemoryError(DualstreamError):
    """Reading processes have no room in shared memory to hand their batches over."""


class ClusterError(DualstreamError):
    """No Ray cluster can be used at an address."""


class MissingDependencyError(DualstreamError, ImportError):
    """An optional package is needed and is not installed; the message gives the pip command."""


def check_choice(kind: str, value: object, choices: Any) -> None:
    """Raise UnknownNameError unless `value` is one of the Literal `choices`."""
    if value not in get_args(choices):
        raise UnknownNameError(kind, value, get_args(choices))


def check_shape(name: str, array: Any, shape: Sequence[int | str], dtype: str = "") -> None:
    """Raise ShapeError unless an array has this shape, a letter for any length, and this dtype."""
    pairs = zip(shape, array.shape, strict=False)
    fits = len(shape) == array.ndim and all(isinstance(a, str) or a == b for a, b in pairs)
    if not fits or (dtype and str(array.dtype) != dtype):
        wanted = f"{tuple(shape)} {dtype}".replace("'", "").rstrip()
        raise ShapeError(f"{name} must be {wanted}, got {tuple(array.shape)} {array.dtype}.")


def check_least(least: int, **values: float) -> None:
    """Raise InputError unless each value is at least `least`."""
    for name, value in values.items():
        if value < least:
            raise InputError(f"{name} must be at least {least}, got {value}.")


def first_names(names: Sequence[str], *, most: int = 3) -> str:
    """Return the first names, and how many more there are, for a message."""
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
