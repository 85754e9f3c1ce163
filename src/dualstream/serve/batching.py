"""Networks shared by several videos at once: what waits for a network runs as one batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualstream.engine.infer.recognizer import LogitsOf, Recognizes, Views
from dualstream.flow.methods.params import FlowParams
from dualstream.types import ClipSpec, Labels

BATCH_BYTES = 256 * 2**20
"""Bytes of views that are joined; bounds memory, changes no result."""


@dataclass(eq=False)
class _Waiting:
    """Views of a window of one video, and their logits when they are there."""

    views: Views
    segments: int
    logits: NDArray[np.float32] | None = None
    error: BaseException | None = None
    is_done: bool = field(default=False)

    @property
    def num_bytes(self) -> int:
        return sum(int(value.nbytes) for value in self.views.values())

    def fits(self, other: _Waiting, *, joined: bool) -> bool:
        """Whether the views of both can be samples of one batch."""
        if joined and self.segments != other.segments:
            return False
        return all(
            value.shape[1:] == other.views[stream].shape[1:] for stream, value in self.views.items()
        )


class Batched:
    """A network for several threads, in place of its recognizer.

    One thread at a time runs the network. What others ask for meanwhile is joined to one batch,
    which the next of them runs for all: on a GPU a batch takes hardly longer than one window.

    Args:
        recognizer: of the network.
        on_batch: told how many windows each batch has.
        optimize: see `Recognizes.running`.
    """

    def __init__(
        self,
        recognizer: Recognizes,
        *,
        on_batch: Callable[[int], None] = lambda count: None,
        optimize: bool = False,
    ) -> None:
        self._recognizer = recognizer
        self._run = recognizer.running(optimize=optimize)
        self._on_batch = on_batch
        self._waiting: list[_Waiting] = []
        self._list_lock, self._network_lock = threading.Lock(), threading.Lock()

    @property
    def name(self) -> str:
        """Name of its scores."""
        return self._recognizer.name

    @property
    def spec(self) -> ClipSpec:
        """Input."""
        return self._recognizer.spec

    @property
    def classes(self) -> tuple[str, ...]:
        """K class names."""
        return self._recognizer.classes

    @property
    def flow_params(self) -> Mapping[str, FlowParams]:
        """Stream -> settings of its flow method."""
        return self._recognizer.flow_params

    @property
    def labels(self) -> Labels:
        """Whether a video has one of the classes, or several."""
        return self._recognizer.labels

    @property
    def joins_segments(self) -> bool:
        """Whether it sees the segments of a video together."""
        return self._recognizer.joins_segments

    @property
    def num_segments(self) -> int | None:
        """Segments that it demands; None takes any number."""
        return self._recognizer.num_segments

    def running(self, *, optimize: bool = False) -> LogitsOf:
        """Return the function that runs it, for any thread; `optimize` was chosen before."""
        return self._logits

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the network from all others while the block runs."""
        with self._network_lock:
            yield

    def _logits(self, views: Views, segments: int) -> NDArray[np.float32]:
        mine = _Waiting(views, segments)
        with self._list_lock:
            self._waiting.append(mine)
        with self._network_lock:
            if not mine.is_done:
                self._run_batch(self._take(mine))
        if mine.error is not None:
            raise mine.error
        assert mine.logits is not None
        return mine.logits

    def _take(self, mine: _Waiting) -> list[_Waiting]:
        """Mine, and those of the others that fit to it; they wait no longer."""
        batch, size = [mine], mine.num_bytes
        with self._list_lock:
            for other in self._waiting:
                if other is mine or not other.fits(mine, joined=self.joins_segments):
                    continue
                size += other.num_bytes
                if size > BATCH_BYTES:
                    break
                batch.append(other)
            self._waiting = [one for one in self._waiting if one not in batch]
        return batch

    def _run_batch(self, batch: Sequence[_Waiting]) -> None:
        try:
            self._on_batch(len(batch))
            if len(batch) == 1:
                batch[0].logits = self._run(batch[0].views, batch[0].segments)
                return
            joined = self.joins_segments
            logits = self._run(*_joined(batch, joined=joined))
            edges = np.cumsum([_num_rows(one, joined=joined) for one in batch])[:-1]
            for one, rows in zip(batch, np.split(logits, edges), strict=True):
                one.logits = rows.copy()
        except BaseException as error:
            for one in batch:
                one.error = error
        finally:
            for one in batch:
                one.is_done = True


def _num_rows(one: _Waiting, *, joined: bool) -> int:
    """Rows of logits of one video: a view, or of networks that join segments a crop."""
    count = len(next(iter(one.views.values())))
    return count // one.segments if joined else count


def _joined(batch: Sequence[_Waiting], *, joined: bool) -> tuple[dict[str, Any], int]:
    """Views of several videos as those of one, and its segments.

    Where segments are joined, the videos become crops of the same segments: two of 3 segments and
    one crop are 3 segments of two crops.
    """
    first, views = batch[0], dict[str, Any]()
    for stream in first.views:
        parts = [np.asarray(one.views[stream]) for one in batch]
        if joined:
            # (S x crops, ...) -> (S, crops, ...), side by side -> (S x all crops, ...)
            shaped = [part.reshape(first.segments, -1, *part.shape[1:]) for part in parts]
            whole = np.concatenate(shaped, axis=1)
            views[stream] = whole.reshape(-1, *whole.shape[2:])
        else:
            views[stream] = np.concatenate(parts)
    return views, first.segments if joined else sum(one.segments for one in batch)


@contextmanager
def all_alone(networks: Sequence[Batched]) -> Iterator[None]:
    """Keep all these networks from others, in their order."""
    with ExitStack() as held:
        for network in networks:
            held.enter_context(network.alone())
        yield
