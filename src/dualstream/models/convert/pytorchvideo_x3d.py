"""Names of the tensors of an X3D in pytorchvideo's `create_x3d`."""

from __future__ import annotations

from torch import nn

from dualstream.models.convert.naming import Their
from dualstream.models.layers.conv import ConvUnit
from dualstream.models.zoo.x3d import X3D, Block, SqueezeExcitation

_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

Table = dict[str, Their]
"""Our key -> theirs."""


def x3d_names(model: X3D) -> Table:
    """Every key of the model's state dict -> its place in pytorchvideo's.

    Their stem calls the spatial convolution `conv_t` and the temporal one `conv_xy`; their
    squeeze-and-excitation lies inside `norm_b`, after the norm.

    Args:
        model: without non-local blocks, which `create_x3d` does not have.
    """
    table: Table = {"stem.space.weight": Their("blocks.0.conv.conv_t.weight")}
    table |= unit_names("stem.time", conv="blocks.0.conv.conv_xy", norm="blocks.0.norm")
    for number, stage in enumerate((model.res2, model.res3, model.res4, model.res5), start=1):
        for index, block in enumerate(stage):
            assert isinstance(block, Block)
            table |= _block(
                f"res{number + 1}.{index}", f"blocks.{number}.res_blocks.{index}", block
            )
    head = "blocks.5"
    table |= unit_names(
        "embedding.conv5", conv=f"{head}.pool.pre_conv", norm=f"{head}.pool.pre_norm"
    )
    table["embedding.lin5.weight"] = Their(f"{head}.pool.post_conv.weight", ones=3)
    table["classifier.weight"] = Their(f"{head}.proj.weight")
    table["classifier.bias"] = Their(f"{head}.proj.bias")
    return table


def _block(ours: str, theirs: str, block: Block) -> Table:
    branch = f"{theirs}.branch2"
    table = unit_names(f"{ours}.widen", conv=f"{branch}.conv_a", norm=f"{branch}.norm_a")
    table |= unit_names(f"{ours}.channel_wise", conv=f"{branch}.conv_b", norm=f"{branch}.norm_b.0")
    table |= unit_names(f"{ours}.narrow", conv=f"{branch}.conv_c", norm=f"{branch}.norm_c")
    if isinstance(block.gate, SqueezeExcitation):
        for layer, place in (("squeeze", 0), ("excite", 2)):
            key = f"{branch}.norm_b.1.block.{place}"
            table[f"{ours}.gate.{layer}.weight"] = Their(f"{key}.weight", ones=3)
            table[f"{ours}.gate.{layer}.bias"] = Their(f"{key}.bias")
    if isinstance(block.shortcut, ConvUnit):
        table |= unit_names(
            f"{ours}.shortcut", conv=f"{theirs}.branch1_conv", norm=f"{theirs}.branch1_norm"
        )
    elif isinstance(block.shortcut, nn.Conv3d):
        table[f"{ours}.shortcut.weight"] = Their(f"{theirs}.branch1_conv.weight")
    return table


def unit_names(ours: str, conv: str, norm: str) -> Table:
    """The keys of a `ConvUnit`."""
    table = {f"{ours}.conv.weight": Their(f"{conv}.weight")}
    return table | {f"{ours}.norm.{name}": Their(f"{norm}.{name}") for name in _NORM}
