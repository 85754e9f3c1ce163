"""Manifests: reading, writing, subsets, holding out."""

from __future__ import annotations

import dataclasses
import re
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dualstream.clips.data import manifest as manifest_module
from dualstream.clips.data.annotations.entries import read_class_list
from dualstream.clips.data.groups import source_group
from dualstream.clips.data.manifest import Manifest, VideoRecord, is_video_name
from dualstream.errors import AnnotationError, InputError, UnknownNameError

HEADER = "path,label,split1,split2,split3,frames,fps,width,height,sha256"
SHA = "0123456789abcdef" * 4


def record(
    path: str,
    label: int = 0,
    splits: tuple[str, ...] = ("train", "test", ""),
    *,
    frames: int = 40,
    sha256: str = SHA,
) -> VideoRecord:
    return VideoRecord(path, label, splits, frames, 29.97, 320, 240, sha256)


def write_files(folder: Path, rows: str, *, header: str = HEADER, classes: str = "a\nb\n") -> Path:
    (folder / "manifest.csv").write_text(f"{header}\n{rows}", encoding="utf-8")
    (folder / "classes.txt").write_text(classes, encoding="utf-8")
    return folder


def test_files_are_as_documented(tmp_path: Path) -> None:
    records = (record("a/x, y.mp4"), record("b/#2_Gum(é).mp4", 1, ("test", "", "train")))
    Manifest(records, ("a", "b c"), Path("/data/videos")).write(tmp_path / "out")
    assert (tmp_path / "out" / "manifest.csv").read_bytes().decode() == (
        f"{HEADER}\n"
        f'"a/x, y.mp4",0,train,test,,40,29.97,320,240,{SHA}\n'
        f"b/#2_Gum(é).mp4,1,test,,train,40,29.97,320,240,{SHA}\n"
    )
    assert (tmp_path / "out" / "classes.txt").read_bytes() == b"a\nb c\n"
    assert (tmp_path / "out" / "dataset.yaml").read_text() == "videos: /data/videos\n"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "classes.txt",
        "dataset.yaml",
        "manifest.csv",
    ]


def test_read_from_folder_and_from_file(tmp_path: Path) -> None:
    written = Manifest((record("a/x.mp4"),), ("a",), Path("/data/videos"))
    written.write(tmp_path)
    assert Manifest.read(tmp_path) == written
    assert Manifest.read(str(tmp_path / "manifest.csv")) == written
    assert written.video_path(written.records[0]) == Path("/data/videos/a/x.mp4")
    assert len(written) == 1
    assert written.num_splits == 3


def test_root_inside_the_folder_moves_with_it(tmp_path: Path) -> None:
    Manifest((record("x.mp4"),), ("a",), tmp_path / "one" / "videos").write(tmp_path / "one")
    assert (tmp_path / "one" / "dataset.yaml").read_text() == "videos: videos\n"
    (tmp_path / "one").rename(tmp_path / "two")
    assert Manifest.read(tmp_path / "two").root == tmp_path / "two" / "videos"


def test_without_dataset_file_paths_start_from_the_folder(tmp_path: Path) -> None:
    write_files(tmp_path, f"x.mp4,1,train,,,40,25,64,48,{SHA}\n")
    manifest = Manifest.read(tmp_path)
    assert manifest.root == tmp_path
    assert manifest.records == (VideoRecord("x.mp4", 1, ("train", "", ""), 40, 25.0, 64, 48, SHA),)


def test_other_line_ends_byte_order_mark_and_blank_lines(tmp_path: Path) -> None:
    text = f"{HEADER}\r\nx y.mp4,0,train,,test,40,25,64,48,\r\n\r\n"
    (tmp_path / "manifest.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbfbrush hair \r\n\r\n")
    manifest = Manifest.read(tmp_path)
    assert manifest.classes == ("brush hair",)
    assert manifest.records[0].path == "x y.mp4"
    assert manifest.records[0].splits == ("train", "", "test")
    assert manifest.records[0].sha256 == ""


