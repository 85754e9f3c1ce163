"""Three threads joined by short queues."""

import threading

import pytest

from dualstream.flow.extract.video_job import run_pipeline


class OutOfDiskError(Exception):
    pass


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("dualstream-flow")]


def run(sources, compute, write, *, limit_bytes=1, size_of=lambda item: 1):
    return run_pipeline(sources, compute, write, size_of=size_of, limit_bytes=limit_bytes)


@pytest.mark.parametrize("count", [0, 1, 2, 50])
@pytest.mark.parametrize("limit_bytes", [0, 1, 3])
def test_the_same_as_without_threads(count, limit_bytes):
    squares = [n * n for n in range(count)]
    assert run(range(count), lambda n: n * n, list, limit_bytes=limit_bytes) == squares
    assert not threads()


def test_only_the_computation_is_in_the_calling_thread():
    def sources():
        yield threading.current_thread()

    def write(items):
        return [*items, threading.current_thread()]

    (reader, computer), writer = run(
        sources(), lambda source: (source, threading.current_thread()), write
    )
    assert computer is threading.current_thread()
    assert computer not in (reader, writer)


@pytest.mark.parametrize("count", [30, 300])
@pytest.mark.parametrize(("limit_bytes", "waiting"), [(0, 1), (10, 1), (39, 3), (1000, 100)])
def test_no_more_waits_than_the_limit_in_bytes(count, limit_bytes, waiting):
    """Items of 10 bytes; two more of each kind are in the hands of the stages."""
    alive = {"source": 0, "item": 0}
    most = {"source": 0, "item": 0}
    lock = threading.Lock()

    class Counted:
        def __init__(self, kind):
            self.kind = kind
            with lock:
                alive[kind] += 1
                most[kind] = max(most[kind], alive[kind])

        def __del__(self):
            with lock:
                alive[self.kind] -= 1

    def write(items):
        return sum(1 for _ in items)

    read = (Counted("source") for _ in range(count))
    done = run(
        read, lambda _: Counted("item"), write, limit_bytes=limit_bytes, size_of=lambda _: 10
    )
    assert done == count
    assert alive == {"source": 0, "item": 0}
    assert most["source"] <= waiting + 2
    assert most["item"] <= waiting + 2


def failing_sources():
    yield from range(3)
    raise ValueError("read")


def fail(*_):
    raise ValueError("computed")


def failing_write(items):
    next(items)
    raise OutOfDiskError("written")


@pytest.mark.parametrize(
    ("sources", "compute", "write", "error", "message"),
    [
        (failing_sources, abs, list, ValueError, "read"),
        (lambda: iter(range(10**9)), fail, list, ValueError, "computed"),
        (lambda: iter(range(10**9)), abs, failing_write, OutOfDiskError, "written"),
    ],
)
def test_an_error_ends_all_stages(sources, compute, write, error, message):
    with pytest.raises(error, match=message):
        run(sources(), compute, write)
    assert not threads()


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt])
def test_the_writer_learns_that_it_must_not_finish(stop):
    ended = []

    def write(items):
        try:
            return list(items)
        except BaseException as error:
            ended.append(type(error).__name__)
            raise

    def compute(number):
        if number == 5:
            raise stop
        return number

    with pytest.raises(stop):
        run(iter(range(10**9)), compute, write)
    assert ended == ["_EndedError"]
    assert not threads()


def test_a_failing_reader_is_told_even_where_the_writer_fails_of_it():
    def write(items):
        try:
            return list(items)
        except Exception as error:
            raise OutOfDiskError from error

    with pytest.raises(ValueError, match="read"):
        run(failing_sources(), abs, write)


def test_a_writer_that_wants_no_more_ends_the_work():
    assert run(iter(range(10**9)), abs, next) == 0
    assert not threads()
