"""2D networks of timm as the backbones of this package's networks."""

from __future__ import annotations

import bisect
import copy
import difflib
import itertools
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import nn

from dualstream.errors import InputError, ShapeError, UnknownNameError, WeightsError, check_least
from dualstream.models.accepts import Accepts
from dualstream.models.layers.conv import cross_modality_start
from dualstream.models.layers.norm import (
    batch_norms,
    put_statistics_back,
    set_statistics_aside,
)
from dualstream.models.network import NetworkOptions

LARGEST_SIDE = 1024
"""Pixels up to which the least size of a backbone is looked for."""


class BackboneOptions(NetworkOptions, total=False):
    """Options of networks over a backbone of timm that sees single frames."""

    backbone: str
    """Any name of `timm.list_models()`."""
    pretrained: bool
    """Start the backbone from timm's weights on the Hugging Face hub; with other channels than RGB
    by cross-modality start. For weights that need no hub see `create_model`."""


def make_backbone(name: str, *, in_channels: int, pretrained: bool) -> nn.Module:
    """Network of timm from images (N, in_channels, H, W) to features (N, `num_features`).

    Args:
        name: any of `timm.list_models()`.
        in_channels: C of an image.
        pretrained: see `BackboneOptions`.

    Raises:
        UnknownNameError: timm has no such network.
        WeightsError: `pretrained`, and the hub cannot be reached or has no such weights.
    """
    return _made(name, in_channels, pretrained=pretrained, num_classes=0)


def _made(name: str, in_channels: int, *, pretrained: bool, **options: Any) -> nn.Module:
    import timm  # slow: it brings torchvision

    check_least(1, in_channels=in_channels)
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=8, cutoff=0.5)
        raise UnknownNameError("backbone", name, (*near, "any other name in timm.list_models()"))
    made: nn.Module = timm.create_model(name, in_chans=in_channels, **options)
    if not pretrained:
        return made
    # timm adapts pretrained first layers to `in_chans` in its own way (it sums, then scales), so
    # it never sees other channels than RGB together with pretrained weights.
    try:
        state = timm.create_model(name, in_chans=3, pretrained=True, **options).state_dict()
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"Pretrained weights of {name!r} cannot be had from the Hugging Face hub: {error} "
            f"Connect, place the hub's cache here ($HF_HOME), choose weights of "
            f"dualstream.list_weights(), or make the network with pretrained=False."
        ) from error
    made.load_state_dict(cross_modality_start(state, made))
    return made


def make_feature_maps(
    name: str, *, in_channels: int, pretrained: bool, depths: Sequence[int]
) -> nn.Module:
    """Network of timm from images (N, in_channels, H, W) to a list of feature maps.

    Arguments and errors are those of `make_backbone`, and:

    Args:
        depths: which maps, counted from the input and from 0, ascending. Those of a ResNet are
            0 (half of the image's size) to 4 (a 32nd).

    Returns:
        The network; its `feature_info.channels()` are those of the maps. `channels_first` gives
        the maps one layout.

    Raises:
        InputError: the network has no feature map at one of the depths.
    """
    if not depths or list(depths) != sorted(set(depths)) or depths[0] < 0:
        raise InputError(f"depths must ascend from 0 or more, got {tuple(depths)}.")
    maps = {"features_only": True, "out_indices": tuple(depths)}
    try:
        return _made(name, in_channels, pretrained=pretrained, **maps)
    except (AssertionError, IndexError) as error:
        raise InputError(
            f"{name!r} has no feature map at one of the depths {tuple(depths)}; ResNets, for "
            f"instance, have 0 to 4."
        ) from error