@pytest.mark.parametrize("num_splits", [0, 1, 5])
def test_any_number_of_splits(tmp_path: Path, num_splits: int) -> None:
    splits = ("test", "train", "", "train", "test")[:num_splits]
    written = Manifest((record("x.mp4", 0, splits),), ("a",), tmp_path)
    written.write(tmp_path)
    assert Manifest.read(tmp_path).records == written.records


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "x.mp4,one,,,,40,25,64,48,\n",
            r"manifest\.csv:2: label must be a whole number, got 'one'",
        ),
        ("x.mp4,1.0,,,,40,25,64,48,\n", r"manifest\.csv:2: label must be a whole number"),
        (
            "x.mp4,0,,,,40,25,64,48,\ny.mp4,2,,,,40,25,64,48,\n",
            r":3: label 2 is out of range.*0\.\.1",
        ),
        ("x.mp4,-1,,,,40,25,64,48,\n", ":2: label must be at least 0"),
        ("x.mp4,0,,,,40,25,64,48,\n\nx.mp4,0,,,,40,25,64,48,\n", ":4: 'x.mp4' stands in line 2"),
        ("/etc/x.mp4,0,,,,40,25,64,48,\n", ":2: path '/etc/x.mp4' must be relative"),
        ("../x.mp4,0,,,,40,25,64,48,\n", ":2: path '../x.mp4' must be relative"),
        ("a\\..\\..\\x.mp4,0,,,,40,25,64,48,\n", ":2: path .* must be relative"),
        ("C:\\x.mp4,0,,,,40,25,64,48,\n", ":2: path .* must be relative"),
        (",0,,,,40,25,64,48,\n", ":2: path '' must be relative"),
        ("x.mp4,0,val,,,40,25,64,48,\n", ":2: a split must be .* got 'val'"),
        ("x.mp4,0,,,,0,25,64,48,\n", ":2: frames must be at least 1, got 0"),
        ("x.mp4,0,,,,40,fast,64,48,\n", ":2: fps must be a number, got 'fast'"),
        ("x.mp4,0,,,,40,nan,64,48,\n", ":2: fps must be above 0"),
        ("x.mp4,0,,,,40,25,64,,\n", ":2: height must be a whole number, got ''"),
        ("x.mp4,0,,,,40,25,64,48,abc\n", ":2: sha256 must be 64 hexadecimal digits"),
        ("x.mp4,0,,,40,25,64,48,\n", ":2: 9 cells, where the header has 10"),
        ('"x.mp4,0,,,,40,25,64,48,\n', ":2: not a CSV row"),
        ("", "lists no video"),
    ],
)
def test_wrong_row_is_named_by_line(tmp_path: Path, rows: str, message: str) -> None:
    write_files(tmp_path, rows)
    with pytest.raises(AnnotationError, match=message):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (HEADER.replace("label,", ""), r"manifest\.csv:1: column 'label' is missing.*path,label"),
        (HEADER.replace("split2", "split4"), ":1: column 'split2' is missing"),
        (HEADER + ",extra", ":1: found .*extra"),
        ("", ":1: column 'path' is missing"),
    ],
)
def test_wrong_header(tmp_path: Path, header: str, message: str) -> None:
    write_files(tmp_path, "x.mp4,0,,,,40,25,64,48,\n", header=header)
    with pytest.raises(AnnotationError, match=message):
        Manifest.read(tmp_path)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"no manifest here.*dualstream prepare"):
        Manifest.read(tmp_path)
    (tmp_path / "manifest.csv").write_text(f"{HEADER}\n")
    with pytest.raises(AnnotationError, match=r"classes\.txt: there is no such file"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\n\nb\n", r"classes\.txt:2: the line is empty"),
        ("a\nb\na\n", r"classes\.txt:3: class 'a' stands in line 1"),
        ("\n", "holds no class name"),
    ],
)
def test_wrong_classes(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "classes.txt").write_text(content)
    with pytest.raises(AnnotationError, match=message):
        read_class_list(tmp_path / "classes.txt", may_have_numbers=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("videos: [1]\n", "must hold `videos: FOLDER`"),
        ("- videos\n", "must hold `videos: FOLDER`"),
        ("video: x\n", "unknown key 'video'"),
        ("a: b: c\n", r"dataset\.yaml:1: this is not YAML"),
        ("videos: 2020-13-01\n", r"dataset\.yaml:1: this is not YAML"),
    ],
)
def test_wrong_dataset_file(tmp_path: Path, content: str, message: str) -> None:
    write_files(tmp_path, "x.mp4,0,,,,40,25,64,48,\n")
    (tmp_path / "dataset.yaml").write_text(content)
    with pytest.raises(AnnotationError, match=message):
        Manifest.read(tmp_path)


def test_constructor_checks() -> None:
    with pytest.raises(InputError, match="label 1 is out of range of 1 classes"):
        Manifest((record("x.mp4", 1),), ("a",), Path())
    with pytest.raises(InputError, match="two records"):
        Manifest((record("x.mp4"), record("x.mp4")), ("a",), Path())
    with pytest.raises(InputError, match="1 splits, where the first record has 3"):
        Manifest((record("x.mp4"), record("y.mp4", 0, ("train",))), ("a",), Path())
    with pytest.raises(InputError, match="class 'a' stands 2 times"):
        Manifest((), ("a", "a"), Path())
    with pytest.raises(InputError, match="empty or holds blanks"):
        Manifest((), ("a\nb",), Path())


