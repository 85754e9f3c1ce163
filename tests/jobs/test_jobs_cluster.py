"""Jobs on a Ray cluster: a real one of this machine, where Ray is installed."""

import socket
import sys
import types

import psutil
import pytest
from tests.conftest import free_port

from dualstream.errors import ClusterError, InputError, MissingDependencyError
from dualstream.jobs.cluster import Unfit, run_on_cluster, run_on_node
from dualstream.version import __version__

SUICIDE = "__import__('os').kill(__import__('os').getpid(), 9)"


def failed(job, reason):
    return f"{job}: {reason}"


def results_of(jobs, address, **options):
    options = {"limit": None, "on_failure": failed, **options}
    return run_on_cluster(eval, jobs, address=address, **options)


def test_all_results_come_also_those_of_failed_jobs(ray_cluster, tmp_path):
    jobs = [*(f"{n} * {n}" for n in range(7)), "1 / 0", SUICIDE]
    results = list(results_of(jobs, ray_cluster, limit=2, shared=(tmp_path,)))
    assert sorted(r for r in results if isinstance(r, int)) == [0, 1, 4, 9, 16, 25, 36]
    by_error, by_death = sorted(r for r in results if isinstance(r, str))
    assert by_error == "1 / 0: its Ray task failed: ZeroDivisionError: division by zero"
    assert by_death.startswith(f"{SUICIDE}: its Ray task died, and again when it was tried once")


def test_a_node_that_does_not_see_what_all_share(ray_cluster, tmp_path):
    (result,) = results_of(["1"], ray_cluster, shared=(tmp_path / "absent",))
    assert f"does not see {tmp_path / 'absent'}: it must lie in a folder that all share" in result


def test_an_error_of_the_package_comes_as_it_was_raised(ray_cluster, tmp_path):
    missing = f"__import__('dualstream.files').files.read_text({str(tmp_path / 'a')!r})"
    with pytest.raises(InputError, match="a: there is no such file"):
        list(results_of(["1", missing, "2"], ray_cluster))


def test_jobs_are_taken_when_there_is_a_place_for_them(ray_cluster):
    taken = []
    jobs = (taken.append(n) or str(n) for n in range(100))
    results = results_of(jobs, ray_cluster, limit=2)
    assert next(results) in (0, 1)
    assert len(taken) <= 3
    results.close()


DEAF = """
import os, pathlib, time
path = pathlib.Path({path!r})
path.with_suffix(".new").write_text(str(os.getpid()))
path.with_suffix(".new").rename(path)
while True:
    try:
        while True:
            time.sleep(0.01)
    except BaseException:
        pass
"""


def test_a_process_that_drops_every_interrupt_is_ended(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("dualstream.jobs.cluster._CANCEL_SECONDS", 1.0)
    path = tmp_path / "process"
    results = results_of(["1", f"exec({DEAF.format(path=str(path))!r})"], ray_cluster)
    assert next(results) == 1
    while not path.exists():
        pass
    process = psutil.Process(int(path.read_text()))
    results.close()
    process.wait()  # pytest's own time limit ends a process that stays


def test_nothing_is_cancelled_once_the_connection_is_gone(monkeypatch):
    """Ray would begin a cluster of its own to cancel in, as at the end of a program."""
    ray = types.SimpleNamespace(
        is_initialized=lambda: True,
        cluster_resources=lambda: {"CPU": 2},
        remote=lambda **_: (
            lambda function: types.SimpleNamespace(remote=lambda work, job, *_: work(job))
        ),
        wait=lambda tasks, **_: (tasks[:1], tasks[1:]),
        get=lambda task: task,
        cancel=lambda task, **_: pytest.fail("cancelled"),
        exceptions=types.SimpleNamespace(RayError=Exception, RayTaskError=Exception),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    results = results_of(["1", "2", "3"], "auto")
    assert next(results) == 1
    ray.is_initialized = lambda: False
    results.close()


def test_where_no_cluster_is():
    pytest.importorskip("ray")
    with pytest.raises(ClusterError, match=r"No Ray cluster can be used at '127.*ray start --head"):
        list(results_of(["1"], f"127.0.0.1:{free_port()}"))


def test_without_ray_its_package_is_named_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'dualstream\[ray\]'"):
        results_of(["1"], "auto")


def test_a_node_of_another_version_says_so(tmp_path):
    assert run_on_node(eval, "1 + 1", __version__, [tmp_path]) == 2
    name = socket.gethostname()
    assert run_on_node(eval, "1 + 1", "0.0.1", []) == Unfit(
        f"node {name} has dualstream {__version__}, not 0.0.1"
    )
