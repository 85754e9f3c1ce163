"""Jobs spread over processes."""

import multiprocessing

import pytest

from dualstream.flow.pool import run_jobs


def died(job, exit_code):
    return f"{job!r} ended with {exit_code}"


def test_all_results_come():
    results = list(run_jobs(eval, [f"{n} * {n}" for n in range(7)], workers=2, on_death=died))
    assert sorted(results) == [0, 1, 4, 9, 16, 25, 36]
    assert not multiprocessing.active_children()


def test_the_death_of_a_process_costs_one_job():
    jobs = ["1", "__import__('os')._exit(3)", "2", "1 / 0"]
    results = list(run_jobs(eval, jobs, workers=1, on_death=died))
    assert results == [1, f"{jobs[1]!r} ended with 3", 2, "'1 / 0' ended with 1"]


def test_a_killed_process_costs_one_job():
    suicide = "__import__('os').kill(__import__('os').getpid(), 9)"
    results = list(run_jobs(eval, ["1", suicide, "2"], workers=2, on_death=died))
    assert set(results) == {1, 2, f"{suicide!r} ended with -9"}


def test_closing_ends_the_processes():
    results = run_jobs(eval, ["1", "__import__('time').sleep(100)"], workers=2, on_death=died)
    assert next(results) == 1
    assert len(multiprocessing.active_children()) == 1
    results.close()
    assert not multiprocessing.active_children()


def test_no_jobs():
    assert list(run_jobs(eval, [], workers=2, on_death=died)) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_processes_are_used_again(workers):
    pids = list(run_jobs(eval, ["__import__('os').getpid()"] * 6, workers=workers, on_death=died))
    assert 1 <= len(set(pids)) <= workers
