"""Two-stream recognition of human actions in video: what a frame shows, and how it moves.

Names are loaded when first used, so that importing the package is quick.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from dualstream.version import __version__

if TYPE_CHECKING:
    from dualstream.clips.data.manifest import Manifest as Manifest
    from dualstream.engine.infer.evaluate import evaluate as evaluate
    from dualstream.engine.infer.fuse_runs import fuse_runs as fuse_runs
    from dualstream.engine.infer.predictor import Predictor as Predictor
    from dualstream.engine.infer.predictor import predict as predict
    from dualstream.engine.recipe import list_recipes as list_recipes
    from dualstream.engine.recipe import load_recipe as load_recipe
    from dualstream.engine.run.checkpoint import load_checkpoint as load_checkpoint
    from dualstream.engine.train.fit import resume as resume
    from dualstream.engine.train.fit import train as train
    from dualstream.errors import DualstreamError as DualstreamError
    from dualstream.flow import FlowStore as FlowStore
    from dualstream.flow import flow_to_rgb as flow_to_rgb
    from dualstream.flow import optical_flow as optical_flow
    from dualstream.models import create_model as create_model
    from dualstream.models import list_models as list_models
    from dualstream.models import list_weights as list_weights
    from dualstream.scores import fuse as fuse
    from dualstream.scores import read_scores as read_scores
    from dualstream.scores import write_scores as write_scores
    from dualstream.types import Clip as Clip
    from dualstream.types import ClipSpec as ClipSpec
    from dualstream.types import Flow as Flow
    from dualstream.types import Frames as Frames
    from dualstream.types import Prediction as Prediction
    from dualstream.types import Scores as Scores
    from dualstream.types import StreamSpec as StreamSpec
    from dualstream.video import VideoReader as VideoReader
    from dualstream.video import probe as probe
    from dualstream.video import read_video as read_video
    from dualstream.video import write_video as write_video

# OpenMP's threads spin while they wait for one another, unless told otherwise before torch is
# loaded. Beside the processes that read videos they take the cores from those that still work: a
# test of 160 small videos on two cores took 27 s instead of 7.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOME = {
    name: module
    for module, names in {
        "clips.data.manifest": ("Manifest",),
        "engine.infer.evaluate": ("evaluate",),
        "engine.infer.fuse_runs": ("fuse_runs",),
        "engine.infer.predictor": ("Predictor", "predict"),
        "engine.recipe": ("list_recipes", "load_recipe"),
        "engine.run.checkpoint": ("load_checkpoint",),
        "engine.train.fit": ("resume", "train"),
        "errors": ("DualstreamError",),
        "flow": ("FlowStore", "flow_to_rgb", "optical_flow"),
        "models": ("create_model", "list_models", "list_weights"),
        "scores": ("fuse", "read_scores", "write_scores"),
        "types": ("Clip", "ClipSpec", "Flow", "Frames", "Prediction", "Scores", "StreamSpec"),
        "video": ("VideoReader", "probe", "read_video", "write_video"),
    }.items()
    for name in names
}
"""Public name -> module that holds it."""

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dualstream' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"dualstream.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
