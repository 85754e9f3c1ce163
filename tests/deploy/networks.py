"""Networks of every kind that is exported, as small as they are taken."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dualstream.engine.infer.recognizer import Recognizer
from dualstream.models import create_model
from dualstream.types import ClipSpec, StreamSpec

CLASSES = ("down", "right", "up")
TINY = {"backbone": "test_resnet"}

SMALL: dict[str, tuple[str, dict[str, StreamSpec], int, dict[str, Any]]] = {
    "tsn": ("tsn", {"rgb": StreamSpec("rgb")}, 32, TINY),
    "tsn on flow": (
        *("tsn", {"flow": StreamSpec("flow", num_frames=3, subtract_mean_flow=True)}, 32),
        {**TINY, "in_channels": 2, "length": 3},
    ),
    "tsn on differences": (
        *("tsn", {"rgb_diff": StreamSpec("rgb_diff", num_frames=2)}, 32),
        {**TINY, "length": 2},
    ),
    "tsn, attention": ("tsn", {"rgb": StreamSpec("rgb")}, 32, {**TINY, "consensus": "attention"}),
    "i3d": ("i3d", {"rgb": StreamSpec("rgb", num_frames=9)}, 32, {}),
    "r2plus1d_18": ("r2plus1d_18", {"rgb": StreamSpec("rgb", num_frames=4)}, 32, {}),
    "slowfast": ("slowfast_r50_4x16", {"rgb": StreamSpec("rgb", num_frames=8)}, 32, {}),
    "x3d": ("x3d_xs", {"rgb": StreamSpec("rgb", num_frames=4)}, 32, {}),
    "cnn_m": ("cnn_m_2048", {"rgb": StreamSpec("rgb")}, 48, {"image_size": 48}),
    "conv_fusion": (
        "conv_fusion",
        {"rgb": StreamSpec("rgb"), "flow": StreamSpec("flow", num_frames=3)},
        32,
        {
            "towers": {s: {"name": "tsn", **TINY} for s in ("rgb", "flow")},
            "length": {"rgb": 1, "flow": 3},
            "after": "backbone.layer3",
            "fusion": "conv_3d",
            "steps": 2,
            "pool": [2, 1, 1],
        },
    ),
}
"""Title -> network, streams, side, options."""


def small(title: str, *, name: str = "run", seed: int = 0) -> Recognizer:
    """A network of `SMALL` with random weights, and batch norms that are not the identity."""
    network, streams, side, options = SMALL[title]
    torch.manual_seed(seed)
    model = create_model(network, num_classes=len(CLASSES), **options).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    if "classifier" in model._modules:
        nn.init.normal_(model.classifier.weight, std=0.05)
    return Recognizer(name, model, ClipSpec(streams, short_side=side, crop_size=side), CLASSES)
