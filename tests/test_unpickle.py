"""Pickles: arrays come out, nothing else happens."""

from __future__ import annotations

import io
import pickle
import pickletools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from dualstream.errors import WeightsError
from dualstream.models.weights.loading import read_pickled_arrays
from dualstream.unpickle import ARRAYS, read_pickle


class Calling:
    """Pickles as a call of `function(*arguments)` when it is read."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@settings(max_examples=40)
@given(
    value=arrays(
        st.sampled_from([">f4", "<f8", "<f2", "u1", "<i8", "?"]),
        array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    protocol=st.integers(0, 5),
)
def test_arrays_come_out_as_they_went_in(value: np.ndarray, protocol: int) -> None:
    tree = {"params": {"a/~/c": {"w": value}, "b": value.T}, "more": value}  # as Haiku's names
    found = read_pickled_arrays(pickle.dumps(tree, protocol=protocol), source="f")
    assert list(found) == ["params/a/~/c/w", "params/b", "more"]
    for key, expected in (("params/a/~/c/w", value), ("params/b", value.T)):
        np.testing.assert_array_equal(found[key].numpy(), expected)
        assert found[key].numpy().dtype == expected.dtype.newbyteorder("=")


def test_both_names_of_numpys_function_are_known() -> None:
    content = pickle.dumps({"a": np.arange(3.0)}, protocol=4)
    old, new = b"\x8c\x15numpy.core.multiarray", b"\x8c\x16numpy._core.multiarray"
    names = [arg for op, arg, _ in pickletools.genops(content) if op.name == "SHORT_BINUNICODE"]
    assert {"numpy._core.multiarray", "numpy.core.multiarray"} & set(names)
    for one, other in ((old, new), (new, old)):
        changed = content.replace(one, other)
        # The frame's length stands in front of it.
        length = int.from_bytes(content[3:11], "little") + len(changed) - len(content)
        changed = changed[:3] + length.to_bytes(8, "little") + changed[11:]
        assert read_pickled_arrays(changed, source="f")["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "name", ["open", "system", "popen", "eval", "import", "getattr", "subclass", "memoryview"]
)
def test_nothing_is_executed(name: str, protocol: int, tmp_path: Path) -> None:
    import os

    mark = tmp_path / "executed"
    call = {
        "open": Calling(open, str(mark), "w"),
        "system": Calling(os.system, f"touch {mark}"),
        "popen": Calling(subprocess.Popen, ["touch", str(mark)]),
        "eval": Calling(eval, f"open({str(mark)!r}, 'w')"),
        "import": Calling(__import__, "this"),
        "getattr": Calling(getattr, np.ndarray, "tofile"),
        "subclass": Calling(np.matrix, [[1.0]]),
        "memoryview": Calling(np.memmap, str(mark), "u1", "w+", 0, (4,)),
    }[name]
    content = pickle.dumps({"params": {"w": np.zeros(2), "x": call}}, protocol=protocol)
    with pytest.raises(WeightsError, match=r"it names .*nothing was executed"):
        read_pickled_arrays(content, source="f")
    assert not mark.exists()


def test_the_test_would_see_an_execution(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    pickle.load(io.BytesIO(pickle.dumps(Calling(Path.touch, mark))))
    assert mark.exists()


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (np.array([{}, None], dtype=object), "at its top"),
        (np.array(["text"]), "at its top"),
        (np.zeros(2, dtype=[("a", "<f4")]), "a type that is none of numbers or text"),
        (np.zeros(2, dtype="M8[s]"), "a type that is none of numbers or text"),
        ([1, 2], "at its top"),
        ({"a": {"b": "text"}}, "at a/b it holds neither"),
        ({"a": 1}, "at a"),
        ({"a": bytearray(3)}, "names builtins.bytearray"),
    ],
)
def test_what_is_no_number_is_refused(tree: object, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        read_pickled_arrays(pickle.dumps(tree, protocol=4), source="file.ckpt")


@pytest.mark.slow
def test_no_single_damaged_byte_ends_the_process() -> None:
    # f8 -> M8 at one byte: numpy's own dtype.__setstate__ then reads metadata that is not there.
    arrays = {"a": {"b": np.arange(6.0).reshape(2, 3)}, "c": np.array(["x"])}
    program = f"""
