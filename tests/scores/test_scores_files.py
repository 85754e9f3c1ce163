"""Score files: our own, MMAction2's pickles and TSN's npz, and files that want to do harm."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualstream.errors import DiskError, InputError, ScoresError
from dualstream.scores import fuse, read_scores, write_scores
from dualstream.types import Scores

PROBABILITIES = np.array([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]], np.float32)
LABELS = [1, 0]


def sample_scores() -> Scores:
    return Scores(
        ("wave/a b.mp4", "브러시/ü.avi"),
        np.array([1, -1], np.int64),
        np.array([[1.5, -2.0, 3.25], [0.1, 0.2, 0.3]], np.float32),
        ("wave", "brush <hair>", "café"),
        "logits",
    )


class Harm:
    """Makes a file when it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


# ---- ours


def test_our_files_come_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "new" / "scores.npz"
    scores = sample_scores()
    write_scores(path, scores)
    again = read_scores(path, classes=scores.classes)
    assert (again.names, again.classes, again.kind) == (scores.names, scores.classes, "logits")
    np.testing.assert_array_equal(again.scores, scores.scores)
    np.testing.assert_array_equal(again.labels, scores.labels)
    assert [item.name for item in path.parent.iterdir()] == ["scores.npz"]


def test_our_files_hold_no_objects(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.npz", sample_scores())
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as content:
        assert set(content) == {"names", "labels", "scores", "classes", "kind"}
        assert content["scores"].dtype == np.float32
        assert str(content["kind"]) == "logits"


def test_no_videos_come_back_too(tmp_path: Path) -> None:
    empty = Scores((), np.zeros(0, np.int64), np.zeros((0, 2), np.float32), ("a", "b"), "logits")
    write_scores(tmp_path / "scores.npz", empty)
    assert read_scores(tmp_path / "scores.npz").names == ()


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scores.npz"
    write_scores(path, sample_scores())
    before = path.read_bytes()

    def full_disk(*_args: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(DiskError, match=r"scores\.npz: cannot be written \(No space left"):
        write_scores(path, sample_scores())
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["scores.npz"]


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.npz"):
        write_scores(tmp_path / "scores.pkl", sample_scores())


def test_other_classes_and_given_names_are_refused(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.npz", sample_scores())
    with pytest.raises(ScoresError, match="another data set"):
        read_scores(tmp_path / "scores.npz", classes=["wave", "brush"])
    with pytest.raises(ScoresError, match="its own video names"):
        read_scores(tmp_path / "scores.npz", names=["a", "b"])


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.npz"
    with pytest.raises(ScoresError, match=r"scores\.npz: no such"):
        read_scores(path)
    with pytest.raises(ScoresError, match="is a folder"):
        read_scores(tmp_path)
    for content in (b"", b"not a zip file at all"):
        path.write_bytes(content)
        with pytest.raises(ScoresError, match=r"scores\.npz: is not a readable"):
            read_scores(path)
    np.savez(path, features=np.zeros(3))
    with pytest.raises(ScoresError, match="holds features; a score file holds names"):
        read_scores(path)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_a_cut_file_is_named(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "scores.npz"
    write_scores(path, sample_scores())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(ScoresError, match=r"scores\.npz: is not a readable"):
        read_scores(path)


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "scores.npz"
    write_scores(path, sample_scores())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("scores.npy").header_offset + 60
    content = bytearray(path.read_bytes())
    content[start] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(ScoresError, match=r"scores\.npz"):
        read_scores(path)


def test_values_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.npz"
    good = {
        "names": np.array(["a"]),
        "labels": np.array([0]),
        "scores": np.zeros((1, 2), np.float32),
        "classes": np.array(["x", "y"]),
        "kind": np.array("logits"),
    }
    for key, value in (
        ("kind", np.array("percent")),
        ("labels", np.array([2])),
        ("scores", np.full((1, 2), np.nan)),
        ("names", np.array(["a", "b"])),
    ):
        np.savez(path, **{**good, key: value})
        with pytest.raises(ScoresError, match=r"scores\.npz"):
            read_scores(path)


# ---- MMAction2


def write_pickle(path: Path, content: object, protocol: int | None = None) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_mmaction2_with_numpy_arrays(tmp_path: Path, protocol: int) -> None:
    items = [
        {"pred_score": row, "gt_label": np.array([label]), "pred_label": np.int64(1)}
        for row, label in zip(PROBABILITIES, LABELS, strict=True)
    ]
    scores = read_scores(write_pickle(tmp_path / "dump.pkl", items, protocol), classes="abc")
    np.testing.assert_array_equal(scores.scores, PROBABILITIES)
    assert scores.labels.tolist() == LABELS
    assert scores.names == ("#00000", "#00001")
    assert (scores.classes, scores.kind) == (("a", "b", "c"), "probabilities")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_mmaction2_with_torch_tensors(tmp_path: Path, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    table = torch.tensor(PROBABILITIES * 40 - 10).to(getattr(torch, dtype))
    items = [
        {"pred_score": row, "gt_label": torch.tensor([label]), "img_shape": (224, 224)}
        for row, label in zip(table, LABELS, strict=True)
    ]
    # Rows share one storage, the second with an offset: each must come back as its own row.
    scores = read_scores(write_pickle(tmp_path / "dump.pkl", items))
    np.testing.assert_array_equal(scores.scores, table.float().numpy())
    assert scores.labels.tolist() == LABELS
    assert (scores.classes, scores.kind) == (("0", "1", "2"), "logits")


def test_mmaction2_names_from_the_file_or_the_caller(tmp_path: Path) -> None:
    items = [
        {"pred_score": row, "gt_label": 0, "filename": f"{name}.mp4"}
        for row, name in zip(PROBABILITIES, "xy", strict=True)
    ]
    path = write_pickle(tmp_path / "dump.pickle", items)
    assert read_scores(path).names == ("x.mp4", "y.mp4")
    assert read_scores(path, names=["p", "q"]).names == ("p", "q")


def test_two_foreign_files_of_one_list_can_be_joined(tmp_path: Path) -> None:
    items = [{"pred_score": row, "gt_label": 0} for row in PROBABILITIES]
    rgb = read_scores(write_pickle(tmp_path / "rgb.pkl", items))
    flow = read_scores(write_pickle(tmp_path / "flow.pkl", items))
    np.testing.assert_allclose(fuse([rgb, flow]).scores, PROBABILITIES, rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "not a list of dicts"),
        ([], "no video at all"),
        ([{"pred_score": np.zeros(3)}], "item 0 has no pred_score or no gt_label but pred_score"),
        ([{"pred_score": np.zeros((2, 3)), "gt_label": 0}], "one row of scores"),
        ([{"pred_score": np.zeros(k), "gt_label": 0} for k in (2, 3)], "same length"),
        ([{"pred_score": np.zeros(3), "gt_label": np.array([0, 1])}], "one whole number"),
        ([{"pred_score": np.zeros(3), "gt_label": 5}], "Labels must lie"),
        ([{"pred_score": ["x"], "gt_label": 0}], "not numbers"),
        ([{"pred_score": np.array([np.nan]), "gt_label": 0}], "NaN"),
    ],
)
def test_mmaction2_files_that_make_no_sense(tmp_path: Path, content: object, message: str) -> None:
    path = write_pickle(tmp_path / "dump.pkl", content)
    with pytest.raises(ScoresError, match=message) as caught:
        read_scores(path)
    assert str(path) in str(caught.value)


def test_numbers_of_classes_and_names_must_fit(tmp_path: Path) -> None:
    items = [{"pred_score": row, "gt_label": 0} for row in PROBABILITIES]
    path = write_pickle(tmp_path / "dump.pkl", items)
    with pytest.raises(ScoresError, match="scores of 3 classes, 2 names"):
        read_scores(path, classes=["a", "b"])
    with pytest.raises(ScoresError, match="scores of 2 videos, 1 names"):
        read_scores(path, names=["a"])


# ---- TSN


def tsn_pairs(labels: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Two videos of 4 views with 2 crops each, as `np.savez(scores=list_of_pairs)` keeps them."""
    rng = np.random.default_rng(0)
    views = rng.normal(size=(2, 4, 2, 3)).astype(np.float32)
    pairs = np.empty((2, 2), object)
    for row, label in enumerate(labels):
        pairs[row, 0], pairs[row, 1] = views[row], label
    return views, pairs


def test_tsn_npz_averages_the_views(tmp_path: Path) -> None:
    views, pairs = tsn_pairs(LABELS)
    np.savez(tmp_path / "rgb.npz", scores=pairs, labels=np.array(LABELS))
    scores = read_scores(tmp_path / "rgb.npz", classes="abc", names=["x", "y"])
    np.testing.assert_allclose(scores.scores, views.mean(axis=(1, 2)), rtol=1e-5)
    assert (scores.labels.tolist(), scores.names, scores.kind) == (LABELS, ("x", "y"), "logits")


def test_tsn_npz_with_tensors_as_labels(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(label) for label in LABELS]
    views, pairs = tsn_pairs(tensors)
    boxed = np.empty(2, object)
    boxed[:] = tensors
    np.savez(tmp_path / "rgb.npz", scores=pairs, labels=boxed)
    scores = read_scores(tmp_path / "rgb.npz")
    np.testing.assert_allclose(scores.scores, views.mean(axis=(1, 2)), rtol=1e-5)
    assert scores.labels.tolist() == LABELS


def test_tsn_npz_of_plain_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "rgb.npz", scores=PROBABILITIES[:, None, :], labels=np.array(LABELS))
    scores = read_scores(tmp_path / "rgb.npz")
    np.testing.assert_array_equal(scores.scores, PROBABILITIES)
    assert scores.kind == "probabilities"


# ---- files that want to do harm


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    made = tmp_path / "made_by_the_pickle"
    items = [{"pred_score": Harm(made), "gt_label": 0}]
    path = write_pickle(tmp_path / "dump.pkl", items, protocol)
    with pytest.raises(ScoresError, match="mkdir, which arrays do not need"):
        read_scores(path)
    assert not made.exists()
    pickle.loads(path.read_bytes())  # the harm is real: an ordinary reader does run it
    assert made.exists()


def test_a_malicious_object_array_runs_nothing(tmp_path: Path) -> None:
    made = tmp_path / "made_by_the_array"
    evil = np.empty((1, 2), object)
    evil[0, 0], evil[0, 1] = Harm(made), 0
    np.savez(tmp_path / "rgb.npz", scores=evil, labels=np.array([0]))
    with pytest.raises(ScoresError, match="mkdir"):
        read_scores(tmp_path / "rgb.npz")
    named = {"names": evil, "labels": np.array([0]), "scores": np.zeros((1, 2))}
    np.savez(tmp_path / "ours.npz", classes=np.array(["a", "b"]), kind=np.array("logits"), **named)
    with pytest.raises(ScoresError, match="mkdir"):
        read_scores(tmp_path / "ours.npz")
    assert not made.exists()


def test_a_pickle_inside_a_tensor_runs_nothing(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    made = tmp_path / "made_by_the_storage"
    inner = io.BytesIO()
    torch.save(Harm(made), inner, _use_new_zipfile_serialization=False)

    class Storage:
        def __reduce__(self) -> tuple[Any, ...]:
            return (torch.storage._load_from_bytes, (inner.getvalue(),))

    path = write_pickle(tmp_path / "dump.pkl", [{"pred_score": Storage(), "gt_label": 0}])
    with pytest.raises(ScoresError, match=r"dump\.pkl"):
        read_scores(path)
    assert not made.exists()


def rebuilt_by(function: Any, *arguments: Any) -> bytes:
    class Call:
        def __reduce__(self) -> tuple[Any, ...]:
            return (function, arguments)

    return pickle.dumps(Call())


def test_builders_are_called_only_as_numpy_and_torch_do(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    reconstruct = np.zeros(0).__reduce__()[0]
    scalar = np.float32(0).__reduce__()[0]
    storage = torch.storage.TypedStorage(  # as in every pickled tensor; without its warning
        wrap_storage=torch.zeros(4).untyped_storage(), dtype=torch.float32, _internal=True
    )
    rebuild = torch._utils._rebuild_tensor_v2
    for content, message in (
        (rebuilt_by(reconstruct, np.ndarray, (10**12,), b"b"), "another way"),
        (rebuilt_by(scalar, np.dtype("O"), b"cos\nmkdir\n"), "object in a numpy scalar"),
        (rebuilt_by(rebuild, storage, 2, (4,), (1,), False, {}), "beyond its storage"),
        (rebuilt_by(rebuild, storage, -1, (2,), (1,), False, {}), "beyond its storage"),
        (rebuilt_by(rebuild, [1, 2], 0, (2,), (1,), False, {}), "no storage"),
        (b"c_codecs\nencode\n(Vabc\nVzlib\ntR.", "codec 'zlib'"),
        (b"cbuiltins\neval\n(V1\ntR.", r"builtins\.eval"),
        (b"cnumpy\nload\n(Va\ntR.", r"numpy\.load"),
        (b"\x80\x04N", "dump"),
    ):
        (tmp_path / "dump.pkl").write_bytes(content)
        with pytest.raises(ScoresError, match=message):
            read_scores(tmp_path / "dump.pkl")


def test_reading_numpy_scores_does_not_import_torch(tmp_path: Path) -> None:
    items = [{"pred_score": row, "gt_label": 0} for row in PROBABILITIES]
    path = write_pickle(tmp_path / "dump.pkl", items)
    code = (
        "import sys; from dualstream.scores import fuse, read_scores; "
        f"fuse([read_scores({str(path)!r})] * 2); "
        "heavy = {'torch', 'sklearn', 'matplotlib', 'scipy'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_array_whose_head_is_no_python(tmp_path: Path) -> None:
    """numpy reads the head of an array with Python's tokenizer, whose errors are its own."""
    np.savez(tmp_path / "a.npz", scores=np.eye(3))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        content = archive.read("scores.npy")
    broken = tmp_path / "broken.npz"
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("scores.npy", content.replace(b"{'descr'", b"{((((((("))
    with pytest.raises(ScoresError, match=r"broken\.npz: is not a readable \.npz file"):
        read_scores(broken)
