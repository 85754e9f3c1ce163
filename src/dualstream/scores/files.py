"""Score files: this package's `.npz`, MMAction2's dumped pickles and TSN's `.npz`.

    ours        .npz with names (N,), labels (N,), scores (N, K), classes (K,), kind (); no objects;
                where a video may have several classes truth (N, K) too
    MMAction2   .pkl of `test.py --dump`: a list of dicts with `pred_score` (K,) and `gt_label`
    TSN         .npz of `--save_scores`: object array `scores` (N, 2) of pairs (array of the views'
                scores (..., K), label), and `labels` (N,)

(Read off github.com/open-mmlab/mmaction2 tools/analysis_tools/report_accuracy.py,
github.com/yjxiong/tsn-pytorch test_models.py and
github.com/yjxiong/temporal-segment-networks tools/eval_net.py.)
"""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, ScoresError
from dualstream.files import replacing
from dualstream.types import ScoreKind, Scores
from dualstream.unpickle import ARRAYS, PICKLE_ERRORS, Safe, read_pickle

OUR_MEMBERS = ("names", "labels", "scores", "classes", "kind")
NAME_KEYS = ("filename", "frame_dir", "video_id")
"""Keys of MMAction2's dicts that may hold the video's name; usually there is none."""


def write_scores(path: str | os.PathLike[str], scores: Scores) -> None:
    """Write scores as `.npz`; the file appears whole or not at all.

    Raises:
        InputError: the name does not end in .npz.
        DiskError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix != ".npz":
        raise InputError(f"{target}: scores are written as .npz; give a name that ends in it.")
    truth: dict[str, Any] = {} if scores.truth is None else {"truth": scores.truth}
    with replacing(target) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            names=np.array(scores.names, dtype=np.str_),
            labels=scores.labels,
            scores=scores.scores,
            classes=np.array(scores.classes, dtype=np.str_),
            kind=np.array(scores.kind),
            **truth,
        )


def read_scores(
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> Scores:
    """Read a score file of this package, of MMAction2 or of TSN.

    Nothing in a file is ever executed: see `unpickle`.

    Args:
        path: `.npz`, or `.pkl` / `.pickle`.
        classes: K class names. Foreign files hold none: without this they are called
            "0", "1", ... Of one of our files, they must be equal to the file's.
        names: N video names in the order of the file, for foreign files, which rarely hold
            them: without this videos are called "#00000", "#00001", ..., so that two foreign
            files of the same list can be joined. (TSN's PyTorch code saves in sorted order.)

    Returns:
        Scores. Foreign ones are of kind "probabilities" if every row is between 0 and 1 and
        sums to 1, else "logits"; views of TSN are averaged.

    Raises:
        ScoresError: the file is missing, broken, of another kind, or does not fit `classes` or
            `names`.
    """
    source = Path(path)
    try:
        with source.open("rb") as file:
            if source.suffix in (".pkl", ".pickle"):
                foreign = _of_mmaction2(_load_arrays(file, source), source)
            else:
                arrays = _read_npz(file, source)
                if arrays.keys() >= set(OUR_MEMBERS):
                    return _ours(arrays, source, classes, names)
                foreign = _of_tsn(arrays, source)
    except FileNotFoundError as error:
        raise ScoresError(f"{source}: no such score file.") from error
    except IsADirectoryError as error:
        raise ScoresError(f"{source}: is a folder, not a score file.") from error
    except PermissionError as error:
        raise ScoresError(f"{source}: may not be read ({error.strerror}).") from error
    rows, labels, own_names = foreign
    shapes = {row.shape for row in rows}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise ScoresError(
            f"{source}: each video needs one row of scores of the same length, got "
            f"{sorted(shapes)[:3] or 'no video at all'}."
        )
    table = np.stack(rows)
    n, k = table.shape
    classes = [str(i) for i in range(k)] if classes is None else classes
    names = names or own_names or [f"#{i:05d}" for i in range(n)]
    for what, given, count in (("classes", classes, k), ("videos", names, n)):
        if len(given) != count:
            raise ScoresError(
                f"{source}: has scores of {count} {what}, {len(given)} names were given."
            )
    in_range = bool((table >= -1e-6).all())
    sums_to_one = bool((np.abs(table.sum(axis=1) - 1) < 1e-3).all())
    kind: ScoreKind = "probabilities" if in_range and sums_to_one else "logits"
    return _checked(source, names, np.array(labels), table, classes, kind)


def _read_npz(file: IO[bytes], source: Path) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            return {Path(name).stem: _read_member(archive, name, source) for name in names}
    except ScoresError:
        raise
    except Exception as error:  # of zipfile, zlib, numpy: even of Python's own tokenizer
        raise ScoresError(
            f"{source}: is not a readable .npz file ({error}). It may be cut off; write it again."
        ) from error


def _read_member(archive: zipfile.ZipFile, name: str, source: Path) -> NDArray[Any]:
    """Read one array of the archive; object arrays through the allow-list, not numpy's pickle."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        if dtype.hasobject:
            value = _load_arrays(file, source)
            return np.asarray(value, object).reshape(shape, order="F" if fortran else "C")
        file.seek(0)
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        return array


def _ours(
    arrays: dict[str, NDArray[Any]],
    source: Path,
    classes: Sequence[str] | None,
    names: Sequence[str] | None,
) -> Scores:
    if names is not None:
        raise ScoresError(f"{source}: holds its own video names; `names` is for foreign files.")
    own_names, labels, scores, own_classes, kind = (arrays[name] for name in OUR_MEMBERS)
    if classes is not None and list(classes) != [str(name) for name in own_classes]:
        raise ScoresError(
            f"{source}: is about {len(own_classes)} classes that differ from the "
            f"{len(classes)} given; it belongs to another data set."
        )
    truth = arrays.get("truth")
    return _checked(source, own_names, labels, scores, own_classes, str(kind), truth)


def _checked(
    source: Path,
    names: Any,
    labels: NDArray[Any],
    scores: NDArray[Any],
    classes: Any,
    kind: Any,
    truth: NDArray[Any] | None = None,
) -> Scores:
    try:
        return Scores(
            tuple(map(str, names)),
            labels.astype(np.int64),
            scores.astype(np.float32),
            tuple(map(str, classes)),
            kind,
            truth,
        )
    except InputError as error:
        raise ScoresError(f"{source}: {error}") from error


Foreign = tuple[list[NDArray[np.float64]], list[int], list[str] | None]
"""Scores (K,) and label of each video, and the names where the file holds them."""


def _of_tsn(arrays: dict[str, NDArray[Any]], source: Path) -> Foreign:
    if not arrays.keys() >= {"scores", "labels"}:
        raise ScoresError(
            f"{source}: holds {', '.join(sorted(arrays)) or 'nothing'}; a score file holds "
            f"{', '.join(OUR_MEMBERS)}, or as TSN writes it scores and labels."
        )
    rows, scores = [], arrays["scores"]
    for item in scores:
        paired = scores.dtype.hasobject and scores.ndim == 2 and scores.shape[1] == 2
        views = _to_array(item[0] if paired else item, source)
        rows.append(views.reshape(-1, views.shape[-1]).mean(axis=0) if views.ndim else views)
    return rows, [_to_label(label, source) for label in arrays["labels"].ravel()], None


def _of_mmaction2(content: Any, source: Path) -> Foreign:
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise ScoresError(f"{source}: is not a list of dicts, as MMAction2's `--dump` writes it.")
    rows, labels = [], []
    for number, item in enumerate(content):
        if "pred_score" not in item or "gt_label" not in item:
            raise ScoresError(
                f"{source}: item {number} has no pred_score or no gt_label but "
                f"{', '.join(sorted(map(str, item))) or 'nothing'}."
            )
        rows.append(_to_array(item["pred_score"], source))
        labels.append(_to_label(item["gt_label"], source))
    for key in NAME_KEYS:
        if all(isinstance(item.get(key), str) for item in content):
            return rows, labels, [item[key] for item in content]
    return rows, labels, None


def _to_array(value: Any, source: Path) -> NDArray[np.float64]:
    """Return the numbers of a numpy array, a torch tensor or a list as float64."""
    tensor_to_float = getattr(value, "float", None)
    if tensor_to_float is not None:
        value = tensor_to_float().numpy()  # numpy has no bfloat16
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise ScoresError(f"{source}: scores of a video are not numbers ({error}).") from error


def _to_label(value: Any, source: Path) -> int:
    """Return the whole number of an int, or of an array or tensor of one element."""
    numbers = _to_array(value, source).ravel()
    if numbers.size != 1 or numbers[0] != round(numbers[0]):
        raise ScoresError(
            f"{source}: a video has the label {numbers.tolist()}; one whole number is needed "
            f"(scores of several labels a video cannot be read)."
        )
    return int(numbers[0])


def _load_arrays(file: IO[bytes], source: Path) -> Any:
    """Read one pickle that holds plain values, numpy arrays and torch tensors only."""
    names = {
        **ARRAYS,
        ("torch._utils", "_rebuild_tensor_v2"): Safe(_rebuild_tensor),
        ("torch.storage", "_load_from_bytes"): Safe(_load_storage),
    }
    try:
        return read_pickle(file.read(), names)
    except PICKLE_ERRORS as error:
        raise ScoresError(f"{source}: not a readable pickle of scores ({error}).") from error


def _load_storage(data: bytes) -> Any:
    """The numbers of a tensor, which torch stores as a file within the pickle."""
    import torch

    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _rebuild_tensor(
    storage: Any,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool,
    backward_hooks: OrderedDict[str, Any],
    metadata: Any = None,
) -> Any:
    """A tensor over a storage; refuses sizes that reach beyond it. Hooks are dropped."""
    import torch

    if not isinstance(storage, torch.storage.TypedStorage):
        raise pickle.UnpicklingError("it builds a tensor from something that is no storage")
    typed: Any = storage  # its public untyped() warns that its class will go
    whole = torch.empty(0, dtype=typed.dtype).set_(typed._untyped_storage)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((*size, *stride, offset), default=0) < 0 or (0 not in size and last >= len(whole)):
        raise pickle.UnpicklingError("it builds a tensor that reaches beyond its storage")
    return torch.as_strided(whole, size, stride, offset).clone()
