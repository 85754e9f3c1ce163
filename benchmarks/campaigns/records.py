"""Records of a campaign: a line of JSON a case, and the table that is made of them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from .children import VERDICTS


def read_records(path: Path) -> list[dict[str, Any]]:
    """Lines of a file of records; half a line, of a campaign that was stopped, is left out."""
    if not path.is_file():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines]


def run_cases(
    numbers: Iterable[int],
    path: Path,
    record_of: Callable[[int], dict[str, Any]],
    *,
    seconds: float | None = None,
) -> list[dict[str, Any]]:
    """Append the records of the cases that the file does not have; return all of these cases.

    Args:
        numbers: of the cases, which are their seeds.
        path: file of records.
        record_of: runs one case; its record has `verdict`.
        seconds: begin no further case after so long.
    """
    wanted = list(numbers)
    found = {record["seed"]: record for record in read_records(path)}
    start = time.monotonic()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():  # what was left of a line is cut off
        text = path.read_text()
        path.write_text(text[: text.rfind("\n") + 1])
    with path.open("a") as file:
        for number in wanted:
            if number in found:
                continue
            if seconds is not None and time.monotonic() - start > seconds:
                break
            found[number] = {"seed": number, **record_of(number)}
            file.write(json.dumps(found[number]) + "\n")
            file.flush()
            if found[number]["verdict"] not in ("read", "refused"):
                print(json.dumps(found[number])[:600], flush=True)
    return [found[number] for number in wanted if number in found]


def table(records: Iterable[dict[str, Any]], *, by: str, title: str) -> str:
    """A Markdown table: for each value of `by`, how many cases had which end."""
    counts: dict[str, Counter[str]] = {}
    for record in records:
        counts.setdefault(str(record[by]), Counter())[record["verdict"]] += 1
    rows = [f"| {title} | tried | {' | '.join(VERDICTS)} |", f"|---|{'---:|' * 8}"]
    for name, row in [*sorted(counts.items()), ("all", sum(counts.values(), Counter()))]:
        cells = " | ".join(str(row[verdict]) for verdict in VERDICTS)
        rows.append(f"| {name} | {row.total()} | {cells} |")
    return "\n".join(rows)


def failures(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Records that no campaign should have."""
    return (record for record in records if record["verdict"] not in ("read", "refused"))
