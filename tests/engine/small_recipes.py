"""Shipped recipes, made so small that they train in seconds."""

from __future__ import annotations

from collections.abc import Sequence

from dualstream.engine.recipe import load_recipe
from dualstream.models.create import network_options

COMMON = (
    "augment.crop=center",
    "augment.zoom=[1, 1]",
    "augment.flip=false",
    "augment.brightness=0",
    "augment.contrast=0",
    "augment.saturation=0",
    "augment.hue_turns=0",
    "data.workers=0",
    "data.class_balanced=false",
    "data.frozen_views=0",
    "model.weights=null",
    "train.batch_size=4",
    "train.segments=1",
    "train.schedule={name: constant}",
    "train.clip_norm=null",
    "train.label_smoothing=0",
    "train.ema_decay=0",
    "train.accelerator=cpu",
    "test={segments: 2, crops: center}",
)
"""What makes any recipe a trial of seconds that learns its videos by heart."""

SMALL = {
    "hidden_two_stream": ("temporal_options.backbone=test_resnet", "base_channels=4"),
    "motionnet": ("base_channels=4",),
}
"""Options that make a network small, but for `backbone`."""

SMALLEST = {
    "c3d": (16, 16),
    "cnn_m_2048": (4, 41),
    "cross_attention": (4, 64),
    "early_fusion": (4, 32),
    "late_fusion": (4, 32),
    "s3d": (5, 24),
    "s3d_g": (5, 24),
    "single_frame": (4, 32),
    "slow_fusion": (10, 32),
    "t3d_121": (15, 29),
    "t3d_169": (15, 29),
    "two_stream": (4, 41),
}
"""Network -> frames and pixels where 4 and 24 are too few."""

TOWERS = {"tsn": {"backbone": "test_resnet"}, "cnn_m_2048": {}}
"""Options that make towers tiny."""


def small_changes(recipe: str, overrides: Sequence[str] = ()) -> list[str]:
    """Overrides that make a shipped recipe small.

    Args:
        recipe: its name.
        overrides: further ones, that the recipe is loaded with first.
    """
    shipped = load_recipe(recipe, overrides)
    model = shipped.model
    options = network_options(model.name).model_fields
    frames, side = SMALLEST.get(model.name, (4, 24))
    changes = [
        *COMMON,
        f"clip.crop_size={side}",
        f"clip.short_side={side + 4}",
        "clip.fps=null",
    ]
    for name, stream in shipped.inputs.items():
        changes.append(f"inputs.{name}.flow_method=tvl1-fast")
        if stream.num_frames > 1:
            changes += [
                f"inputs.{name}.num_frames={frames}",
                # From the first of ten frames to the last: every epoch sees the same batch.
                f"inputs.{name}.frame_stride={3 if frames < 10 else 1}",
            ]
    if "towers" in options:
        towers = {
            stream: {"name": tower["name"], "dropout": 0, **TOWERS[tower["name"]]}
            for stream, tower in model.options["towers"].items()
        }
        changes += [f"model.options.towers={towers}", "train.modality_dropout=0"]
    if model.name == "conv_fusion":
        changes += ["model.options.after=backbone.layer3", "model.trainable=all"]
    if model.name == "cross_attention":
        phases = {"schedule": "two_phase", "constant_epochs": 3, "network_epochs": 1}
        changes += [f"train.attention={phases}"]
    if "dropout" in options:
        changes.append("model.options.dropout=0")
    changes += [f"model.options.{option}" for option in SMALL.get(model.name, ())]
    if "backbone" in options:
        changes.append("model.options.backbone=test_resnet")
    if "pretrained" in options:
        changes.append("model.options.pretrained=false")
    return changes
