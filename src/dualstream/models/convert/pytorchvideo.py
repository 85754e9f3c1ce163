"""Names of pytorchvideo's networks."""

from __future__ import annotations

from torch import nn

from dualstream.errors import WeightsError
from dualstream.models.convert.naming import Their
from dualstream.models.convert.pytorchvideo_x3d import unit_names, x3d_names
from dualstream.models.layers.conv import ConvUnit
from dualstream.models.network import Network
from dualstream.models.zoo.resnet_video import VideoResNet
from dualstream.models.zoo.slowfast import SlowFast
from dualstream.models.zoo.x3d import X3D

_BLOCK = {
    "conv1": ("branch2.conv_a", "branch2.norm_a"),
    "conv2": ("branch2.conv_b", "branch2.norm_b"),
    "conv3": ("branch2.conv_c", "branch2.norm_c"),
    "shortcut": ("branch1_conv", "branch1_norm"),
}
"""Unit of a block of ours -> convolution and norm of theirs."""

_SPLIT_BLOCK = {
    **_BLOCK,
    "conv2_time": ("branch2.conv_b.conv_t", "branch2.conv_b.norm"),
    "conv2": ("branch2.conv_b.conv_xy", "branch2.norm_b"),
}
"""The same of R(2+1)D."""


def names(model: Network) -> dict[str, Their]:
    """Our key -> theirs, for every key of the network's state dict.

    'res2.0.conv1.conv.weight' -> 'blocks.1.res_blocks.0.branch2.conv_a.weight'

    Raises:
        WeightsError: pytorchvideo has no such network.
    """
    if isinstance(model, X3D):
        return x3d_names(model)
    if isinstance(model, VideoResNet):
        return _video_resnet(model)
    if isinstance(model, SlowFast):
        return _slowfast(model)
    raise WeightsError(f"pytorchvideo has no network {model.name}.")


def _video_resnet(model: VideoResNet) -> dict[str, Their]:
    # Their pool over time is a block of its own, without tensors.
    after_pool = 0 if isinstance(model.time_pool, nn.Identity) else 1
    table = unit_names("stem.0", "blocks.0.conv", "blocks.0.norm")
    table |= _stage(model.res2, "res2", "blocks.1")
    for number, stage in enumerate((model.res3, model.res4, model.res5), start=2):
        table |= _stage(stage, f"res{number + 1}", f"blocks.{number + after_pool}")
    return table | _classifier(f"blocks.{5 + after_pool}")


def _slowfast(model: SlowFast) -> dict[str, Their]:
    table: dict[str, Their] = {}
    for number, pathway in enumerate(("slow", "fast")):
        theirs = f"multipathway_blocks.{number}"
        table |= unit_names(
            f"stem.{pathway}.0", f"blocks.0.{theirs}.conv", f"blocks.0.{theirs}.norm"
        )
        for index in range(1, 5):
            ours = f"res{index + 1}.{pathway}"
            table |= _stage(model.get_submodule(ours), ours, f"blocks.{index}.{theirs}")
    for index, stage in enumerate(("stem", "res2", "res3", "res4")):
        fusion = f"blocks.{index}.multipathway_fusion"
        table |= unit_names(f"{stage}.lateral", f"{fusion}.conv_fast_to_slow", f"{fusion}.norm")
    return table | _classifier("blocks.6")  # blocks.5 pools


def _stage(stage: nn.Module, ours: str, theirs: str) -> dict[str, Their]:
    table: dict[str, Their] = {}
    for index, block in enumerate(stage.children()):
        units = _SPLIT_BLOCK if isinstance(block.get_submodule("conv2_time"), ConvUnit) else _BLOCK
        for unit, (conv, norm) in units.items():
            if isinstance(block.get_submodule(unit), ConvUnit):
                start = f"{theirs}.res_blocks.{index}"
                table |= unit_names(f"{ours}.{index}.{unit}", f"{start}.{conv}", f"{start}.{norm}")
    return table


def _classifier(head: str) -> dict[str, Their]:
    return {f"classifier.{part}": Their(f"{head}.proj.{part}") for part in ("weight", "bias")}
