"""Three stages side by side in threads, joined by short queues: read, compute, write."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Source = TypeVar("Source")
Item = TypeVar("Item")
Result = TypeVar("Result")


def run_pipeline(
    sources: Iterable[Source],
    compute: Callable[[Source], Item],
    write: Callable[[Iterator[Item]], Result],
    *,
    depth: int = 1,
) -> Result:
    """`write(compute(source) for source in sources)`, each part in a thread of its own.

    `sources` are read ahead in one thread, `compute` runs in the calling one, `write` in a third.
    An error in any of them, or Ctrl-C, ends all three: the reader stops after the source that it
    is at, and the iterator of `write` raises, so that what is half written can be removed. No
    thread outlives the call.

    Args:
        sources: what is read; holds no more than `depth` results that nobody has taken yet.
        compute: one source -> one item.
        write: takes the items in order; its result is returned.
        depth: places in each of the two queues. Memory is at most depth + 2 sources and
            depth + 2 items, however many there are.

    Raises:
        The error of the stage that failed; where several did, that of the first one in line.
    """
    read: _Channel[Source] = _Channel(depth)
    computed: _Channel[Item] = _Channel(depth)
    with ThreadPoolExecutor(2, thread_name_prefix="dualstream-flow") as threads:
        reading = threads.submit(_feed, sources, read)
        writing = threads.submit(_drain, write, computed)
        try:
            for source in read:
                computed.put(compute(source))
                del source  # else it is held while the next one is waited for
            computed.finish()
        except _EndedError:  # another stage failed, and its own error tells why
            read.end()
            computed.end()
        except BaseException:
            read.end()
            computed.end()
            raise
        return _result(reading, writing)


class _EndedError(Exception):
    """The other side of a channel gave up."""


class _Channel(Generic[Item]):
    """A queue of a few places between two threads, which either of them can end."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._is_finished = False
        self._is_ended = False

    def put(self, item: Item) -> None:
        """Append an item once there is a place; _EndedError if nobody will take it."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_ended or len(self._items) < self._places)
            if self._is_ended:
                raise _EndedError
            self._items.append(item)
            self._changed.notify_all()

    def finish(self) -> None:
        """Say that no item follows; those put before are still given."""
        with self._changed:
            self._is_finished = True
            self._changed.notify_all()

    def end(self) -> None:
        """Give up: items are dropped, and both sides raise _EndedError from now on."""
        with self._changed:
            self._is_ended = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._is_ended or self._is_finished or bool(self._items)
                )
                if self._is_ended:
                    raise _EndedError
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
            del item  # what was taken is not held while waiting for the next


def _feed(sources: Iterable[Source], channel: _Channel[Source]) -> None:
    try:
        for source in sources:
            channel.put(source)
            del source  # the queue alone holds what waits
        channel.finish()
    except BaseException:
        channel.end()
        raise


def _drain(write: Callable[[Iterator[Item]], Result], channel: _Channel[Item]) -> Result:
    try:
        return write(iter(channel))
    finally:
        channel.end()


def _result(reading: Future[None], writing: Future[Result]) -> Result:
    """Result of the writing thread once both have ended; else the error that came first in line."""
    for future in (reading, writing):
        error = future.exception()
        if error is not None and not isinstance(error, _EndedError):
            raise error
    return writing.result()
