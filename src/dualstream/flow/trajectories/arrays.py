"""Trajectories as arrays, and as the lines of text that the authors' program prints."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import FlowError, check_shape
from dualstream.files import read_lines, replacing

DESCRIPTORS = ("trajectory", "hog", "hof", "mbhx", "mbhy")
"""Fields of `Trajectories` that describe what is seen; each is encoded by itself."""

WIDTHS = {"hog": 96, "hof": 108, "mbhx": 96, "mbhy": 96}
"""Numbers of the histograms: 2 x 2 cells of 3 times, 8 bins each, 9 of HOF."""


@dataclass(frozen=True, eq=False)
class Trajectories:
    """N followed points, each over L steps; in the order in which they end."""

    place: NDArray[np.float32]
    """(N, 10): number of the frame on which it ends; mean x and y, standard deviation of x and y
    and length of the way, in pixels of the video; scale (1, 1.41, 2, ...); mean x and y as parts
    of the picture, and the middle of its time as part of the video, 0 to .999."""
    trajectory: NDArray[np.float32]
    """(N, 2L) displacements x, y of each step without the camera's motion, divided by the sum of
    their lengths."""
    hog: NDArray[np.float32]
    """(N, 96) directions of brightness: square roots of histograms that sum to 1, their means
    over a third of the steps. By time, then column, row and bin."""
    hof: NDArray[np.float32]
    """(N, 108) directions of motion; the ninth bin counts what moves by less than .4 px."""
    mbhx: NDArray[np.float32]
    """(N, 96) directions in which the horizontal motion changes."""
    mbhy: NDArray[np.float32]
    """(N, 96) directions in which the vertical motion changes."""

    def __post_init__(self) -> None:
        count = len(self.place)
        widths: dict[str, int | str] = {"place": 10, "trajectory": "2L", **WIDTHS}
        for name, width in widths.items():
            what = f"Trajectories.{name} of {count} trajectories"
            check_shape(what, getattr(self, name), (count, width), "float32")

    def __len__(self) -> int:
        return len(self.place)

    def __repr__(self) -> str:
        return f"Trajectories(N={len(self)}, L={self.trajectory.shape[1] // 2})"

    def rows(self, places: NDArray[np.int64] | NDArray[np.bool_]) -> Trajectories:
        """Some of the trajectories, by number or by a mask."""
        return Trajectories(*(getattr(self, field.name)[places] for field in fields(self)))

    @classmethod
    def from_table(cls, table: NDArray[np.float32]) -> Trajectories:
        """Trajectories of a table with one in a row, the columns in the order of the fields."""
        steps = table.shape[1] - 10 - sum(WIDTHS.values())
        ends = np.cumsum([10, steps, *WIDTHS.values()])[:-1]
        return cls(*(np.ascontiguousarray(part) for part in np.split(table, ends, axis=1)))

    @classmethod
    def empty(cls, length: int) -> Trajectories:
        """No trajectories, of `length` steps."""
        columns = 10 + 2 * length + sum(WIDTHS.values())
        return cls.from_table(np.empty((0, columns), np.float32))

    @classmethod
    def joined(cls, parts: Sequence[Trajectories]) -> Trajectories:
        """The trajectories of one or more parts, one after the other."""
        columns = ([getattr(part, field.name) for part in parts] for field in fields(cls))
        return cls(*map(np.concatenate, columns))


def write_trajectories(path: str | os.PathLike[str], parts: Iterable[Trajectories]) -> int:
    """Write one trajectory a line, as the authors' program prints it; returns their number.

    A line of L = 15 steps is 436 numbers with a tab after each: 10 of place, 30 trajectory, 96
    HOG, 108 HOF, 96 MBHx, 96 MBHy. The file appears whole or not at all.

    Args:
        path: text file.
        parts: of one video, see `trajectory_runs`; one is held at a time.

    Raises:
        DiskError: the file cannot be written.

    Source:
        The authors' release (improved_trajectory_release, 2013), README and DenseTrackStab.cpp.
    """
    count = 0
    with replacing(path) as temporary, temporary.open("w", encoding="ascii") as file:
        for part in parts:
            table = np.concatenate([getattr(part, field.name) for field in fields(part)], axis=1)
            form = "%d\t" + "%.6f\t" * (table.shape[1] - sum(WIDTHS.values()) - 1)
            form += "%.7f\t" * sum(WIDTHS.values()) + "\n"
            file.writelines(form % tuple(row) for row in table.tolist())
            count += len(part)
    return count


def read_trajectories(path: str | os.PathLike[str]) -> Trajectories:
    """Read what `write_trajectories` or the authors' program wrote.

    Raises:
        FlowError: the file is missing, or a line is no trajectory; the message names the line.
    """
    table: list[NDArray[np.float32]] = []
    for number, line in enumerate(read_lines(path, error=FlowError), start=1):
        try:
            row = np.array(line.split(), np.float32)
        except ValueError as error:
            raise FlowError(f"{os.fspath(path)}:{number}: {error}.") from None
        steps = len(row) - 10 - sum(WIDTHS.values())
        if steps < 2 or steps % 2 or (table and len(row) != len(table[0])):
            raise FlowError(
                f"{os.fspath(path)}:{number}: has {len(row)} numbers; a trajectory of 15 steps has "
                "436, and all lines of a file have as many. The file may be cut off: write it "
                "again."
            )
        table.append(row)
    if not table:
        return Trajectories.empty(15)
    return Trajectories.from_table(np.stack(table))


def save_arrays(path: Path, trajectories: Trajectories, **facts: str) -> None:
    """Write trajectories as .npz of float16 (places as float32), whole or not at all.

    Args:
        path: file.
        trajectories: all of a video.
        facts: texts that are kept with them, for instance the checksum of the video.
    """
    arrays = {
        field.name: np.asarray(
            getattr(trajectories, field.name), np.float32 if field.name == "place" else np.float16
        )
        for field in fields(trajectories)
    }
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays, **{name: np.array(text) for name, text in facts.items()})  # type: ignore[arg-type]
