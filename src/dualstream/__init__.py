"""Two-stream recognition of human actions in video: what a frame shows, and how it moves.

Names are loaded when first used, so that importing the package is quick.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from dualstream.version import __version__

if TYPE_CHECKING:
    from dualstream.clips.data.manifest import Manifest
    from dualstream.deploy.export import export
    from dualstream.engine.infer.evaluate import evaluate
    from dualstream.engine.infer.fuse_runs import fuse_runs
    from dualstream.engine.infer.overlay import write_overlay
    from dualstream.engine.infer.predictor import Predictor, explain, predict
    from dualstream.engine.pair import resume_pair, train_pair
    from dualstream.engine.pair_recipe import list_pairs, load_pair
    from dualstream.engine.recipe import list_recipes, load_recipe
    from dualstream.engine.run.checkpoint import load_checkpoint
    from dualstream.engine.run.push import push_to_hub
    from dualstream.engine.teach.teacher import Teacher
    from dualstream.engine.train.fit import resume, train
    from dualstream.errors import DualstreamError
    from dualstream.flow import FlowStore, flow_to_rgb, optical_flow
    from dualstream.flow.trajectories import Trajectories, dense_trajectories
    from dualstream.models import create_model, list_models, list_weights
    from dualstream.scores import fuse, read_scores, write_scores
    from dualstream.types import Clip, ClipSpec, Flow, Frames, Prediction, Scores, StreamSpec
    from dualstream.video import VideoReader, probe, read_video, write_video

__all__ = ["Clip", "ClipSpec", "Flow", "Frames", "Prediction", "Scores", "StreamSpec"]
__all__ += ["VideoReader", "probe", "read_video", "write_video"]
__all__ += ["FlowStore", "Manifest", "flow_to_rgb", "optical_flow"]
__all__ += ["Trajectories", "dense_trajectories"]
__all__ += ["create_model", "list_models", "list_recipes", "list_weights", "load_recipe"]
__all__ += ["list_pairs", "load_pair", "resume_pair", "train_pair"]
__all__ += ["load_checkpoint", "push_to_hub", "resume", "train", "write_overlay"]
__all__ += ["Predictor", "evaluate", "fuse", "fuse_runs", "predict", "read_scores", "write_scores"]
__all__ += ["export"]
__all__ += ["Teacher", "explain"]
__all__ += ["DualstreamError", "__version__"]

# OpenMP's threads spin while they wait for one another, unless told otherwise before torch is
# loaded. Beside the processes that read videos they take the cores from those that still work: a
# test of 160 small videos on two cores took 27 s instead of 7.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOME = {
    name: module
    for module, names in {
        "clips.data.manifest": ("Manifest",),
        "deploy.export": ("export",),
        "engine.infer.evaluate": ("evaluate",),
        "engine.infer.fuse_runs": ("fuse_runs",),
        "engine.infer.overlay": ("write_overlay",),
        "engine.infer.predictor": ("Predictor", "explain", "predict"),
        "engine.pair": ("resume_pair", "train_pair"),
        "engine.pair_recipe": ("list_pairs", "load_pair"),
        "engine.recipe": ("list_recipes", "load_recipe"),
        "engine.run.checkpoint": ("load_checkpoint",),
        "engine.run.push": ("push_to_hub",),
        "engine.teach.teacher": ("Teacher",),
        "engine.train.fit": ("resume", "train"),
        "errors": ("DualstreamError",),
        "flow": ("FlowStore", "flow_to_rgb", "optical_flow"),
        "flow.trajectories": ("Trajectories", "dense_trajectories"),
        "models": ("create_model", "list_models", "list_weights"),
        "scores": ("fuse", "read_scores", "write_scores"),
        "types": ("Clip", "ClipSpec", "Flow", "Frames", "Prediction", "Scores", "StreamSpec"),
        "video": ("VideoReader", "probe", "read_video", "write_video"),
    }.items()
    for name in names
}
"""Public name -> module that holds it."""


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dualstream' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"dualstream.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
