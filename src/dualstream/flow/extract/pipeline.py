"""Three stages in threads, joined by queues of limited bytes: read, compute, write."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

Source = TypeVar("Source")
Item = TypeVar("Item")
Result = TypeVar("Result")


def run_pipeline(
    sources: Iterable[Source],
    compute: Callable[[Source], Item],
    write: Callable[[Iterator[Item]], Result],
    *,
    size_of: Callable[[Any], int],
    limit_bytes: int = 16 * 2**20,
) -> Result:
    """`write(compute(source) for source in sources)`, each part in a thread of its own.

    `sources` are read ahead in one thread, `compute` runs in the calling one, `write` in a third.
    An error in any of them, or Ctrl-C, ends all three: the reader stops after the source that it
    is at, and the iterator of `write` raises, so that what is half written can be removed. No
    thread outlives the call.

    Args:
        sources: what is read.
        compute: one source -> one item.
        write: takes the items in order; its result is returned.
        size_of: bytes of a source or an item.
        limit_bytes: most bytes that wait in each of the two queues; one source or item may wait
            however large it is. Three more of each are in the hands of the stages at most.

    Raises:
        The error of the stage that failed; where several did, that of the first one in line.
    """
    read: _Channel[Source] = _Channel(limit_bytes, size_of)
    computed: _Channel[Item] = _Channel(limit_bytes, size_of)
    with ThreadPoolExecutor(2, thread_name_prefix="dualstream-flow") as threads:
        reading = threads.submit(_feed, sources, read)
        writing = threads.submit(_drain, write, computed)
        try:
            _feed(map(compute, read), computed)
        except _EndedError:  # another stage failed; its error is raised below
            pass
        finally:
            read.end(drop=True)
        for future in (reading, writing):
            error = future.exception()
            if error is not None and not isinstance(error, _EndedError):
                raise error
        return writing.result()


class _EndedError(Exception):
    """The other side of a channel gave up."""


class _Channel(Generic[Item]):
    """A queue of limited bytes between two threads, which either of them can end."""

    def __init__(self, limit_bytes: int, size_of: Callable[[Any], int]) -> None:
        self._limit_bytes, self._size_of = limit_bytes, size_of
        self._bytes = 0
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._is_finished = self._is_dropped = False

    def put(self, item: Item) -> None:
        """Append an item once there is room; _EndedError if nobody will take it."""
        size = self._size_of(item)
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._is_dropped or not self._items or self._bytes + size <= self._limit_bytes
                )
            )
            if self._is_dropped:
                raise _EndedError
            self._items.append(item)
            self._bytes += size
            self._changed.notify_all()

    def end(self, *, drop: bool = False) -> None:
        """Say that no item follows. With `drop` those that wait are dropped, and both sides
        raise _EndedError from now on."""
        with self._changed:
            self._is_finished = True
            if drop:
                self._is_dropped = True
                self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_finished or bool(self._items))
                if self._is_dropped:
                    raise _EndedError
                if not self._items:
                    return
                item = self._items.popleft()
                self._bytes -= self._size_of(item)
                self._changed.notify_all()
            yield item
            del item  # what was taken is not held while waiting for the next


def _feed(items: Iterable[Item], channel: _Channel[Item]) -> None:
    try:
        for item in items:
            channel.put(item)
            del item  # the queue alone holds what waits
    except BaseException:
        channel.end(drop=True)
        raise
    channel.end()


def _drain(write: Callable[[Iterator[Item]], Result], channel: _Channel[Item]) -> Result:
    try:
        return write(iter(channel))
    finally:
        channel.end(drop=True)