import pickle, string
from dualstream.unpickle import ARRAYS, PICKLE_ERRORS, read_pickle
content, read = {pickle.dumps(arrays, protocol=4)!r}, 0
for place in range(len(content)):
    for byte in string.printable.encode():
        try:
            read_pickle(content[:place] + bytes([byte]) + content[place + 1 :], ARRAYS)
        except PICKLE_ERRORS:
            continue
        read += 1
print(len(content), read)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    size, read = map(int, ended.stdout.split())
    assert 6 * 8 * 100 < read < 100 * size  # any byte of the numbers is one, not all others are


def test_a_dict_that_contains_itself_ends() -> None:
    tree: dict[str, object] = {}
    tree["again"] = tree
    with pytest.raises(WeightsError, match="more numbers than it holds"):
        read_pickled_arrays(pickle.dumps(tree, protocol=4), source="f")


def test_a_shape_that_its_values_do_not_fill_is_refused() -> None:
    with pytest.raises(WeightsError, match="is not read"):
        read_pickled_arrays(with_shape(b"K\x02K\x09\x86"), source="f")


def nested_pairs(depth: int) -> bytes:
    """Program that leaves a tuple of 2^depth empty tuples, made of shared ones."""
    nested: object = ()
    for _ in range(depth):
        nested = (nested, nested)
    return pickle.dumps(nested, protocol=4)[11:-1]


@pytest.mark.parametrize("between", [b"", b"\x95" + bytes(8), b"\x80\x04"])
def test_a_tuple_that_holds_itself_over_and_over_takes_no_time(between: bytes) -> None:
    # A hash or a comparison would go through 2^40 tuples, and a thing of ten MB on the stack.
    program = nested_pairs(40).replace(b"\x86\x94", b"\x86" + between + b"\x94")
    for as_key in (b"}" + program + b"K\x01s.", b"}\x8c\x01a" + program + b"s."):
        with pytest.raises(WeightsError, match="too deep or too often"):
            read_pickled_arrays(b"\x80\x04" + as_key, source="f")


@pytest.mark.parametrize("use", [b"K\x01s.", b"\x85R.", b"}b."])
def test_deeply_nested_tuples_end_in_the_error(use: bytes) -> None:
    with pytest.raises(WeightsError):
        read_pickled_arrays(b"\x80\x04})" + 1_000_000 * b"\x85" + use, source="f")


def test_deeply_nested_dicts_end_in_the_error() -> None:
    content = b"\x80\x04}" + 100_000 * b"\x8c\x01a}" + 100_000 * b"s" + b"."
    with pytest.raises(WeightsError, match="too deep or too often"):
        read_pickled_arrays(content, source="f")


def with_shape(shape: bytes) -> bytes:
    """Of an array of 6 bytes, the program of whose shape is replaced."""
    content = pickle.dumps({"a": np.zeros((2, 3), np.uint8)}, protocol=3)
    assert content.count(b"K\x02K\x03\x86") == 1
    return content.replace(b"K\x02K\x03\x86", shape)


@pytest.mark.parametrize(
    "shape",
    [
        b"(" + 200 * (b"\x8a\xff" + 254 * b"\xff" + b"\x7f") + b"t",  # 2^2039 - 1 each
        b"(" + 100_000 * b"K\x01" + b"t",
        b"\x8a\x09" + 8 * b"\xff" + b"\x00" + b"\x85",
        b"\x8a\x01\xff\x85",
        b"K\x06",
    ],
)
def test_impossible_shapes_are_refused(shape: bytes) -> None:
    with pytest.raises(WeightsError, match="is not read"):
        read_pickled_arrays(with_shape(shape), source="f")


