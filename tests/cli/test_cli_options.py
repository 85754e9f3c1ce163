"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualstream.cli.options import flow_folders
from dualstream.errors import InputError


def test_folders_of_flow(tmp_path: Path) -> None:
    assert flow_folders(None, "--flow") is None
    assert flow_folders(["work/flow"], "--flow") == Path("work/flow")
    assert flow_folders(["flow=a", "warped=b=c"], "--flow") == {
        "flow": Path("a"),
        "warped": Path("b=c"),
    }
    assert flow_folders(["warped=b"], "--flow") == {"warped": Path("b")}
    there = tmp_path / "x=y"
    there.mkdir()
    assert flow_folders([str(there)], "--flow") == there


@pytest.mark.parametrize("given", [["a", "b"], ["flow=a", "b"], ["flow=a", "flow=b"], ["flow="]])
def test_folders_that_are_not_told_apart(given: list[str]) -> None:
    with pytest.raises(InputError, match="--flow is one FOLDER, or STREAM=FOLDER once for each"):
        flow_folders(given, "--flow")