def channels_first(feature_maps: nn.Module, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Maps of `make_feature_maps` as (N, C, H, W), for networks that work on (N, H, W, C) too."""
    if getattr(feature_maps, "output_fmt", "NCHW") == "NHWC":
        return [m.permute(0, 3, 1, 2) for m in maps]  # (N, H, W, C) -> (N, C, H, W)
    return list(maps)


def num_features(backbone: nn.Module) -> int:
    """Length of the features of a network of `make_backbone`."""
    return cast("int", backbone.head_hidden_size)


def ends_in_maps(backbone: nn.Module, images: torch.Tensor) -> bool:
    """Whether a backbone's last features have places in (N, C, H, W), as those of convolutions do.

    Vision transformers end in tokens (N, L, C) or (N, H, W, C). Only shapes are worked out.

    Args:
        images: (N, C, H, W) of the size that matters.
    """
    on_meta: Any = copy.deepcopy(backbone).to("meta").eval()
    last = on_meta.forward_features(images.to("meta"))
    return bool(last.ndim == 4 and last.shape[1] == on_meta.num_features)


def fixed_side(backbone: nn.Module) -> int | None:
    """H = W of a backbone that takes only that size, as most vision transformers; else None."""
    config = cast("dict[str, Any]", backbone.pretrained_cfg)
    return int(config["input_size"][1]) if config["fixed_input_size"] else None


def accepted(backbone: nn.Module, *, in_channels: int, length: int | None = None) -> Accepts:
    """Return the declared input of a network whose backbone sees its frames.

    Args:
        in_channels: C of one time step.
        length: T where the backbone sees frames stacked as channels; None where it sees each.
    """
    channels = in_channels * (length or 1)
    smallest = (1, *least_size(backbone, in_channels=channels))
    return Accepts(in_channels, length, smallest, side=fixed_side(backbone))


def least_size(backbone: nn.Module, *, in_channels: int) -> tuple[int, int]:
    """(H, W) of the smallest image that every layer of a backbone has an output for.

    The one size of a backbone that takes only one; else a square, found by trying without memory
    or arithmetic: 1 for ResNets, 75 for the features of Inception-v3. Some backbones do not take
    every larger size: `run_backbone` tells.

    Raises:
        InputError: there is no output for any size up to `LARGEST_SIDE`.
    """
    side = fixed_side(backbone)
    if side is not None:
        return side, side
    has_output = _size_check(backbone, (1, in_channels))
    least = 1
    while not has_output((least, least)):
        if least == LARGEST_SIDE:
            raise InputError(f"The backbone has no output for images up to {least} x {least}.")
        least *= 2
    sides = range(least)
    least = bisect.bisect_left(sides, True, least // 2 + 1, key=lambda s: has_output((s, s)))
    return least, least


def run_backbone(backbone: nn.Module, images: torch.Tensor) -> Any:
    """Return the output of a backbone for images (..., H, W).

    Raises:
        ShapeError: it has no output for H x W; names the next larger size that it takes.
    """
    try:
        return backbone(images)
    except (AssertionError, RuntimeError, ValueError) as error:
        size = (int(images.shape[-2]), int(images.shape[-1]))
        has_output = _size_check(backbone, images.shape[:-2])
        if has_output(size):  # something else went wrong
            raise
        larger = next((near for near in _larger_sizes(size) if has_output(near)), None)
        advice = (
            f" The next larger size that it takes is {larger[0]} x {larger[1]}." if larger else ""
        )
        raise ShapeError(
            f"This backbone has no output for images of {size[0]} x {size[1]}.{advice}"
        ) from error


def _size_check(backbone: nn.Module, before: Sequence[int]) -> Callable[[tuple[int, int]], bool]:
    """Function that tells whether a backbone has an output for images of (*before, H, W)."""
    tensors = itertools.chain(backbone.named_parameters(), backbone.named_buffers())
    shapes = {name: value.to("meta") for name, value in tensors}

    def has_output(size: tuple[int, int]) -> bool:
        image = torch.zeros(*before, *size, device="meta")
        modes = {module: module.training for module in backbone.modules()}
        backbone.eval()
        try:
            torch.func.functional_call(backbone, shapes, (image,))
        except (AssertionError, RuntimeError, ValueError):
            return False
        finally:
            for module, is_training in modes.items():
                module.training = is_training
        return True

    return has_output


def _larger_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Up to 64 pixels more on both sides, and multiples of 32 to 2048; the smallest first."""
    height, width = size
    steps = range(32, 2049, 32)
    multiples = {(-(-height // step) * step, -(-width // step) * step) for step in steps}
    sizes = multiples | {(height + more, width + more) for more in range(1, 65)}
    return sorted(sizes, key=lambda near: near[0] * near[1])


def parts(backbone: nn.Module) -> tuple[nn.Module, ...]:
    """Children that have parameters, from input to output: of a ResNet conv1, bn1, layer1, ...

    Parameters of the backbone itself, as the class token of a vision transformer, are in none.
    """
    return tuple(part for part in backbone.children() if any(True for _ in part.parameters()))


def checkpoint_blocks(backbone: nn.Module, *, name: str) -> None:
    """Compute the activations inside the backbone's blocks again in the backward pass.

    timm's blocks then run twice: in the forward pass, and again in the backward one. Batch norms
    move their running statistics in the first run only, as in `norm.checkpointed`.

    Raises:
        InputError: timm cannot do this with the backbone `name`.
    """
    try:
        cast("Any", backbone).set_grad_checkpointing(True)
    except (AssertionError, AttributeError) as error:
        raise InputError(
            f"timm has no gradient checkpointing for {name!r}; make the network with "
            f"checkpointing=False or another backbone."
        ) from error
    for norm in batch_norms(backbone):
        norm.register_forward_pre_hook(_before_norm)
        # Torch ends the second run with an exception, as soon as it has what it needs.
        norm.register_forward_hook(_after_norm, always_call=True)


def _before_norm(norm: Any, _inputs: object) -> None:
    is_second_run = torch._C._current_graph_task_id() != -1  # within a backward pass
    if is_second_run and norm.training:
        norm.aside = set_statistics_aside(norm)


def _after_norm(norm: Any, _inputs: object, _outputs: object) -> None:
    put_statistics_back(norm, norm.__dict__.pop("aside", {}))