def test_an_array_under_very_many_names_is_refused() -> None:
    array = np.zeros(1000)
    two = dict.fromkeys("ab", array)
    assert list(read_pickled_arrays(pickle.dumps(two, protocol=4), source="f")) == ["a", "b"]
    many = {f"{index}": array for index in range(100)}
    with pytest.raises(WeightsError, match="more numbers than it holds"):
        read_pickled_arrays(pickle.dumps(many, protocol=4), source="f")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({1: np.zeros(2), "1": np.ones(2)}, "at its top it holds neither"),
        ({"a": {("b",): np.zeros(2)}}, "at a it holds neither"),
        ({"a": {"b": np.zeros(2)}, "a/b": np.ones(2)}, "at a/b it holds neither"),
    ],
)
def test_no_array_is_left_out_silently(tree: object, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        read_pickled_arrays(pickle.dumps(tree, protocol=4), source="f")


def test_the_function_that_makes_arrays_stays_as_it_is() -> None:
    # GLOBAL, an empty dict as state, BUILD.
    content = b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n}\x8c\x01xK\x01sb."
    with pytest.raises(WeightsError, match="changes a function"):
        read_pickled_arrays(content, source="f")


def test_big_endian_arrays_become_tensors() -> None:
    content = pickle.dumps({"a": np.arange(3, dtype=">f4")}, protocol=4)
    assert read_pickled_arrays(content, source="f")["a"].tolist() == [0, 1, 2]


def test_a_place_far_away_takes_no_memory() -> None:
    content = b"\x80\x02}r" + (2**31 - 1).to_bytes(4, "little") + b"."
    with pytest.raises(WeightsError, match="more values than it has bytes"):
        read_pickled_arrays(content, source="f")


@pytest.mark.parametrize(
    "program",
    [
        b"cnumpy\nndarray\n(K\x05K\x05tR.",  # numpy.ndarray((5, 5))
        b"cnumpy\nndarray\n)\x81.",  # numpy.ndarray.__new__()
        b"cnumpy\ndtype\n(Nt\x85R.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\nK\x09\x85C\x01btR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n\x8c\x01O\x85RC\x08aaaaaaaatR.",
    ],
)
def test_functions_of_numpy_do_only_what_numpy_asks(program: bytes) -> None:
    with pytest.raises(WeightsError, match="is not read"):
        read_pickled_arrays(b"\x80\x04" + program, source="f")


def test_numpys_own_types_stay_as_they_are() -> None:
    order = np.dtype("f4").byteorder
    state = pickle.dumps((3, ">", None, None, None, -1, -1, 0), protocol=4)[11:-1]
    read_pickle(b"\x80\x04cnumpy\ndtype\n\x8c\x02f4\x85R" + state + b"b.", ARRAYS)
    assert np.dtype("f4").byteorder == order
    assert np.frombuffer(np.float32(1.0).tobytes(), "f4") == 1


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x04.", b"\x80\x04\x95"])
def test_what_is_no_pickle_is_refused(content: bytes) -> None:
    with pytest.raises(WeightsError, match=r"file\.ckpt is not read as a pickle of arrays"):
        read_pickled_arrays(content, source="file.ckpt")


@settings(max_examples=60)
@given(place=st.integers(0, 10_000), value=st.integers(0, 255))
def test_any_damage_gives_arrays_or_the_error(place: int, value: int) -> None:
    content = bytearray(pickle.dumps({"a": {"b": np.arange(6.0).reshape(2, 3)}}, protocol=4))
    content[place % len(content)] = value
    try:
        found = read_pickled_arrays(bytes(content), source="f")
    except WeightsError:
        return
    assert all(isinstance(tensor, torch.Tensor) for tensor in found.values())