@pytest.mark.parametrize(
    ("name", "is_good"),
    [
        ("a.mp4", True),
        ("a b/#1 (x)!.mp4", True),
        ("a..b/..c.mp4", True),
        ("back\\slash.mp4", True),
        ("été.mp4", True),
        ("", False),
        (".", False),
        ("./a.mp4", False),
        ("a//b.mp4", False),
        ("a/../b.mp4", False),
        ("/a.mp4", False),
        ("\\\\host\\a.mp4", False),
        ("D:/a.mp4", False),
        ("a\nb.mp4", False),
        ("a\udce9.mp4", False),
    ],
)
def test_is_video_name(name: str, is_good: bool) -> None:
    assert is_video_name(name) is is_good


def test_subset_keeps_order_classes_and_root(tmp_path: Path) -> None:
    records = (
        record("a.mp4", 0, ("train", "")),
        record("b.mp4", 1, ("test", "test")),
        record("c.mp4", 1, ("train", "test")),
        record("d.mp4", 1, ("", "test")),
    )
    manifest = Manifest(records, ("k", "l"), tmp_path)
    assert [r.path for r in manifest.subset(1, "train").records] == ["a.mp4", "c.mp4"]
    assert [r.path for r in manifest.subset(1, "test").records] == ["b.mp4"]
    assert [r.path for r in manifest.subset(2, "test").records] == ["b.mp4", "c.mp4", "d.mp4"]
    assert manifest.subset(1, "test").classes == ("k", "l")
    assert manifest.subset(1, "test").root == tmp_path
    with pytest.raises(AnnotationError, match="Split 2 has no train video"):
        manifest.subset(2, "train")
    for split in (0, 3):
        with pytest.raises(InputError, match=rf"split must be 1\.\.2 .*got {split}"):
            manifest.subset(split, "test")
    with pytest.raises(UnknownNameError, match=r"Unknown part 'tset'.*mean 'test'"):
        manifest.subset(1, "tset")  # type: ignore[arg-type]


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0\r\n:", exclude_categories=("Cc",)),
    min_size=1,
    max_size=12,
).filter(lambda name: name not in (".", "..") and is_video_name(name))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_what_is_written_is_read_back(tmp_path: Path, data: st.DataObject) -> None:
    num_splits = data.draw(st.integers(0, 4))
    classes = data.draw(
        st.lists(st.text(string.printable, min_size=1, max_size=8).map(str.strip), max_size=4)
        .map(lambda names: tuple(dict.fromkeys(n for n in names if n.isprintable() and n)))
        .filter(bool)
    )
    side = st.sampled_from(["train", "test", ""])
    records = data.draw(
        st.lists(
            st.builds(
                VideoRecord,
                path=NAMES,
                label=st.integers(0, len(classes) - 1),
                splits=st.tuples(*[side] * num_splits),
                frames=st.integers(1, 10**9),
                fps=st.floats(1e-3, 1e4),
                width=st.integers(1, 10**5),
                height=st.integers(1, 10**5),
                sha256=st.sampled_from(["", SHA]),
            ),
            min_size=1,
            max_size=6,
            unique_by=lambda r: r.path,
        )
    )
    written = Manifest(tuple(records), classes, tmp_path)
    written.write(tmp_path)
    assert Manifest.read(tmp_path) == written


def test_hold_out_of_two_classes() -> None:
    records = tuple(
        record(f"{name}/v_{name}_g{group:02d}_c{clip}.avi", label, sha256="")
        for label, name in enumerate("ab")
        for group in range(10)
        for clip in range(4)
    )
    manifest = Manifest(records, ("a", "b"), Path("/data"))
    kept, held = manifest.hold_out(0.2)
    assert [sum(r.label == label for r in held.records) for label in (0, 1)] == [8, 8]
    assert kept.root == held.root == manifest.root
    assert kept.classes == held.classes == manifest.classes
    assert manifest.hold_out(0.2) == (kept, held)
    assert manifest.hold_out(0.2, seed=1)[1] != held
    # Literal choice, so that a run of an older version can be repeated.
    groups = sorted({source_group(r.path) for r in held.records})
    assert groups == ["v_a_g03", "v_a_g04", "v_b_g05", "v_b_g06"]


