"""3D convolutions written as 2D ones, for runtimes whose fast convolutions are those of images.

ONNX runtime has no fast 3D convolution on CPUs (it unfolds the clip and multiplies), but a fast 2D
one. The numbers are the same up to rounding.
"""

from __future__ import annotations

from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualstream.models.fastest import fold_batch_norms
from dualstream.models.layers.conv import ConvUnit

CHANNEL_BLOCK = 16
"""Channels that ONNX runtime lays side by side in memory; a convolution of each channel by itself
has a fast form for multiples of it only."""


def flatten_convolutions(network: nn.Module) -> None:
    """Merge batch norms into the convolutions before them and make 3D ones flat, in place.

    Args:
        network: in evaluation mode; its logits stay what they are up to rounding.

    Raises:
        InputError: it is in training mode.
    """
    fold_batch_norms(network)
    for name, module in list(network.named_modules()):
        # Not of kinds of their own, such as those that repeat the border.
        if isinstance(module, ConvUnit) and type(module.conv) is nn.Conv3d:
            if isinstance(module.norm, nn.Identity):
                # Its activation too, on images, where runtimes join it with the convolution.
                flat = FlatConv(module.conv, module.activation)
                network.set_submodule(f"{name}.conv", flat)
                network.set_submodule(f"{name}.activation", nn.Identity())
        elif type(module) is nn.Conv3d and network.get_submodule(name) is module:
            network.set_submodule(name, FlatConv(module, nn.Identity()))


class FlatConv(nn.Module):
    """A 3D convolution by 2D ones, and what follows it place by place.

    A window over space runs on the frames as images; one over time runs on (T, H*W) as an image;
    one over both sees neighbouring frames stacked as channels, or, where channels are in groups, is
    the sum of one over time and width for each row.

    Args:
        conv: to compute, padded with zeros.
        activation: to follow it.
    """

    def __init__(self, conv: nn.Conv3d, activation: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.activation = activation
        # Units that pad to keep a size look at their convolution.
        self.kernel_size, self.stride, self.padding = conv.kernel_size, conv.stride, conv.padding

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C', T', H', W')."""
        conv = self.conv
        kernel, stride, padding = conv.kernel_size, conv.stride, conv.padding
        if conv.dilation != (1, 1, 1) or conv.padding_mode != "zeros" or isinstance(padding, str):
            y: Tensor = self.activation(conv(x))
            return y
        over_time, over_space = kernel[0] > 1, (kernel[1:], stride[1:]) != ((1, 1), (1, 1))
        if not over_space and padding[1:] == (0, 0):
            return self._over_time(x)
        frames = x.transpose(1, 2)  # (N, T, C, H, W)
        if not over_time and padding[0] == 0:
            y = self._on_images(frames[:, :: stride[0]], conv.weight[:, :, 0], conv.bias)
        elif conv.groups == 1:
            y = self._stacked(frames)
        elif 2 * padding[2] == kernel[2] - 1:
            return self._summed(x)
        else:
            return cast("Tensor", self.activation(conv(x)))
        return y.transpose(1, 2)

    def _over_time(self, x: Tensor) -> Tensor:
        """A window (kt, 1, 1) on images of T x H*W."""
        conv, size = self.conv, x.shape[3:]
        y = F.conv2d(
            x.flatten(3),
            conv.weight.flatten(3),
            conv.bias,
            stride=(conv.stride[0], 1),
            padding=(int(conv.padding[0]), 0),
            groups=conv.groups,
        )
        z: Tensor = self.activation(y)  # (N, C', T', H*W)
        return z.reshape(-1, *z.shape[1:3], *size)

    def _on_images(self, frames: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(N, T, C, H, W) -> (N, T, C', H', W') with the activation."""
        conv = self.conv
        images = F.conv2d(
            frames.flatten(0, 1),
            weight,
            bias,
            stride=conv.stride[1:],
            padding=[int(pad) for pad in conv.padding[1:]],
            groups=conv.groups,
        )
        y: Tensor = self.activation(images)
        return y.reshape(-1, frames.shape[1], *y.shape[1:])

    def _steps(self, frames: Tensor) -> list[Tensor]:
        """The frames that each step of the window sees: kt times (N, T', C, H, W)."""
        conv = self.conv
        window, stride, pad = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
        length = frames.shape[1] + 2 * pad
        count = (length - window) // stride + 1
        padded = F.pad(frames, (0, 0, 0, 0, 0, 0, pad, pad)) if pad else frames
        return [
            padded[:, first : first + (count - 1) * stride + 1 : stride] for first in range(window)
        ]

    def _stacked(self, frames: Tensor) -> Tensor:
        """Neighbouring frames as channels."""
        stacked = torch.cat(self._steps(frames), dim=2)  # (N, T', kt*C, H, W)
        # (O, C, kt, kh, kw) -> (O, kt*C, kh, kw)
        weight = self.conv.weight.transpose(1, 2).flatten(1, 2)
        return self._on_images(stacked, weight, self.conv.bias)

    def _summed(self, x: Tensor) -> Tensor:
        """One convolution over time and width for each row of the window, summed.

        The rows of a frame lie one after the other, zeros between them, so that (T, H*W) is an
        image of few and long rows: those of small frames, one by one, take more time to begin than
        to compute. Where each channel is a group, groups are filled up with zeros to a number that
        runtimes have a fast convolution for.
        """
        conv = self.conv
        high, (_, down, right) = conv.kernel_size[1], conv.stride
        over_time, above, beside = (int(pad) for pad in conv.padding)
        height, width = x.shape[3:]
        channels = x.shape[1]
        more = -channels % CHANNEL_BLOCK if conv.groups == channels == conv.out_channels else 0
        left = -(-beside // right) * right
        after = beside + -(left + width + beside) % right
        padded = F.pad(x, (left, after, above, above))
        if more:  # not by F.pad, of which ONNX would make scatters
            padded = torch.cat((padded, padded.new_zeros(()).expand_as(padded[:, :more])), dim=1)
        weight = F.pad(conv.weight, (0, 0) * 4 + (0, more))
        bias = None if conv.bias is None else F.pad(conv.bias, (0, more))
        rows, columns = (height + 2 * above - high) // down + 1, (width - 1) // right + 1
        parts = [
            F.conv2d(
                padded[:, :, :, row : row + (rows - 1) * down + 1 : down].flatten(3),
                weight[:, :, :, row],
                None if row else bias,
                stride=(conv.stride[0], right),
                padding=(over_time, beside),
                groups=conv.groups + more,
            )
            for row in range(high)
        ]
        y: Tensor = self.activation(reduce(torch.add, parts))
        y = y.reshape(-1, y.shape[1], y.shape[2], rows, padded.shape[4] // right)
        start = left // right
        # No view: what follows may work in place, and ONNX would scatter that back into the whole.
        return y[:, : conv.out_channels, :, :, start : start + columns].clone()
