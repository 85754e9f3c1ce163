"""Names of `torchvision.models.video` (r3d_18, mc3_18, r2plus1d_18, s3d)."""

from __future__ import annotations

from dualstream.errors import WeightsError
from dualstream.models.convert.naming import AS_1X1X1, Their, plain_keys, renamed
from dualstream.models.network import Network
from dualstream.models.zoo.resnet3d import ResNet3D
from dualstream.models.zoo.s3d import ALL_LAYERS, S3D

_RESNET = (
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

_S3D = (
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


def names(model: Network) -> dict[str, Their]:
    """Our key -> theirs, for the networks of `resnet3d` and for `s3d`.

    torchvision publishes four of them; its classes make the others (`r3d_34`, `rmc3_18`,
    `r2plus1d_34`) too, under the same names.

    Raises:
        WeightsError: torchvision has no such network.
    """
    if isinstance(model, ResNet3D):
        pairs, of_classifier = _RESNET, None
    elif isinstance(model, S3D) and not model.gated and model.in_time == ALL_LAYERS:
        pairs, of_classifier = _S3D, AS_1X1X1
    else:
        raise WeightsError(
            f"torchvision has no layout for this {model.name}, only for the networks r3d, mc3, "
            f"rmc3 and r2plus1d and for s3d without gates and with time in all layers."
        )
    return {
        key: Their(renamed(key, pairs), of_classifier if key == "classifier.weight" else None)
        for key in plain_keys(model)
    }
