"""2D networks inflated over time (Carreira & Zisserman 2017, section 2.4)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

from dualstream.errors import InputError
from dualstream.models.layers.backbone import (
    accepted,
    checkpoint_blocks,
    make_backbone,
    num_features,
    parts,
    run_backbone,
)
from dualstream.models.layers.conv import RepeatingConv3d, Triple, inflate_weight
from dualstream.models.network import Network


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
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            _with_time(time_kernel, conv.kernel_size),
            stride=_with_time(1, conv.stride),
            padding=_with_time(time_kernel // 2, conv.padding),
            dilation=_with_time(1, conv.dilation),
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


def _with_time(time: int, space: Sequence[int | str]) -> Triple:
    """3, (7, 7) -> (3, 7, 7)."""
    height, width = space
    return time, int(height), int(width)


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
        chosen = {n: time_kernel for n, conv in convs.items() if max(conv.kernel_size) > 1}
        kernels = [time_kernel]
    else:
        for pattern in time_kernel:
            if not any(fnmatchcase(name, pattern) for name in convs):
                raise InputError(
                    f"time_kernel names {pattern!r}, which no 2D convolution of the network is "
                    f"called. Some are: {', '.join(list(convs)[:5])}."
                )
        fits = {n: [kt for p, kt in time_kernel.items() if fnmatchcase(n, p)] for n in convs}
        chosen = {name: kts[0] for name, kts in fits.items() if kts}
        kernels = list(time_kernel.values())
    for kernel in kernels:
        if kernel < 1 or kernel % 2 == 0:
            raise InputError(f"time_kernel must be odd and at least 1, got {kernel}.")
    if not chosen:
        raise InputError("The network has no 2D convolution to inflate.")
    return {name: kt for name, kt in chosen.items() if kt > 1}


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
        """Parts of the backbone; of a ResNet conv1, bn1, layer1, ..."""
        return parts(self.backbone.network)

    def encode(self, clips: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, num_features)."""
        features: torch.Tensor = self.backbone(clips)
        return features


inflated_2d = Inflated2D
"""The name in `MODELS`."""
