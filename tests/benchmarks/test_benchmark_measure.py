"""The timing tools that every benchmark stands on (nothing is timed here: the clock is a list)."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "measure.py"


@pytest.fixture(scope="module")
def measure():
    spec = importlib.util.spec_from_file_location("benchmark_measure", PATH)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by its name.
    sys.modules["benchmark_measure"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["benchmark_measure"]


def test_functions_run_in_turn_and_back_again(measure):
    calls = []
    ticks = iter(range(100))
    seconds = measure.interleaved(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        rounds=3,
        warm_up=1,
        clock=lambda: next(ticks),
    )
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert seconds == {"a": [1, 1, 1], "b": [1, 1, 1]}


def test_of_three_none_follows_itself(measure):
    calls = []
    functions = {name: lambda name=name: calls.append(name) for name in "abc"}
    measure.interleaved(functions, rounds=4, warm_up=0)
    assert "".join(calls) == "abc" + "bca" + "cab" + "abc"


def test_no_rounds(measure):
    with pytest.raises(ValueError, match="rounds must be at least 1"):
        measure.interleaved({}, rounds=0)


def test_summary(measure):
    found = measure.summary([0.004, 0.001, 0.003, 0.002, 0.010])
    assert (found.median, found.quartile_1, found.quartile_3) == (0.003, 0.002, 0.004)
    assert (found.smallest, found.rounds) == (0.001, 5)
    assert str(found) == "     3.00 ms  (middle half 2.00 to 4.00, 5 rounds)"
    assert measure.summary([0.5]).median == 0.5


def test_ratio_of_medians(measure):
    assert measure.ratio_of_medians({"a": [3, 1, 2], "b": [4, 4]}, "a", "b") == 0.5


def test_versions(measure):
    found = measure.versions("pytest", "no-such-package-at-all")
    assert found == {"pytest": pytest.__version__, "no-such-package-at-all": None}


def test_results_file_has_what_judges_them(measure, tmp_path):
    measure.write_json(
        tmp_path / "results" / "a.json",
        seconds={"a": [1.0, 2.0, 3.0]},
        settings={"threads": 1},
        results={"ratio": 0.5},
        packages={"av": "18.1.0"},
    )
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["a.json"]
    document = json.loads((tmp_path / "results" / "a.json").read_text())
    assert document["summaries"]["a"]["median"] == 2.0
    assert document["seconds"] == {"a": [1.0, 2.0, 3.0]}
    assert document["settings"] == {"threads": 1}
    assert document["results"] == {"ratio": 0.5}
    assert document["versions"] == {"av": "18.1.0"}
    assert {"processor", "cores", "python", "commit"} <= set(document["machine"])
