"""Names of `torchvision.models.video` (r3d_18, mc3_18, r2plus1d_18, s3d)."""

from __future__ import annotations

from dualstream.errors import WeightsError
from dualstream.models.convert.naming import Their
from dualstream.models.network import Network
from dualstream.models.zoo.resnet3d import ResNet3D
from dualstream.models.zoo.s3d import ALL_LAYERS, S3D

_STAGES = {"res2": "layer1", "res3": "layer2", "res4": "layer3", "res5": "layer4"}

_IN_STEM = {
    "conv": "0",
    "norm": "1",
    "spatial.conv": "0",
    "spatial.norm": "1",
    "temporal.conv": "3",
    "temporal.norm": "4",
}

# A (2+1)D convolution is nested there: the first norm lies between its parts, the second outside.
_IN_CONVOLUTION = {
    "conv": "0",
    "norm": "1",
    "spatial.conv": "0.0",
    "spatial.norm": "0.1",
    "temporal.conv": "0.3",
    "temporal.norm": "1",
}

# One list of all layers there, pools included.
_FEATURES = {
    "stem.conv_1a": "features.0",
    "stem.conv_2b": "features.2",
    "stem.conv_2c": "features.3",
    **{f"mixed_3.{index}": f"features.{5 + index}" for index in range(2)},
    **{f"mixed_4.{index}": f"features.{8 + index}" for index in range(5)},
    **{f"mixed_5.{index}": f"features.{14 + index}" for index in range(2)},
}

_IN_FEATURES = {
    **{f"branch_{index}": f"branch{index}" for index in range(4)},
    "narrow": "0",
    "wide": "1",
    "project": "1",
    "spatial": "0",
    "temporal": "1",
    "conv": "0",
    "norm": "1",
}


def names(model: Network) -> dict[str, Their]:
    """Our key -> theirs, for the networks of `resnet3d` and for `s3d`.

    torchvision publishes four of them; its classes make the others (`r3d_34`, `rmc3_18`,
    `r2plus1d_34`) too, under the same names.

    Raises:
        WeightsError: torchvision has no such network.
    """
    if isinstance(model, ResNet3D):
        translate, ones = _of_resnet, 0
    elif isinstance(model, S3D) and not model.gated and model.in_time == ALL_LAYERS:
        translate, ones = _of_s3d, 3
    else:
        raise WeightsError(
            f"torchvision has no layout for this {model.name}, only for the networks r3d, mc3, "
            f"rmc3 and r2plus1d and for s3d without gates and with time in all layers."
        )
    table = {}
    for key in model.state_dict():
        path, _, leaf = key.rpartition(".")
        linear = path == "classifier" and leaf == "weight"
        their = ".".join((*translate(path.split(".")), leaf))
        table[key] = Their(their, ones=ones if linear else 0)
    return table


def _of_resnet(path: list[str]) -> list[str]:
    """res3.0.first.spatial.conv -> layer2.0.conv1.0.0."""
    match path:
        case ["stem", *rest]:
            return ["stem", _IN_STEM[".".join(rest)]]
        case [stage, index, "first" | "second" as which, *rest]:
            convolution = "conv1" if which == "first" else "conv2"
            return [_STAGES[stage], index, convolution, _IN_CONVOLUTION[".".join(rest)]]
        case [stage, index, "shortcut", part]:
            return [_STAGES[stage], index, "downsample", _IN_CONVOLUTION[part]]
        case _:
            return ["fc"]


def _of_s3d(path: list[str]) -> list[str]:
    """mixed_4.2.branch_1.wide.spatial.conv -> features.10.branch1.1.0.0."""
    if path == ["classifier"]:
        return ["classifier.1"]
    return [_FEATURES[".".join(path[:2])], *(_IN_FEATURES[part] for part in path[2:])]
