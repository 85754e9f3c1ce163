"""Recurrent convolutional network: gated recurrence over feature maps (Ballas et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn

from dualstream.errors import InputError
from dualstream.models.layers.backbone import (
    accepted,
    channels_first,
    checkpoint_blocks,
    make_feature_maps,
    parts,
    run_backbone,
)
from dualstream.models.network import Network


class ConvGRU(nn.Module):
    """Gated recurrent unit whose matrix products are 2D convolutions (`*`), on maps of any size.

        update      z = sigmoid(Wz * x + Uz * h + bz)
        reset       r = sigmoid(Wr * x + Ur * h + br)
        candidate   c = tanh(W * x + U * (r h) + b)
        state       h' = (1 - z) h + z c

    The state in front of the first step is zero.

    Args:
        in_channels: C of the input.
        hidden: channels of the state.
        kernel: window of every convolution, odd.

    Source:
        Ballas et al. 2016, equations 7 to 10 (GRU-RCN), with biases.
    """

    def __init__(self, in_channels: int, hidden: int, *, kernel: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.of_input = nn.Conv2d(in_channels, 3 * hidden, kernel, padding=kernel // 2)
        self.of_state = nn.Conv2d(hidden, 2 * hidden, kernel, padding=kernel // 2, bias=False)
        self.of_reset_state = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, T, C, H, W) -> states (N, T, hidden, H, W)."""
        # What the input adds does not depend on the state: one convolution for all time steps.
        of_input: torch.Tensor = self.of_input(x.flatten(0, 1))  # (N*T, 3*hidden, H, W)
        steps = of_input.reshape(*x.shape[:2], *of_input.shape[1:]).unbind(dim=1)
        state = of_input.new_zeros(x.shape[0], self.hidden, *x.shape[3:])  # (N, hidden, H, W)
        states = []
        for step in steps:
            state = self.step(step, state)
            states.append(state)
        return torch.stack(states, dim=1)

    def step(self, of_input: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """(N, 3*hidden, H, W) of the input, and the state (N, hidden, H, W) -> the next state."""
        for_update, for_reset, for_candidate = of_input.chunk(3, dim=1)
        from_update, from_reset = self.of_state(state).chunk(2, dim=1)
        update = torch.sigmoid(for_update + from_update)
        reset = torch.sigmoid(for_reset + from_reset)
        candidate = torch.tanh(for_candidate + self.of_reset_state(reset * state))
        return torch.lerp(state, candidate, update)  # (1 - z) h + z c


class RecurrentConv(Network):
    """Convolutional GRUs over the feature maps of several depths of a backbone on every frame.

    The last states, averaged over the map, are classified together; with a linear classifier
    that is the sum of one classifier a depth. 51,118,757 parameters with ResNet-50 and 101
    classes. Takes clips of any length, and the images that the backbone takes.

    Args:
        backbone: any name of `timm.list_models()`; the authors use VGG-16.
        depths: which of the backbone's feature maps, ascending; those of a ResNet are 0 (half of
            the image's size) to 4 (a 32nd).
        hidden: channels of the state at each depth.
        kernel: window of the convolutions, odd.
        stacked: each depth also sees the states of the depth below it, max-pooled to its size.

    The others are `BackboneOptions`.

    Raises:
        UnknownNameError: the backbone is unknown.
        InputError: a number is out of range, `depths` and `hidden` do not fit each other or the
            backbone.
        WeightsError: `pretrained`, and the hub cannot be reached or has no such weights.

    Source:
        Ballas et al. 2016 (GRU-RCN and stacked GRU-RCN) on four maps; their fifth unit, over the
        features of a fully connected layer, is left out, and the dropout is ours.
    """

    conv_dims = 2

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str = "resnet50",
        in_channels: int = 3,
        depths: Sequence[int] = (1, 2, 3, 4),
        hidden: Sequence[int] = (64, 128, 256, 256),
        kernel: int = 3,
        stacked: bool = False,
        dropout: float = 0.5,
        checkpointing: bool = False,
        pretrained: bool = False,
    ) -> None:
        if kernel < 1 or kernel % 2 == 0:
            raise InputError(f"kernel must be odd and at least 1, got {kernel}.")
        if len(hidden) != len(depths) or min(hidden, default=0) < 1:
            raise InputError(
                f"hidden must have one number from 1 for each of the depths {tuple(depths)}, got "
                f"{tuple(hidden)}."
            )
        images = make_feature_maps(
            backbone, in_channels=in_channels, pretrained=pretrained, depths=depths
        )
        super().__init__(
            num_classes=num_classes,
            inputs=accepted(images, in_channels=in_channels),
            checkpointing=checkpointing,
        )
        self.stacked = stacked
        self.backbone = images
        if checkpointing:
            checkpoint_blocks(self.backbone, name=backbone)
        channels: list[int] = cast("Any", self.backbone).feature_info.channels()
        below = [0, *hidden[:-1]] if stacked else [0] * len(hidden)
        self.over_time = nn.ModuleList(
            ConvGRU(own + more, states, kernel=kernel)
            for own, more, states in zip(channels, below, hidden, strict=True)
        )
        self.add_classifier(sum(hidden), dropout=dropout)

    def stages(self) -> tuple[nn.Module, ...]:
        return (*parts(self.backbone), self.over_time)

    def encode(self, clips: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, sum of `hidden`): each depth's last state, mean over the map."""
        last = [states[:, -1].mean(dim=(2, 3)) for states in self.states(clips)]
        return torch.cat(last, dim=1)

    def states(self, clips: torch.Tensor) -> list[torch.Tensor]:
        """(N, C, T, H, W) -> states (N, T, hidden, H', W') at each depth."""
        images = clips.transpose(1, 2).flatten(0, 1)  # (N*T, C, H, W)
        states: list[torch.Tensor] = []
        all_maps = channels_first(self.backbone, run_backbone(self.backbone, images))
        for unit, maps in zip(self.over_time, all_maps, strict=True):
            if self.stacked and states:
                below = states[-1].flatten(0, 1)  # (N*T, hidden below, larger H', W')
                pooled = nn.functional.adaptive_max_pool2d(below, maps.shape[2:])
                maps = torch.cat((maps, pooled), dim=1)  # (N*T, C', H', W')
            sequence = maps.reshape(clips.shape[0], clips.shape[2], *maps.shape[1:])
            states.append(self.run(unit, sequence))
        return states


recurrent_conv = RecurrentConv
"""The name in `MODELS`."""