@given(
    sizes=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=6), min_size=1, max_size=4),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 3),
)
def test_hold_out_invariants(sizes: list[list[int]], fraction: float, seed: int) -> None:
    records = tuple(
        record(f"k{label}/s{group}_k{label}_u_nm_np1_ba_goo_{clip}.avi", label, sha256="")
        for label, groups in enumerate(sizes)
        for group, size in enumerate(groups)
        for clip in range(size)
    )
    manifest = Manifest(records, tuple(f"k{i}" for i in range(len(sizes))), Path("/data"))
    if all(len(groups) == 1 for groups in sizes):
        with pytest.raises(AnnotationError, match="Nothing can be held out"):
            manifest.hold_out(fraction, seed=seed)
        return
    kept, held = manifest.hold_out(fraction, seed=seed)
    assert set(kept.records) | set(held.records) == set(records)
    assert not set(kept.records) & set(held.records)
    assert list(kept.records) == [r for r in records if r in set(kept.records)]
    kept_groups = {source_group(r.path) for r in kept.records}
    held_groups = {source_group(r.path) for r in held.records}
    assert not kept_groups & held_groups
    for label, groups in enumerate(sizes):
        part = sum(r.label == label for r in held.records)
        if len(groups) > 1:
            assert 0 < part < sum(groups)
            assert abs(part - fraction * sum(groups)) <= max(groups)
        else:
            assert part == 0
    shuffled = dataclasses.replace(manifest, records=records[::-1])
    assert set(shuffled.hold_out(fraction, seed=seed)[1].records) == set(held.records)


def test_copies_are_held_out_together() -> None:
    records = [record(f"a/clip{i}.mp4", sha256=f"{i:064d}") for i in range(6)]
    records += [record(f"a/copy_of_{i}.mp4", sha256=f"{i:064d}") for i in range(6)]
    for seed in range(5):
        kept, held = Manifest(tuple(records), ("a",), Path()).hold_out(0.3, seed=seed)
        assert len(held) == 4
        assert not {r.sha256 for r in kept.records} & {r.sha256 for r in held.records}
    one = Manifest((record("a/1.mp4"), record("a/2.mp4")), ("a",), Path())
    with pytest.raises(AnnotationError, match="Nothing can be held out"):
        one.hold_out(0.5)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_hold_out_fraction_is_checked(fraction: float) -> None:
    with pytest.raises(InputError, match="fraction must be above 0 and below 1"):
        Manifest((record("x.mp4"),), ("a",), Path()).hold_out(fraction)


@pytest.mark.parametrize("fails_at", [1, 2, 3])
@pytest.mark.parametrize("classes", [("a",), ("b",)])
def test_stopped_write_leaves_nothing_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...], fails_at: int
) -> None:
    old = Manifest((record("x.mp4"),), ("a",), tmp_path)
    old.write(tmp_path)
    calls: list[int] = []

    def full_disk(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == fails_at:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        Manifest((record("y.mp4"),), classes, tmp_path).write(tmp_path)
    monkeypatch.undo()
    if classes == old.classes:
        assert Manifest.read(tmp_path) == old
    else:
        with pytest.raises(AnnotationError, match="no manifest here"):
            Manifest.read(tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_folds_hold_every_video_out_once() -> None:
    records = [record(f"c{label}/{i}.mp4", label, sha256="") for label in (0, 1) for i in range(6)]
    manifest = Manifest(tuple(records), ("a", "b"), Path())
    folds = [manifest.fold(number, folds=3) for number in (1, 2, 3)]
    for kept, held in folds:
        assert (len(kept), len(held)) == (8, 4)
        assert set(kept.records) | set(held.records) == set(records)
        assert [r.label for r in held.records] == [0, 0, 1, 1]
    assert len({r.path for _, held in folds for r in held.records}) == 12
    assert manifest.fold(1, folds=3, seed=1)[1] != folds[0][1]
    for number, count in ((0, 3), (4, 3), (1, 1)):
        with pytest.raises(InputError, match="2 folds or more"):
            manifest.fold(number, folds=count)
    with pytest.raises(AnnotationError, match="Nothing can be held out"):
        Manifest((record("x.mp4"),), ("a",), Path()).fold(1, folds=2)


@settings(max_examples=300)
@given(st.text(alphabet="ab./\\: é\n-~", max_size=12))
def test_plain_names_are_those_that_a_closer_look_takes_too(path: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_module, "_PLAIN_NAME", re.compile(r"(?!)"))
        closer_look = is_video_name(path)
    assert is_video_name(path) == closer_look
