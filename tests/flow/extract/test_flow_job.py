"""Jobs of an extraction and their shards."""

import random

import pytest

from dualstream.errors import InputError
from dualstream.flow.extract.job import FlowJob, Shard, shard_jobs


def jobs_of(*frames):
    return [FlowJob(f"{n}.mp4", f"/v/{n}.mp4", num_frames=count) for n, count in enumerate(frames)]


def parts(jobs, count):
    shards = [shard_jobs(jobs, Shard(i, count)) for i in range(1, count + 1)]
    return [[int(job.name[:-4]) for job in shard] for shard in shards]


@pytest.mark.parametrize(
    ("frames", "count", "expected"),
    [
        ((9, 5, 4), 1, [[0, 1, 2]]),
        ((9, 5, 4), 2, [[0], [1, 2]]),
        ((4, 5, 9), 2, [[2], [0, 1]]),
        ((5, 5, 5, 5), 3, [[0, 3], [1], [2]]),
        ((None, None, None, None, None), 2, [[0, 2, 4], [1, 3]]),
        ((100, 1, None), 2, [[0, 2], [1]]),  # one unknown length: dealt out in turn
        ((7,), 3, [[0], [], []]),
        ((), 2, [[], []]),
    ],
)
def test_shards(frames, count, expected):
    assert parts(jobs_of(*frames), count) == expected


@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_shards_are_balanced_disjoint_and_complete(count):
    frames = [random.Random(3).randint(20, 400) for _ in range(300)]
    jobs = jobs_of(*frames)
    shards = parts(jobs, count)
    assert sorted(n for shard in shards for n in shard) == list(range(300))
    assert all(shard == sorted(shard) for shard in shards)
    loads = [sum(frames[n] for n in shard) for shard in shards]
    assert max(loads) - min(loads) <= max(frames)


@pytest.mark.parametrize(
    ("text", "index", "count"), [("1/1", 1, 1), ("2/4", 2, 4), (" 10/10 ", 10, 10)]
)
def test_parse(text, index, count):
    assert Shard.parse(text) == Shard(index, count)


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "-1/4", "1/0", "a/b", "1/2/3", "1.0/2"])
def test_what_is_no_shard(text):
    with pytest.raises(InputError, match="A shard is i/n with i in"):
        Shard.parse(text)


def test_a_shard_is_printed_as_it_is_given():
    assert str(Shard.parse("3/8")) == "3/8"
