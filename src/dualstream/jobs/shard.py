"""Shards: equal parts of a list of jobs, each worked on by a call of its own."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dualstream.errors import InputError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """One of `count` parts of a list of jobs, counted from 1."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise InputError(f"A shard is i/n with i in 1..n, for instance 1/4; got {self}.")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`2/4` -> the second of four.

        Raises:
            InputError: another form, or a number out of range.
        """
        index, _, count = text.strip().partition("/")
        if not (index.isdecimal() and count.isdecimal()):
            raise InputError(f"A shard is i/n with i in 1..n, for instance 1/4; got {text!r}.")
        return cls(int(index), int(count))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def part(self, items: Sequence[Item], *, sizes: Sequence[int] | None = None) -> list[Item]:
        """Return the items of this shard, in their order; shards share none and leave none out.

        With sizes, the largest items are dealt out first, each to the shard that has the least so
        far (sizes 9, 5, 4 in two shards: 9 | 5, 4). Else items are dealt out in turn. The same
        list gives the same shards on every machine.

        Args:
            items: the whole list.
            sizes: of each item, at least 0.
        """
        if sizes is None:
            return list(items[self.index - 1 :: self.count])
        load = [(0, shard) for shard in range(self.count)]  # a heap
        mine = []
        for place in sorted(range(len(items)), key=lambda place: -sizes[place]):
            size, lightest = load[0]
            heapq.heapreplace(load, (size + sizes[place], lightest))
            if lightest == self.index - 1:
                mine.append(place)
        return [items[place] for place in sorted(mine)]

    def beside(self, path: Path) -> Path:
        """Return the file that this shard writes in place of `path`: `a.jsonl` -> `a-2-of-4.jsonl`.

        Shards then never write to one file.
        """
        return path.with_name(f"{path.stem}-{self.index}-of-{self.count}{path.suffix}")
