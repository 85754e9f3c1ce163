"""Names of DeepMind's I3D in its TensorFlow checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dualstream.errors import WeightsError
from dualstream.models.convert.naming import Fixed, Their, renamed
from dualstream.models.network import Network
from dualstream.models.zoo.i3d import I3D

KERNEL_ORDER = (2, 3, 4, 1, 0)
"""Ours is (out, in, T, H, W), theirs (T, H, W, in, out)."""

_UNITS = (
    (r"^stem\.conv_1a", "Conv3d_1a_7x7"),
    (r"^stem\.conv_2b", "Conv3d_2b_1x1"),
    (r"^stem\.conv_2c", "Conv3d_2c_3x3"),
    *((rf"^mixed_(3|5)\.{index}", rf"Mixed_\1{letter}") for index, letter in enumerate("bc")),
    *((rf"^mixed_4\.{index}", f"Mixed_4{letter}") for index, letter in enumerate("bcdef")),
    (r"\.branch_(\d)(\.narrow)?$", r"/Branch_\1/Conv3d_0a_1x1"),
    (r"\.branch_(\d)\.wide$", r"/Branch_\1/Conv3d_0b_3x3"),
    (r"\.branch_(\d)\.project$", r"/Branch_\1/Conv3d_0b_1x1"),
)
"""mixed_3.0.branch_1.wide -> Mixed_3b/Branch_1/Conv3d_0b_3x3."""

_MISNAMED = {"Mixed_5b/Branch_2/Conv3d_0b_3x3": "Mixed_5b/Branch_2/Conv3d_0a_3x3"}
"""The one unit whose name in the checkpoints breaks the rule."""

_TENSORS = {
    "conv.weight": Their("{unit}/conv_3d/w", order=KERNEL_ORDER),
    "norm.bias": Their("{unit}/batch_norm/beta"),
    "norm.running_mean": Their("{unit}/batch_norm/moving_mean"),
    "norm.running_var": Their("{unit}/batch_norm/moving_variance"),
    "weight": Their("Logits/Conv3d_0c_1x1/conv_3d/w", order=(1, 0), ones_in_front=3),
    "bias": Their("Logits/Conv3d_0c_1x1/conv_3d/b"),
}

_NOT_THERE = {"norm.weight": Fixed(1.0), "norm.num_batches_tracked": Fixed(0, ignored=True)}
"""Their batch norms have no gain."""


def names(model: Network) -> dict[str, Their | Fixed]:
    """Our key -> theirs, for `i3d` of 2 input channels (Flow) or of any other number (RGB).

    'mixed_3.0.branch_1.wide.conv.weight' ->
    'RGB/inception_i3d/Mixed_3b/Branch_1/Conv3d_0b_3x3/conv_3d/w'. The checkpoint of Kinetics-600
    has these names without the first two parts.

    Raises:
        WeightsError: not a network of `i3d`.
    """
    is_flow = check_i3d(model, "DeepMind").inputs["clip"].channels == 2
    scope = f"{'Flow' if is_flow else 'RGB'}/inception_i3d/"
    tensors = {key: replace(their, name=scope + their.name) for key, their in _TENSORS.items()}
    return i3d_table(model, tensors, misnamed=_MISNAMED)


def i3d_table(
    model: Network, tensors: Mapping[str, Their], *, misnamed: Mapping[str, str]
) -> dict[str, Their | Fixed]:
    """Our key -> theirs, for every key of the state dict of `i3d`.

    Args:
        tensors: end of our key -> theirs, with {unit} for the unit's name; weight and bias are
            the classifier's.
        misnamed: names of units by the rule -> their own.
    """
    table: dict[str, Their | Fixed] = {}
    for key in model.state_dict():
        unit, tensor = split_key(key)
        if tensor in _NOT_THERE:
            table[key] = _NOT_THERE[tensor]
            continue
        name = renamed(unit, _UNITS)
        their = tensors[tensor]
        table[key] = replace(their, name=their.name.format(unit=misnamed.get(name, name)))
    return table


def check_i3d(model: Network, package: str) -> I3D:
    """`model` itself.

    Raises:
        WeightsError: it is not a network of `i3d`.
    """
    if isinstance(model, I3D) and model.in_time:
        return model
    raise WeightsError(f"{package} has no layout for {model.name}, only for i3d.")


def split_key(key: str) -> tuple[str, str]:
    """'stem.conv_1a.norm.bias' -> ('stem.conv_1a', 'norm.bias'); the classifier's likewise."""
    parts = key.split(".")
    count = 1 if parts[0] == "classifier" else 2
    return ".".join(parts[:-count]), ".".join(parts[-count:])
