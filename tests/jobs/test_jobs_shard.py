"""Shards of a list: as they are written, disjoint, complete and balanced."""

import random
from pathlib import Path

import pytest

from dualstream.errors import InputError
from dualstream.jobs import Shard


def parts(items, count, **options):
    return [Shard(i, count).part(items, **options) for i in range(1, count + 1)]


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ((9, 5, 4), 1, [[0, 1, 2]]),
        ((9, 5, 4), 2, [[0], [1, 2]]),
        ((4, 5, 9), 2, [[2], [0, 1]]),
        ((5, 5, 5, 5), 3, [[0, 3], [1], [2]]),
        (None, 2, [[0, 2, 4], [1, 3]]),
        ((7,), 3, [[0], [], []]),
        ((), 2, [[], []]),
    ],
)
def test_parts(sizes, count, expected):
    places = list(range(5 if sizes is None else len(sizes)))
    assert parts(places, count, sizes=sizes) == expected


@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_parts_are_balanced_disjoint_and_complete(count):
    sizes = [random.Random(3).randint(20, 400) for _ in range(300)]
    shards = parts(range(300), count, sizes=sizes)
    assert sorted(n for shard in shards for n in shard) == list(range(300))
    assert all(shard == sorted(shard) for shard in shards)
    loads = [sum(sizes[n] for n in shard) for shard in shards]
    assert max(loads) - min(loads) <= max(sizes)


def test_each_shard_has_a_file_of_its_own():
    files = [Shard(i, 12).beside(Path("out/a.b.jsonl")) for i in range(1, 13)]
    assert files[1] == Path("out/a.b-2-of-12.jsonl")
    assert len(set(files)) == 12


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
