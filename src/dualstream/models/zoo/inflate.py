"""2D networks inflated over time (Carreira & Zisserman 2017, section 2.4), and their weights.

A window of kt frames gets the 2D window kt times, divided by kt. On a clip whose frames are all
alike it then gives what the 2D window gives on one of them, except where it reaches over the ends
of the clip: zeros there make it less. Frames repeated at the ends make it the same everywhere; so
does `inflated_2d`, `i3d` with `time_padding="repeat"`, and others after `repeat_border_frames`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from dualstream.errors import InputError, WeightsError
from dualstream.models.convert.layouts import plain_keys, renamed
from dualstream.models.layers.backbone import (
    accepted,
    checkpoint_blocks,
    make_backbone,
    num_features,
    parts,
    run_backbone,
)
from dualstream.models.layers.conv import RepeatingConv3d, inflate_weight
from dualstream.models.network import Network
from dualstream.models.weights.loading import list_problems
from dualstream.models.zoo.i3d import I3D
from dualstream.models.zoo.resnet_video import VideoResNet


class Clock:
    """Tells the layers inside a 2D network how many frames of a clip stand next to each other."""

    length: int = 1


class InflatedConv(RepeatingConv3d):
    """A 2D convolution of a network on frames, with a window over frames of the same clip.

    The ends of a clip are padded with their own frame, so that a still clip gives at every frame
    what the 2D convolution gives.

    Args:
        conv: the 2D convolution; its weights are copied.
        time_kernel: kt, odd.
        clock: knows T.
    """

    def __init__(self, conv: nn.Conv2d, *, time_kernel: int, clock: Clock) -> None:
        in_time = {
            "kernel_size": time_kernel,
            "stride": 1,
            "padding": time_kernel // 2,
            "dilation": 1,
        }
        sizes: dict[str, Any] = {name: (t, *getattr(conv, name)) for name, t in in_time.items()}
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            **sizes,
            groups=conv.groups,
            bias=conv.bias is not None,
            device=conv.weight.device,
            dtype=conv.weight.dtype,
        )
        self.clock = clock
        with torch.no_grad():
            self.weight.copy_(inflate_weight(conv.weight, time_kernel=time_kernel))
            if self.bias is not None and conv.bias is not None:
                self.bias.copy_(conv.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N*T, C, H, W) -> (N*T, C', H', W')."""
        clips = x.reshape(-1, self.clock.length, *x.shape[1:]).transpose(1, 2)  # (N, C, T, H, W)
        y = super().forward(clips)  # (N, C', T, H', W')
        return y.transpose(1, 2).flatten(0, 1)  # (N*T, C', H', W')


