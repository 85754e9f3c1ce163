"""Jobs spread over processes, and memory that a process has freed is used again."""

import multiprocessing
import platform
import subprocess
import sys
import time

import pytest

from dualstream.errors import InputError
from dualstream.jobs import run_jobs

SUICIDE = "__import__('os').kill(__import__('os').getpid(), 9)"


@pytest.fixture(autouse=True)
def only_own_children(monkeypatch):
    """Children that other tests of this process have, such as a service that is still up."""
    others = set(multiprocessing.active_children())
    real = multiprocessing.active_children
    monkeypatch.setattr(
        multiprocessing, "active_children", lambda: [c for c in real() if c not in others]
    )


def died(job, exit_code):
    return f"{job!r} ended with {exit_code}"


def dies_once(marker, result):
    """Expression that ends its process the first time and gives `result` the second time."""
    return (
        f"{result} if __import__('os').path.exists({str(marker)!r}) "
        f"else (open({str(marker)!r}, 'x').close(), {SUICIDE})"
    )


def test_all_results_come():
    results = list(run_jobs(eval, [f"{n} * {n}" for n in range(7)], workers=2, on_death=died))
    assert sorted(results) == [0, 1, 4, 9, 16, 25, 36]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_whose_process_dies_is_tried_once_more(tmp_path, workers):
    jobs = [dies_once(tmp_path / f"{n}", n) for n in range(2)] + ["2", "3"]
    results = list(run_jobs(eval, jobs, workers=workers, on_death=died))
    assert sorted(results) == [0, 1, 2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
    assert not multiprocessing.active_children()


def test_the_second_try_comes_last_and_in_a_process_of_its_own(tmp_path):
    pid = "__import__('os').getpid()"
    jobs = [dies_once(tmp_path / "a", f"('again', {pid})"), f"('b', {pid})", f"('c', {pid})"]
    results = list(run_jobs(eval, jobs, workers=1, on_death=died))
    assert [name for name, _ in results] == ["b", "c", "again"]
    assert len({process for _, process in results}) == 2


def test_a_process_that_dies_twice_costs_its_job():
    jobs = ["1", "__import__('os')._exit(3)", "2", "1 / 0"]
    results = list(run_jobs(eval, jobs, workers=1, on_death=died))
    assert results == [1, 2, f"{jobs[1]!r} ended with 3", "'1 / 0' ended with 1"]


def test_killed_processes_are_told_by_their_signal():
    results = list(run_jobs(eval, ["1", SUICIDE, "2"], workers=2, on_death=died))
    assert set(results) == {1, 2, f"{SUICIDE!r} ended with -9"}


def test_closing_ends_the_processes():
    results = run_jobs(eval, ["1", "__import__('time').sleep(100)"], workers=2, on_death=died)
    assert next(results) == 1
    assert len(multiprocessing.active_children()) == 1
    results.close()
    assert not multiprocessing.active_children()


def test_processes_that_are_stopped_may_clean_up(tmp_path):
    wait = "__import__('time').sleep(100)"
    code = f"open({str(tmp_path / 'begun')!r}, 'x').close()\ntry:\n  {wait}\nfinally:\n"
    code += f"  open({str(tmp_path / 'clean')!r}, 'x').close()"
    results = run_jobs(eval, ["1", f"exec({code!r})"], workers=2, on_death=died)
    assert next(results) == 1
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    results.close()
    assert (tmp_path / "clean").exists()


def test_no_jobs():
    assert list(run_jobs(eval, [], workers=2, on_death=died)) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_processes_are_used_again(workers):
    pids = list(run_jobs(eval, ["__import__('os').getpid()"] * 6, workers=workers, on_death=died))
    assert 1 <= len(set(pids)) <= workers


def test_processes_do_not_run_ahead_of_who_takes_the_results(tmp_path):
    jobs = [f"open({str(tmp_path / str(n))!r}, 'x').close()" for n in range(5)]
    results = run_jobs(eval, jobs, workers=1, on_death=died)
    next(results)
    while not (tmp_path / "1").exists():
        time.sleep(0.01)
    time.sleep(0.2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
    assert list(results) == [None] * 4


def test_an_error_of_the_package_comes_as_it_was_raised(tmp_path):
    missing = f"__import__('dualstream.files').files.read_text({str(tmp_path / 'a')!r})"
    with pytest.raises(InputError, match="a: there is no such file"):
        list(run_jobs(eval, ["1", missing, "2"], workers=2, on_death=died))
    assert not multiprocessing.active_children()


def test_a_script_without_a_guard_is_told(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from dualstream.jobs import run_jobs\n"
        "print(list(run_jobs(eval, ['1', '2'], workers=2, on_death=print)))\n"
    )
    result = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert result.returncode == 1
    assert "InputError: Worker processes cannot start (exit code 1)" in result.stderr


FAULTS_OF_ROUNDS = """
import ctypes, resource, sys
import numpy as np
from dualstream.jobs import keep_freed_memory

# Huge pages, which the system gives as it has them, would make the counts a matter of luck.
PR_SET_THP_DISABLE = 41
assert ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        np.ones(64 * 2**20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "kept":
    keep_freed_memory()
print(faults(1), faults(20))
"""


def faults(which: str) -> tuple[int, int]:
    """Page faults of one large array, and of twenty that come and go after it."""
    command = [sys.executable, "-c", FAULTS_OF_ROUNDS, which]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    one, twenty = map(int, printed.split())
    return one, twenty


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_arrays_that_come_and_go_take_the_memory_of_the_first() -> None:
    one, twenty = faults("kept")
    assert twenty < one / 2
    one, twenty = faults("by default")
    assert twenty > 10 * one
