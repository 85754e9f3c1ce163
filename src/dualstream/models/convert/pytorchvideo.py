"""Names of pytorchvideo's networks."""

from __future__ import annotations

from torch import nn

from dualstream.errors import WeightsError
from dualstream.models.convert.naming import AS_1X1X1, Their, plain_keys
from dualstream.models.network import Network
from dualstream.models.zoo.resnet_video import VideoResNet
from dualstream.models.zoo.slowfast import SlowFast
from dualstream.models.zoo.x3d import X3D

_IN_BLOCK = {
    "conv1.conv": "branch2.conv_a",
    "conv1.norm": "branch2.norm_a",
    "conv2.conv": "branch2.conv_b",
    "conv2.norm": "branch2.norm_b",
    "conv3.conv": "branch2.conv_c",
    "conv3.norm": "branch2.norm_c",
    "shortcut": "branch1_conv",
    "shortcut.conv": "branch1_conv",
    "shortcut.norm": "branch1_norm",
    # Of X3D; its squeeze-and-excitation lies inside norm_b there, after the norm.
    "widen.conv": "branch2.conv_a",
    "widen.norm": "branch2.norm_a",
    "channel_wise.conv": "branch2.conv_b",
    "channel_wise.norm": "branch2.norm_b.0",
    "gate.squeeze": "branch2.norm_b.1.block.0",
    "gate.excite": "branch2.norm_b.1.block.2",
    "narrow.conv": "branch2.conv_c",
    "narrow.norm": "branch2.norm_c",
}
"""Layer of a block of ours -> theirs."""

_IN_SPLIT_BLOCK = {
    **_IN_BLOCK,
    "conv2_time.conv": "branch2.conv_b.conv_t",
    "conv2_time.norm": "branch2.conv_b.norm",
    "conv2.conv": "branch2.conv_b.conv_xy",
}
"""The same of R(2+1)D."""

_AROUND_X3D = {  # the spatial convolution of the stem is called conv_t there
    "stem.space": "blocks.0.conv.conv_t",
    "stem.time.conv": "blocks.0.conv.conv_xy",
    "stem.time.norm": "blocks.0.norm",
    "embedding.conv5.conv": "blocks.5.pool.pre_conv",
    "embedding.conv5.norm": "blocks.5.pool.pre_norm",
    "embedding.lin5": "blocks.5.pool.post_conv",
}

_1X1X1 = ("gate.squeeze.weight", "gate.excite.weight", "embedding.lin5.weight")
"""Linear layers of ours that are convolutions there."""


def names(model: Network) -> dict[str, Their]:
    """Our key -> theirs, for every key of the network's state dict.

    'res2.0.conv1.conv.weight' -> 'blocks.1.res_blocks.0.branch2.conv_a.weight'

    Raises:
        WeightsError: pytorchvideo has no such network.
    """
    if not isinstance(model, VideoResNet | SlowFast | X3D):
        raise WeightsError(f"pytorchvideo has no network {model.name}.")
    keys = plain_keys(model)
    layers = _IN_SPLIT_BLOCK if any(".conv2_time." in key for key in keys) else _IN_BLOCK
    # Their pool over time is a block of its own, without tensors; so is SlowFast's last pool.
    pools_time = isinstance(model, VideoResNet) and not isinstance(model.time_pool, nn.Identity)
    head = 6 if pools_time or isinstance(model, SlowFast) else 5

    def place(path: str) -> str:
        """Their layer for one of ours."""
        if path in _AROUND_X3D:
            return _AROUND_X3D[path]
        if path == "classifier":
            return f"blocks.{head}.proj"
        stage, *inside = path.split(".")
        number = 0 if stage == "stem" else int(stage.removeprefix("res")) - 1
        start = f"blocks.{number + (pools_time and number > 1)}"
        match inside:
            case ["lateral", part]:
                name = "conv_fast_to_slow" if part == "conv" else part
                return f"{start}.multipathway_fusion.{name}"
            case ["slow" | "fast" as pathway, *inside]:
                start += f".multipathway_blocks.{('slow', 'fast').index(pathway)}"
        index, *layer = inside
        if stage == "stem":
            return f"{start}.{layer[0]}"
        return f"{start}.res_blocks.{index}.{layers['.'.join(layer)]}"

    table = {}
    for key in keys:
        path, _, tensor = key.rpartition(".")
        table[key] = Their(f"{place(path)}.{tensor}", AS_1X1X1 if key.endswith(_1X1X1) else None)
    return table
