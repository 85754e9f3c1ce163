"""State dicts of `efficientnet_lite_pytorch`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from dualstream.errors import WeightsError

EFFICIENTNET_LITE_REPEATS: dict[str, tuple[int, ...]] = {
    "tf_efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "tf_efficientnet_lite1": (1, 3, 3, 4, 4, 5, 1),
    "tf_efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1),
}
"""Blocks in each of the seven stages of timm's network."""

_OUTSIDE_BLOCKS = {
    "_conv_stem": "backbone.conv_stem",
    "_bn0": "backbone.bn1",
    "_conv_head": "backbone.conv_head",
    "_bn1": "backbone.bn2",
    "_fc": "classifier",
}
_FIRST_BLOCK = {  # no expansion
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_OTHER_BLOCKS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def efficientnet_lite_key(key: str, *, repeats: Sequence[int]) -> str:
    """One name of `efficientnet_lite_pytorch` -> that of `tsn` over timm's network.

    '_blocks.3._expand_conv.weight' -> 'backbone.blocks.2.0.conv_pw.weight' with repeats 1, 2, 2.

    Args:
        key: name in the state dict.
        repeats: number of blocks in each stage of timm's network.

    Raises:
        WeightsError: the name is not one of that package's.
    """
    match key.split("."):
        case [layer, tensor] if layer in _OUTSIDE_BLOCKS:
            return f"{_OUTSIDE_BLOCKS[layer]}.{tensor}"
        case ["_blocks", number, layer, tensor] if number.isdecimal():
            blocks = [f"{stage}.{i}" for stage, count in enumerate(repeats) for i in range(count)]
            layers = _FIRST_BLOCK if int(number) == 0 else _OTHER_BLOCKS
            if int(number) < len(blocks) and layer in layers:
                return f"backbone.blocks.{blocks[int(number)]}.{layers[layer]}.{tensor}"
    raise WeightsError(f"{key!r} is not a name of efficientnet_lite_pytorch's network.")


def convert_efficientnet_lite(
    state: Mapping[str, torch.Tensor], *, backbone: str
) -> dict[str, torch.Tensor]:
    """State dict of `efficientnet_lite_pytorch` -> that of `tsn(backbone=...)`.

    Args:
        state: all tensors of the file.
        backbone: a key of `EFFICIENTNET_LITE_REPEATS`.

    Raises:
        WeightsError: `state` has a name that is not of that package's network.
    """
    repeats = EFFICIENTNET_LITE_REPEATS[backbone]
    return {
        efficientnet_lite_key(key, repeats=repeats): value.contiguous()
        for key, value in state.items()
    }
