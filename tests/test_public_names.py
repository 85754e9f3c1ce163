"""The public interface: removing or moving a name fails here."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import dualstream

PUBLIC_NAMES = {
    "Clip",
    "ClipSpec",
    "DualstreamError",
    "Flow",
    "FlowStore",
    "Frames",
    "Manifest",
    "Prediction",
    "Predictor",
    "Scores",
    "StreamSpec",
    "Teacher",
    "Trajectories",
    "VideoReader",
    "__version__",
    "create_model",
    "dense_trajectories",
    "evaluate",
    "export",
    "explain",
    "flow_to_rgb",
    "fuse",
    "fuse_runs",
    "list_models",
    "list_pairs",
    "list_recipes",
    "list_weights",
    "load_checkpoint",
    "load_pair",
    "load_recipe",
    "optical_flow",
    "predict",
    "probe",
    "push_to_hub",
    "read_scores",
    "read_video",
    "resume",
    "resume_pair",
    "train",
    "train_pair",
    "write_overlay",
    "write_scores",
    "write_video",
}


def test_names_are_those_of_the_contract() -> None:
    assert set(dualstream.__all__) == PUBLIC_NAMES
    assert set(dir(dualstream)) == PUBLIC_NAMES


def test_every_name_has_its_object() -> None:
    for name in PUBLIC_NAMES:
        value = getattr(dualstream, name)
        assert name == "__version__" or value.__name__ == name


@pytest.mark.parametrize(
    ("given", "after"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")]
)
def test_waiting_threads_leave_the_cores_to_others(given: dict[str, str], after: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | given
    command = [sys.executable, "-c", "import dualstream, os; print(os.environ['OMP_WAIT_POLICY'])"]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == after
