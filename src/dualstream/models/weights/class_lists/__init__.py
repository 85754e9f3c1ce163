"""Names of the classes that the outputs of published weights stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from dualstream.errors import UnknownNameError

ClassList = Literal["imagenet-1k", "kinetics-400"]


def read_class_list(name: ClassList) -> tuple[str, ...]:
    """Names of the classes, in the order of the outputs.

    Kinetics-400 is the list of DeepMind's I3D release (its `label_map.txt`), in alphabetical order,
    which torchvision and pytorchvideo have too. ImageNet's names come from timm; two pairs share
    one ("crane" the bird and the machine, "maillot" twice), and the second of a pair has its
    WordNet number after it.

    Raises:
        UnknownNameError: there is no such list.
    """
    if name == "kinetics-400":
        file = Path(__file__).with_name("kinetics_400.txt")
        return tuple(file.read_text(encoding="utf-8").splitlines())
    if name == "imagenet-1k":
        return _imagenet(name)
    raise UnknownNameError("class list", name, get_args(ClassList))


def _imagenet(name: str) -> tuple[str, ...]:
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo(name)
    names: dict[str, None] = {}
    for index in range(1000):
        text = info.index_to_description(index)
        names[text if text not in names else f"{text} ({info.index_to_label_name(index)})"] = None
    return tuple(names)