class OverFrames(nn.Module):
    """A network on frames, over the frames of clips, and the mean of its outputs.

    Args:
        network: from images (N, C, H, W) to one tensor (N, ...); one of ours takes clips of one
            frame instead.
        clock: of the `InflatedConv` in it.
    """

    def __init__(self, network: nn.Module, clock: Clock) -> None:
        super().__init__()
        self.network = network
        self.clock = clock

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, ...)."""
        length = clips.shape[2]
        self.clock.length = length
        frames = clips.transpose(1, 2).flatten(0, 1)  # (N, C, T, H, W) -> (N*T, C, H, W)
        if isinstance(self.network, Network):
            frames = frames.unsqueeze(2)  # (N*T, C, 1, H, W)
        y: torch.Tensor = run_backbone(self.network, frames)  # (N*T, ...)
        return y.reshape(-1, length, *y.shape[1:]).mean(dim=1)  # (N, ...)


def inflate_network(network: nn.Module, *, time_kernel: int | Mapping[str, int] = 3) -> OverFrames:
    """Any 2D convolutional network as one over clips, layer by layer.

    Chosen convolutions get a window over time; everything else works frame by frame, whatever it
    is: what a pool, a batch norm or an attention of 2D does to each frame is what one with a
    window of 1 over time does to a clip. A still clip gives what the 2D network gives for its
    frame, at the ends of the clip as well: they are padded with their own frame (with zeros, as in
    I3D's own code, that holds in the middle of long clips only).

    Args:
        network: from images (N, C, H, W) to a tensor (N, ...), for instance any of timm; or one of
            ours for single frames (`length` 1). It is copied.
        time_kernel: kt of every convolution that is larger than 1x1; or kt by name, where names
            may have wildcards: {"conv1": 5, "layer[34].*.conv1": 3}. The first that fits counts,
            a convolution that none fits stays 2D.

    Returns:
        The network over clips (N, C, T, H, W) of any length, with its weights inflated. Its
        outputs are the mean over the frames.

    Raises:
        InputError: a window is even or below 1, a name fits no convolution, a chosen convolution
            is of a special kind, or a network of ours takes more than one frame.
    """
    if isinstance(network, Network):
        for accepts in network.inputs.values():
            if accepts.length != 1:
                raise InputError(
                    f"{network.name} takes clips of {accepts.length or 'several'} frames; a "
                    "network for single frames (length=1) can be inflated."
                )
    clock = Clock()
    inflated = copy.deepcopy(network)
    for name, kt in _windows(inflated, time_kernel).items():
        parent, _, child = name.rpartition(".")
        conv = inflated.get_submodule(name)
        if (
            type(conv) is not nn.Conv2d
            or isinstance(conv.padding, str)
            or conv.padding_mode != "zeros"
        ):
            raise InputError(
                f"{name} is a {type(conv).__name__} that pads or weighs in its own way, and "
                "cannot be inflated. Choose others by time_kernel={name: kt}."
            )
        setattr(
            inflated.get_submodule(parent), child, InflatedConv(conv, time_kernel=kt, clock=clock)
        )
    return OverFrames(inflated, clock).train(network.training)


def _windows(network: nn.Module, time_kernel: int | Mapping[str, int]) -> dict[str, int]:
    """Name of each convolution that gets a window of more than one frame -> that window."""
    convs = {n: m for n, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    if isinstance(time_kernel, int):
        time_kernel = {n: time_kernel for n, conv in convs.items() if max(conv.kernel_size) > 1}
    chosen: dict[str, int] = {}
    for pattern, kernel in time_kernel.items():
        names = [name for name in convs if fnmatchcase(name, pattern)]
        if not names:
            raise InputError(
                f"time_kernel names {pattern!r}, which no 2D convolution of the network is "
                f"called. Some are: {', '.join(list(convs)[:5])}."
            )
        if kernel < 1 or kernel % 2 == 0:
            raise InputError(f"time_kernel must be odd and at least 1, got {kernel}.")
        chosen = dict.fromkeys(names, kernel) | chosen  # the first that fits counts
    if not chosen:
        raise InputError("The network has no 2D convolution to inflate.")
    return {name: chosen[name] for name in convs if chosen.get(name, 1) > 1}


class Inflated2D(Network):
    """A 2D network of timm, inflated over time: mean over frames, dropout, classifier.

    Takes clips of any length. Non-local blocks have no place in timm's networks; `i3d_r50` and
    `c2d_r50` with a ResNet-50's weights inflated (`inflate_state`) have.

    Args:
        backbone: any convolutional network of `timm.list_models()`, for instance resnet50 or
            inception_v3.
        time_kernel: windows over time, see `inflate_network`.
        checkpointing: compute activations inside timm's blocks again in the backward pass, which
            then must follow its forward pass before one of clips of another length.

    The others are `BackboneOptions`; pretrained weights are inflated.

    Raises:
        UnknownNameError: timm has no such backbone.
        InputError: a number is out of range, the backbone takes one size of image only, its
            convolutions cannot be inflated, or timm has no checkpointing for it.
        WeightsError: `pretrained`, and the hub cannot be reached or has no such weights.

    Source:
        Carreira & Zisserman 2017, section 2.4; no steps over time.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str = "resnet50",
        in_channels: int = 3,
        time_kernel: int | Mapping[str, int] = 3,
        dropout: float = 0.5,
        pretrained: bool = False,
        checkpointing: bool = False,
    ) -> None:
        network = make_backbone(backbone, in_channels=in_channels, pretrained=pretrained)
        inputs = accepted(network, in_channels=in_channels)
        if inputs.side is not None:
            raise InputError(
                f"{backbone!r} takes images of {inputs.side} x {inputs.side} only and is not "
                "inflated; choose a convolutional network."
            )
        super().__init__(num_classes=num_classes, inputs=inputs, checkpointing=checkpointing)
        self.backbone = inflate_network(network, time_kernel=time_kernel)
        if checkpointing:
            checkpoint_blocks(self.backbone.network, name=backbone)
        self.add_classifier(num_features(network), dropout=dropout)

    def stages(self) -> tuple[nn.Module, ...]:
        return parts(self.backbone.network)

    def encode(self, clips: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, num_features)."""
        features: torch.Tensor = self.backbone(clips)
        return features


inflated_2d = Inflated2D
"""The name in `MODELS`."""

_IN_RESNET = (
    (r"^classifier", "fc"),
    (r"^stem\.0\.conv", "conv1"),
    (r"^stem\.0\.norm", "bn1"),
    *((rf"^res{number + 1}", f"layer{number}") for number in range(1, 5)),
    (r"\.shortcut\.conv", ".downsample.0"),
    (r"\.shortcut\.norm", ".downsample.1"),
    (r"\.conv(\d)\.conv", r".conv\1"),
    (r"\.conv(\d)\.norm", r".bn\1"),
)
"""Patterns in our names -> timm's and torchvision's, as `names_in_resnet` applies them."""


def inflate_state(
    state: Mapping[str, torch.Tensor],
    model: Network,
    *,
    names: Mapping[str, str] | None = None,
    new_classifier: bool = False,
) -> dict[str, torch.Tensor]:
    """State dict of a 2D network as one of its 3D form, for `model.load_state_dict`.

    Args:
        state: of the 2D network, for instance `inception_v1` for `i3d`, or timm's resnet50 for
            `i3d_r50`, `slow_r50` and `c2d_r50`.
        model: the 3D network. Its non-local blocks, if any, keep their start.
        names: name in `model` -> name in `state`; None where both have the same. For ResNets see
            `names_in_resnet`.
        new_classifier: keep the model's classifier, for another number of classes.

    Returns:
        All names of `model` -> tensors.

    Raises:
        WeightsError: `state` is not of the 2D form of `model`; lists the names that are missing,
            left over or of another shape.
    """
    own = model.state_dict()
    table = dict(names) if names is not None else {key: key for key in plain_keys(model)}
    if new_classifier:
        dropped = {table.pop(key) for key in list(table) if key.startswith("classifier.")}
        state = {key: value for key, value in state.items() if key not in dropped}
    taken = {key: state[of] for key, of in table.items() if of in state}
    for key, value in taken.items():
        is_flat = value.ndim == 4 or (value.ndim == 5 and value.shape[2] == 1)
        if is_flat and own[key].ndim == 5:
            taken[key] = inflate_weight(value, time_kernel=own[key].shape[2])
    wanted = {key: own[key] for key in table}
    left_over = sorted(state.keys() - set(table.values()))
    problems = list_problems(taken, wanted)
    if left_over:
        problems.append(f"{len(left_over)} not in the network: {', '.join(left_over)}")
    if problems:
        raise WeightsError(f"These are not weights of {model.name} in 2D. {'; '.join(problems)}.")
    return {**own, **taken}


def names_in_resnet(model: Network) -> dict[str, str]:
    """Our name -> the one in a 2D ResNet-50 of timm or torchvision, which agree in theirs.

    'res3.1.conv2.norm.bias' -> 'layer2.1.bn2.bias'. Strides agree too: all have them in the 3x3.

    Args:
        model: c2d_r50, i3d_r50 or slow_r50.

    Raises:
        WeightsError: another network; R(2+1)D has convolutions over time of which 2D ones have
            nothing.
    """
    keys = plain_keys(model)
    if not isinstance(model, VideoResNet) or any(".conv2_time." in key for key in keys):
        raise WeightsError(f"{model.name} is not the 3D form of a 2D ResNet-50.")
    return {key: renamed(key, _IN_RESNET) for key in keys}


def repeat_border_frames(model: nn.Module) -> None:
    """Make every convolution over time see border frames again instead of zeros, in place.

    No name and no weight changes. Where weights were inflated, a still clip then gives what its
    frame gave. It is a property of the network, not of its weights: call it again on a new one.

    Raises:
        InputError: the network has convolutions over time that do not pad by themselves and alike
            on both sides, as those of residual networks and SlowFast do; nothing was changed.
    """
    if isinstance(model, I3D) and model.in_time and model.time_padding != "repeat":
        raise InputError("Make i3d with time_padding='repeat' instead.")
    for name, conv in model.named_modules():
        window = conv.kernel_size[0] if isinstance(conv, nn.Conv3d) else 1
        if window > 1 and (type(conv) not in (nn.Conv3d, RepeatingConv3d) or window % 2 == 0):
            raise InputError(
                f"{name}, {type(conv).__name__} over {window} frames, pads time in a way of its "
                "own, which cannot be changed."
            )
    for conv in model.modules():
        if type(conv) is nn.Conv3d and not isinstance(conv.padding, str) and conv.padding[0]:
            conv.__class__ = RepeatingConv3d  # which has another forward pass and nothing else
