"""Drop-a-frame sensitivity: which piece of a window a network could not do without."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import check_least, check_shape
from dualstream.types import Clip

if TYPE_CHECKING:
    from torch import Tensor

Numbers = NDArray[np.int64]

PIECES = 8
"""Pieces of a window that are taken away in turn, unless another number is asked for."""


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Fall of a class's probability as each piece of what a stream saw is taken away.

    G is 0 where a stream saw one moment only, which nothing could stand in for.
    """

    seconds: NDArray[np.float64]
    """(G, 2) start and end of each piece; the end is the start of the next."""
    falls: NDArray[np.float32]
    """(G,) probability with everything less that without the piece; below 0 where it rises."""

    def __post_init__(self) -> None:
        check_shape(f"Sensitivity.seconds of {len(self.falls)} falls", self.seconds, ("G", 2))
        check_shape("Sensitivity.falls", self.falls, (len(self.seconds),))

    @property
    def decisive(self) -> tuple[float, float, float] | None:
        """Start, end and fall of the piece whose loss costs most; None where no loss costs any."""
        if not len(self.falls) or not self.falls.max() > 0:
            return None
        piece = int(self.falls.argmax())
        start, end = self.seconds[piece].tolist()
        return start, end, float(self.falls[piece])


def sensitivity(
    probability: Callable[[Clip], float],
    clip: Clip,
    *,
    whole: float,
    stream: str,
    frames: Numbers,
    seconds: Mapping[int, float],
    end_seconds: float,
    directions: Numbers | None = None,
    pieces: int = PIECES,
) -> Sensitivity:
    """Take pieces of what a stream saw away in turn, and ask a network again.

    The frames (or flow fields) of a piece are replaced by their nearest neighbours in time outside
    of it, wherever they stand in the snippets: the picture stands still, the motion goes on as
    before or after. The other streams stay as they are.

    Args:
        probability: of the class, of a clip.
        clip: of one video, (V, C, T, H, W) bytes a stream.
        whole: probability of the class with everything.
        stream: the one of whose clips pieces are taken.
        frames: (V, T) number of the frame at each of its steps, or at the start of its field.
        seconds: frame number -> its time.
        end_seconds: end of the last piece.
        directions: (T,) steps only stand in for those of the same direction (forward and backward
            flow); None where there is one.
        pieces: G at most; about equally many frames each. 0 asks for nothing.

    Source:
        Occlusion sensitivity, Zeiler & Fergus 2014, section 4.2, who slide a grey square over a
        picture. In time a grey flash would be an event of its own, so the neighbours are taken.
    """
    check_least(0, pieces=pieces)
    falls: list[float] = []
    edges: list[float] = []
    data = clip.data[stream]
    for first, places in dropped_pieces(frames, pieces=pieces, directions=directions):
        changed = replace(clip, data={**clip.data, stream: rearranged(data, places)})
        falls.append(whole - probability(changed))
        edges.append(seconds[first])
    ends = [*edges[1:], end_seconds] if edges else []
    return Sensitivity(
        np.array(list(zip(edges, ends, strict=True)), np.float64).reshape(-1, 2),
        np.array(falls, np.float32),
    )


def dropped_pieces(
    frames: Numbers, *, pieces: int, directions: Numbers | None = None
) -> Iterator[tuple[int, Numbers]]:
    """Yield the first frame of each piece, and which step stands at each step without it.

    Two snippets of the frames 0 1 2 and 2 3 4 in two pieces: without 0 1 2 they are 3 3 3 and
    3 3 4, which are the steps 4 4 4 and 4 4 5; without 3 4 they are 0 1 2 and 2 2 2, the steps
    0 1 2 and 3 2 2. Of two neighbours as near as each other, the one that stands first is taken.

    Args:
        frames: (V, T) number of the frame at each step.
        pieces: their number at most; there is none where it is below 2.
        directions: see `sensitivity`. A step that none of its own direction can stand in for stays.

    Yields:
        First frame; (V, T) numbers of steps, from 0 to V * T - 1 snippet by snippet.
    """
    distinct = np.unique(frames)
    flat = frames.ravel()
    ways = np.resize(np.zeros(1, np.int64) if directions is None else directions, frames.shape)
    count = min(pieces, len(distinct))
    for piece in np.array_split(distinct, count) if count > 1 else ():
        inside = np.isin(flat, piece)
        places = np.arange(flat.size, dtype=np.int64)
        # (steps of the piece, all steps): distance in frames to what may stand in
        distance = np.abs(flat[inside, None] - flat[None]).astype(np.float64)
        distance[:, inside] = np.inf
        distance[ways.ravel()[inside, None] != ways.ravel()[None]] = np.inf
        nearest = distance.argmin(axis=1)
        found = np.isfinite(distance.min(axis=1))
        places[inside] = np.where(found, nearest, places[inside])
        yield int(piece[0]), places.reshape(frames.shape)


def rearranged(data: Tensor, places: Numbers) -> Tensor:
    """(V, C, T, H, W) with other steps at its steps: `places` are (V, T), as `dropped_pieces`."""
    steps = data.transpose(1, 2).flatten(0, 1)  # (V, C, T, H, W) -> (V * T, C, H, W)
    taken = steps[places.ravel().tolist()]
    snippets = taken.reshape(*places.shape, *taken.shape[1:])  # (V, T, C, H, W)
    return snippets.transpose(1, 2).contiguous()
