"""Commands of the documentation that start several processes, of one machine and of two."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.conftest import free_port
from tests.engine.small_recipes import small_changes
from tests.test_docs import DOCS, typed

RECIPE = "slowfast_r50_8x8"
PROGRAMS = {
    "dualstream": [sys.executable, "-m", "dualstream"],
    "torchrun": [sys.executable, "-m", "torch.distributed.run"],
    "srun": [sys.executable, "-m"],
}
"""Command of a page -> how it is called here."""


def process(
    line: str, data: Path, folder: Path, *, devices: int, port: int, **environment: str
) -> subprocess.Popen[str]:
    """Start a command of the page with fewer processors in the place of its GPUs.

    Args:
        line: the command.
        data: prepared folder.
        folder: where it runs.
        devices: processes of a machine.
        port: where the machines meet.
        environment: further variables.
    """
    put = {
        "work": [str(data)],
        "train.devices=8": [f"train.devices={devices}"],
        "8": [str(devices)],
        "node-1": ["127.0.0.1"],
        "29500": [str(port)],
        "train.precision=16-mixed": [],  # emulated on processors
    }
    program, *words = shlex.split(line)
    command = [word for one in words for word in put.get(one, [one])]
    last = ["train.epochs=1", "train.batch_size=4", "data.workers=0"]
    return subprocess.Popen(
        [*PROGRAMS[program], *command, *small_changes(RECIPE), *last],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def as_task_of_slurm(number: int, port: int) -> dict[str, str]:
    """Variables that srun gives to one of two tasks, each on a machine of its own."""
    return {
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NAME": "train",
        "SLURM_NNODES": "2",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_JOB_NODELIST": "127.0.0.1",
        "SLURM_NODEID": str(number),
        "SLURM_PROCID": str(number),
        "SLURM_LOCALID": "0",
        "MASTER_PORT": str(port),
    }


def all_end_well(machines: Sequence[subprocess.Popen[str]]) -> None:
    for machine in machines:
        _, printed = machine.communicate(timeout=1500)
        assert machine.returncode == 0, printed


def lines_of_page() -> list[str]:
    """Trainings of the page, in order."""
    return [line for line in typed(DOCS / "guide" / "many_gpus.md") if "--recipe" in line]


@pytest.mark.slow
def test_several_gpus(tiny_data: Path, tmp_path: Path) -> None:
    lines = [line for line in lines_of_page() if "train.nodes" not in line]
    assert len(lines) == 3
    run = tmp_path / "runs" / "slowfast"
    for line in lines:
        all_end_well([process(line, tiny_data, tmp_path, devices=2, port=0)])
        assert (run / "model.safetensors").is_file()
        shutil.rmtree(run)


@pytest.mark.slow
def test_several_machines(tiny_data: Path, tmp_path: Path) -> None:
    machines = [line for line in lines_of_page() if "--nnodes" in line]
    (of_slurm,) = (line for line in lines_of_page() if line.startswith("srun"))
    assert len(machines) == 2
    run, port = tmp_path / "runs" / "slowfast", free_port()
    all_end_well([process(line, tiny_data, tmp_path, devices=1, port=port) for line in machines])
    assert (run / "model.safetensors").is_file()
    shutil.rmtree(run)
    tasks = [as_task_of_slurm(number, free_port()) for number in range(2)]
    tasks[1]["MASTER_PORT"] = tasks[0]["MASTER_PORT"]
    all_end_well(
        [process(of_slurm, tiny_data, tmp_path, devices=1, port=0, **task) for task in tasks]
    )
    assert (run / "model.safetensors").is_file()
