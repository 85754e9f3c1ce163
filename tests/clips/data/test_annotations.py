"""Readers of annotation files: real ones counted, small ones with everything wrong."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from dualstream.clips.data.annotations import (
    detect_format,
    read_annotations,
    read_folders,
    read_hmdb51,
    read_kinetics,
    read_lists,
    read_something,
    read_ucf101,
    unread_lists,
)
from dualstream.clips.data.annotations.entries import (
    Annotations,
    Entry,
    ListedSet,
    Side,
    find_class_list,
    listed_set,
    normalize_class,
    plan_splits,
    read_class_list,
    split_number,
)
from dualstream.clips.data.intervals import Interval
from dualstream.errors import AnnotationError, UnknownNameError


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    return folder


def counts(annotations: Annotations) -> dict[tuple[int, Side], int]:
    return dict(Counter((entry.split, entry.part) for entry in annotations.entries))


def problems(annotations: Annotations, folder: Path) -> list[tuple[str, str]]:
    """(kind, where from `folder`) of each problem."""
    return [(p.kind, Path(p.where).relative_to(folder).as_posix()) for p in annotations.problems]


# Real files -----------------------------------------------------------------------------------


def test_ucf101_of_the_real_files(shared: Path) -> None:
    folder = shared / "annotations" / "ucf101"
    annotations = read_ucf101(folder)
    assert len(annotations.classes) == 101
    assert annotations.classes[0] == "ApplyEyeMakeup"
    assert annotations.classes[100] == "YoYo"
    assert counts(annotations) == {
        (1, "train"): 9537,
        (1, "test"): 3783,
        (2, "train"): 9586,
        (2, "test"): 3734,
        (3, "train"): 9624,
        (3, "test"): 3696,
    }
    assert annotations.problems == ()
    first = next(e for e in annotations.entries if (e.split, e.part) == (1, "train"))
    assert first == Entry(
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi",
        0,
        1,
        "train",
        f"{folder}/trainlist01.txt:1",
    )
    assert {e.label for e in annotations.entries if e.part == "test"} == set(range(101))
    assert detect_format(folder) == "ucf101"


def test_hmdb51_of_the_real_files(shared: Path) -> None:
    folder = shared / "annotations" / "hmdb51"
    annotations = read_hmdb51(folder)
    assert len(annotations.classes) == 51
    assert counts(annotations) == {
        (1, "train"): 3570,
        (1, "test"): 1530,
        (1, ""): 1666,
        (2, "train"): 3570,
        (2, "test"): 1530,
        (2, ""): 1666,
        (3, "train"): 3570,
        (3, "test"): 1530,
        (3, ""): 1666,
    }
    assert annotations.problems == ()
    hints = {entry.path_hint for entry in annotations.entries}
    assert len(hints) == 6766
    assert "chew/#2_Gum_chew_h_nm_np1_fr_med_0.avi" in hints
    assert "cartwheel/(Rad)Schlag_die_Bank!_cartwheel_f_cm_np1_le_med_0.avi" in hints
    # 70 training and 30 test clips a class.
    train = Counter(e.label for e in annotations.entries if (e.split, e.part) == (1, "train"))
    assert set(train.values()) == {70}
    assert detect_format(folder) == "hmdb51"


def test_jhmdb_of_the_real_files(shared: Path) -> None:
    folder = shared / "jhmdb" / "splits"
    annotations = read_hmdb51(folder)
    assert len(annotations.classes) == 21
    assert annotations.classes[:3] == ("brush_hair", "catch", "clap")
    assert counts(annotations) == {
        (1, "train"): 660,
        (1, "test"): 268,
        (2, "train"): 658,
        (2, "test"): 270,
        (3, "train"): 663,
        (3, "test"): 265,
    }
    assert len({entry.path_hint for entry in annotations.entries}) == 928
    assert annotations.problems == ()


def test_kinetics400_class_list_of_the_real_file(shared: Path) -> None:
    classes = read_class_list(shared / "annotations" / "kinetics400_label_map.txt")
    assert len(classes) == 400
    assert classes[6] == "arm wrestling"
    assert classes[399] == "zumba"


# Sets and splits ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "plan"),
    [
        ([], {}),
        ([(1, "train"), (1, "test")], {(1, "train"): [(1, "train")], (1, "test"): [(1, "test")]}),
        (
            [(1, "train"), (1, "validation")],
            {(1, "train"): [(1, "train")], (1, "validation"): [(1, "test")]},
        ),
        (
            [(1, "train"), (1, "validation"), (1, "test")],
            {
                (1, "train"): [(1, "train"), (2, "train")],
                (1, "validation"): [(1, "test")],
                (1, "test"): [(2, "test")],
            },
        ),
        (
            [(1, "validation"), (1, "test"), (3, "train"), (3, "test")],
            {
                (1, "validation"): [(1, "test")],
                (1, "test"): [(4, "test")],
                (3, "train"): [(3, "train")],
                (3, "test"): [(3, "test")],
            },
        ),
        ([(2, "")], {(2, ""): [(2, "")]}),
    ],
)
def test_plan_splits(
    listed: list[tuple[int, ListedSet]],
    plan: dict[tuple[int, ListedSet], list[tuple[int, Side]]],
) -> None:
    assert plan_splits(listed) == {key: tuple(value) for key, value in plan.items()}


@pytest.mark.parametrize(
    ("name", "expected", "number"),
    [
        ("trainlist01", "train", 1),
        ("testlist03", "test", 3),
        ("ucf101_val_split_2_videos", "validation", 2),
        ("hmdb51_train_split_3_rawframes", "train", 3),
        ("kinetics400_train_list_videos", "train", 1),
        ("something-something-v2-validation", "validation", 1),
        ("sthv2_test_list", "test", 1),
        ("train_320p", "train", 1),
        ("train_256", "train", 1),
        ("val", "validation", 1),
        ("Validate", "validation", 1),
        ("contest", "", 1),
        ("trainer", "", 1),
        ("Archery", "", 1),
        ("", "", 1),
    ],
)
def test_set_and_split_of_a_name(name: str, expected: str, number: int) -> None:
    assert listed_set(name) == expected
    assert split_number(name) == number


def test_normalize_class() -> None:
    assert normalize_class("Air_Drumming ") == normalize_class("air drumming") == "air drumming"


# Class lists ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("1 a\n2 b c\n", ("a", "b c")),
        ("0 a\r\n1 b\r\n", ("a", "b")),
        ("\ufeffa\nb c \n\n", ("a", "b c")),
        # Numbers in a name are part of it unless every line has one.
        ("10 pin bowling\nabseiling\n", ("10 pin bowling", "abseiling")),
    ],
)
def test_class_list(tmp_path: Path, text: str, classes: tuple[str, ...]) -> None:
    write(tmp_path, {"classes.txt": text})
    assert read_class_list(tmp_path / "classes.txt") == classes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no class name"),
        ("1 a\n3 b\n", r"classes\.txt:2: found class number 3 where 2 was due"),
        ("a\nb\na\n", r"classes\.txt:3: class 'a' stands in line 1"),
    ],
)
def test_wrong_class_list(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, {"classes.txt": text})
    with pytest.raises(AnnotationError, match=message):
        read_class_list(tmp_path / "classes.txt")


def test_find_class_list(tmp_path: Path) -> None:
    assert find_class_list(tmp_path) is None
    write(tmp_path, {"kinetics400_label_map.txt": "a\n"})
    assert find_class_list(tmp_path) == tmp_path / "kinetics400_label_map.txt"
    write(tmp_path, {"classes.txt": "a\n"})
    assert find_class_list(tmp_path) == tmp_path / "classes.txt"


# UCF-101 --------------------------------------------------------------------------------------


def test_ucf101_collects_what_is_wrong(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "classInd.txt": "1 Archery\r\n2 HandstandPushups\r\n",
            "trainlist01.txt": "\ufeffArchery/v_A b_g01_c01.avi 1 \r\n"
            "\r\n"
            "HandStandPushups/v_HandStandPushups_g01_c01.avi 2\r\n"
            "Archery/v_Archery_g02_c01.avi 3\r\n"
            "Archery/v_Archery_g03_c01.avi 0\r\n"
            "Archery/v_Archery_g04_c01.avi 2\r\n",
            "testlist01.txt": "Archery/v_Archery_g05_c01.avi\nBowling/v_Bowling_g01_c01.avi\nx.avi",
            "testlist02.txt": "\n",
        },
    )
    annotations = read_ucf101(tmp_path)
    assert [(e.path_hint, e.label, e.split, e.part) for e in annotations.entries] == [
        ("Archery/v_Archery_g05_c01.avi", 0, 1, "test"),
        ("Archery/v_A b_g01_c01.avi", 0, 1, "train"),
        ("HandStandPushups/v_HandStandPushups_g01_c01.avi", 1, 1, "train"),
    ]
    assert problems(annotations, tmp_path) == [
        ("unknown class", "testlist01.txt:2"),
        ("unknown class", "testlist01.txt:3"),
        ("empty file", "testlist02.txt"),
        ("label out of range", "trainlist01.txt:4"),
        ("label out of range", "trainlist01.txt:5"),
        ("conflicting label", "trainlist01.txt:6"),
    ]
    assert annotations.problems[3].what == "class number 3, where classInd.txt has 1..2"
    assert all(problem.remedy for problem in annotations.problems)


def test_ucf101_needs_its_class_list(tmp_path: Path) -> None:
    write(tmp_path, {"trainlist01.txt": "Archery/v_Archery_g01_c01.avi 1\n"})
    with pytest.raises(AnnotationError, match=r"classInd\.txt: there is no such file"):
        read_ucf101(tmp_path)


def test_ucf101_of_one_file(tmp_path: Path) -> None:
    lists = {"trainlist02.txt": "A/v_A_g01_c01.avi 1\n", "testlist02.txt": "A/v_A_g02_c01.avi\n"}
    write(tmp_path, {"classInd.txt": "1 A\n", **lists})
    annotations = read_ucf101(tmp_path / "trainlist02.txt")
    assert counts(annotations) == {(2, "train"): 1}
    assert detect_format(tmp_path / "trainlist02.txt") == "ucf101"


# HMDB-51 --------------------------------------------------------------------------------------


def test_hmdb51_collects_what_is_wrong(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "class_list.txt": "wave\nrun fast\n",
            "wave_test_split1.txt": "a b.avi 1 \r\n#2_é(x)!.avi\t2\r\n\r\nc.avi 3\r\nd.avi\r\n",
            "wave_test_split2.txt": "",
            "run fast_test_split1.txt": "r.avi 0\n",
            "jump_test_split1.txt": "j.avi 1\n",
            "README.txt": "not a list",
        },
    )
    annotations = read_hmdb51(tmp_path)
    assert annotations.classes == ("wave", "run fast")
    assert [(e.path_hint, e.label, e.split, e.part) for e in annotations.entries] == [
        ("run fast/r.avi", 1, 1, ""),
        ("wave/a b.avi", 0, 1, "train"),
        ("wave/#2_é(x)!.avi", 0, 1, "test"),
    ]
    assert problems(annotations, tmp_path) == [
        ("missing list", "run fast_test_split2.txt"),
        ("unknown class", "jump_test_split1.txt"),
        ("malformed line", "wave_test_split1.txt:4"),
        ("malformed line", "wave_test_split1.txt:5"),
        ("empty file", "wave_test_split2.txt"),
    ]


def test_hmdb51_of_one_file(tmp_path: Path) -> None:
    write(tmp_path, {"wave_test_split1.txt": "a.avi 1\n", "run_test_split1.txt": "r.avi 1\n"})
    annotations = read_hmdb51(tmp_path / "wave_test_split1.txt")
    assert annotations.classes == ("wave",)
    assert len(annotations.entries) == 1
    assert detect_format(tmp_path / "wave_test_split1.txt") == "hmdb51"


# Kinetics -------------------------------------------------------------------------------------

KINETICS = "label,youtube_id,time_start,time_end,split\n"


def test_kinetics_of_three_sets(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "train.csv": KINETICS
            + '"air drumming",-abc_DEF-01,84,94,train\n"petting animal (not cat)",b,0,10,train\n',
            "validate.csv": KINETICS + "air drumming,c,7,17,validate\n",
            "test.csv": KINETICS.replace("label,", "").replace("\n", "\r\n") + "d,7,17,test\r\n",
        },
    )
    annotations = read_kinetics(tmp_path)
    assert annotations.classes == ("air drumming", "petting animal (not cat)")
    assert annotations.entries[0] == Entry(
        "-abc_DEF-01_000084_000094",
        0,
        1,
        "train",
        f"{tmp_path}/train.csv:2",
        ("-abc_DEF-01",),
        Interval(84, 94),
        is_cut=True,
    )
    # The test set has no labels, so it makes no second split.
    assert counts(annotations) == {(1, "train"): 2, (1, "test"): 1}
    assert problems(annotations, tmp_path) == [("no label", "test.csv:1")]
    assert detect_format(tmp_path) == "kinetics"


def test_kinetics_with_labelled_test_set_has_two_splits(tmp_path: Path) -> None:
    rows = "a,x1,0,10,train\na,x2,0,10,val\na,x3,0,10,test\n"
    write(tmp_path, {"kinetics700.csv": KINETICS + rows})
    annotations = read_kinetics(tmp_path / "kinetics700.csv")
    assert [(e.path_hint, e.split, e.part) for e in annotations.entries] == [
        ("x1_000000_000010", 1, "train"),
        ("x1_000000_000010", 2, "train"),
        ("x2_000000_000010", 1, "test"),
        ("x3_000000_000010", 2, "test"),
    ]


def test_kinetics_collects_what_is_wrong(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "classes.txt": "air drumming\nzumba\n",
            "kinetics_val.csv": "label,youtube_id,time_start,time_end\n"
            "air_drumming,a,1.0,11.0\n"
            "zumba,b,start,11\n"
            "zumba,c\n"
            ",d,0,10\n"
            "\n"
            "Yoga,e,0,10\n",
            "train.csv": KINETICS,
        },
    )
    annotations = read_kinetics(tmp_path)
    assert [(e.path_hint, e.label, e.part) for e in annotations.entries] == [
        ("a_000001_000011", 0, "test")
    ]
    assert problems(annotations, tmp_path) == [
        ("malformed line", "kinetics_val.csv:3"),
        ("malformed line", "kinetics_val.csv:4"),
        ("malformed line", "kinetics_val.csv:5"),
        ("empty file", "train.csv"),
        ("unknown class", "kinetics_val.csv:7"),
    ]


# Something-Something --------------------------------------------------------------------------


def test_something_version_2(tmp_path: Path) -> None:
    def item(number: int, template: str) -> dict[str, object]:
        return {"id": str(number), "label": "holding a cup", "template": template}

    hold, push = "Holding [something] next to [something]", "Pushing [something] so it [falls]"
    write(
        tmp_path,
        {
            "something-something-v2-labels.json": json.dumps(
                {"Pushing something so it falls": "1", "Holding something next to something": "0"}
            ),
            "something-something-v2-train.json": json.dumps(
                [item(7, push), item(8, hold), {"template": hold}, item(9, "Unknown [thing]")],
                indent=1,
            ),
            "something-something-v2-validation.json": json.dumps([item(10, push)]),
            "something-something-v2-test.json": json.dumps([{"id": "11"}, {"id": "12"}]),
        },
    )
    annotations = read_something(tmp_path)
    assert annotations.classes == (
        "Holding something next to something",
        "Pushing something so it falls",
    )
    assert [(e.path_hint, e.label, e.split, e.part) for e in annotations.entries] == [
        ("7", 1, 1, "train"),
        ("8", 0, 1, "train"),
        ("10", 1, 1, "test"),
    ]
    assert problems(annotations, tmp_path) == [
        ("no label", "something-something-v2-test.json"),
        ("malformed line", "something-something-v2-train.json:12"),
        ("unknown class", "something-something-v2-train.json:15"),
    ]
    assert annotations.entries[1].origin.endswith("v2-train.json:7")
    assert detect_format(tmp_path) == "something"


def test_something_version_1(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "something-something-v1-labels.csv": "Holding something\nTurning; twice\n",
            "something-something-v1-train.csv": "100218;Turning; twice\n24413;Holding something\n",
            "something-something-v1-validation.csv": "5;Holding something\n;x\n",
            "something-something-v1-test.csv": "1\n2\n",
        },
    )
    annotations = read_something(tmp_path)
    assert [(e.path_hint, e.label, e.split, e.part) for e in annotations.entries] == [
        ("100218", 1, 1, "train"),
        ("24413", 0, 1, "train"),
        ("5", 0, 1, "test"),
    ]
    assert problems(annotations, tmp_path) == [
        ("no label", "something-something-v1-test.csv"),
        ("malformed line", "something-something-v1-validation.csv:2"),
    ]
    assert detect_format(tmp_path) == "something"


def test_something_without_labels_file_names_its_templates(tmp_path: Path) -> None:
    write(
        tmp_path, {"train.json": '[\n{"id": 3, "template": "B [x]"},\n{"id": 4, "template": "A"}]'}
    )
    annotations = read_something(tmp_path / "train.json")
    assert annotations.classes == ("A", "B x")
    assert [e.label for e in annotations.entries] == [1, 0]
    assert detect_format(tmp_path / "train.json") == "something"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train.json": '{"id": 1}'}, r"train\.json:1: must be a JSON list"),
        ({"train.json": '[\n{"id": 1,,}]'}, r"train\.json:2: this is not JSON"),
        ({"train.json": '[{"id": 1}\n{"id": 2}]'}, r"train\.json:1: a comma or the list's end"),
        ({"train.json": '[{"id": 1},'}, r"train\.json:1: this is not JSON"),
        ({"train.json": "[" * 100_000}, r"train\.json:1: this is not JSON .*recursion"),
        ({"train.json": "[\n" + "1" * 5000}, r"train\.json:2: this is not JSON .*4300 digits"),
        ({"train.json": "[]", "labels.json": "{"}, r"labels\.json:1: this is not JSON"),
        ({"train.json": "[]", "labels.json": '{"a": "1"}'}, r"labels\.json: must hold"),
    ],
)
def test_something_that_is_no_json(tmp_path: Path, files: dict[str, str], message: str) -> None:
    write(tmp_path, files)
    with pytest.raises(AnnotationError, match=message):
        read_something(tmp_path / "train.json")


# List files -----------------------------------------------------------------------------------


def test_lists_of_two_and_three_columns(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "ucf101_train_split_1_videos.txt": "Archery/v_A.avi 0\r\nBow ling/a b 2.avi 1\r\n",
            "ucf101_val_split_1_videos.txt": "Archery/v_B 120 0 \n",
            "README.txt": "Lists, version 2\n",
        },
    )
    annotations = read_lists(tmp_path)
    assert annotations.classes == ("Archery", "Bow ling")
    assert [(e.path_hint, e.label, e.part, e.alternatives) for e in annotations.entries] == [
        ("Archery/v_A.avi", 0, "train", ()),
        ("Bow ling/a b 2.avi", 1, "train", ()),
        # May be 120 frames of v_B, or a file named `v_B 120`.
        ("Archery/v_B", 0, "test", ("Archery/v_B 120",)),
    ]
    assert annotations.problems == ()
    assert detect_format(tmp_path) == "list"


def test_a_number_in_some_paths_is_no_column(tmp_path: Path) -> None:
    write(tmp_path, {"train.txt": "clip 1 0\nclip.avi 1\n"})
    assert [e.path_hint for e in read_lists(tmp_path).entries] == ["clip 1", "clip.avi"]


def test_lists_collect_what_is_wrong(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "classes.txt": "a\nb\n",
            "train.txt": "x.avi 0\nx.avi\ny.avi 2\nz.avi -1\nw.avi 1.5\n",
            "test.txt": "\n",
        },
    )
    annotations = read_lists(tmp_path)
    assert [(e.path_hint, e.label) for e in annotations.entries] == [("x.avi", 0)]
    assert problems(annotations, tmp_path) == [
        ("empty file", "test.txt"),
        ("malformed line", "train.txt:2"),
        ("malformed line", "train.txt:5"),
        ("label out of range", "train.txt:3"),
        ("label out of range", "train.txt:4"),
    ]


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("a/1.avi 1\nb/2.avi 0\n", ("b", "a")),
        # A folder of two labels, or a label of two folders, names no class.
        ("a/1.avi 0\na/2.avi 1\n", ("0", "1")),
        ("a/1.avi 0\nb/2.avi 0\nc/3.avi 1\n", ("0", "c")),
        ("1.avi 2\n", ("0", "1", "2")),
        ("x/1/1.avi 0\nx/0/1.avi 1\n", ("1", "0")),
        ("1/1.avi 0\n2.avi 1\n", ("0", "1")),
    ],
)
def test_classes_of_a_list_without_names(
    tmp_path: Path, text: str, classes: tuple[str, ...]
) -> None:
    write(tmp_path, {"train.txt": text})
    assert read_lists(tmp_path / "train.txt").classes == classes


def test_list_of_no_set_belongs_to_no_side(tmp_path: Path) -> None:
    write(tmp_path, {"everything.txt": "a/1.avi 0\n"})
    assert counts(read_lists(tmp_path)) == {(1, ""): 1}


# Folders --------------------------------------------------------------------------------------


def folders_of(root: Path, names: list[str]) -> Annotations:
    for name in names:
        (root / name.rpartition("/")[0]).mkdir(parents=True, exist_ok=True)
    return read_folders(root, [name for name in names if not name.endswith("/")])


def test_class_folders(tmp_path: Path) -> None:
    names = ["run/1.avi", "arm wave/deep/2.avi", "loose.avi", "empty/", ".hidden/"]
    annotations = folders_of(tmp_path, names)
    assert annotations.classes == ("arm wave", "empty", "run")
    assert [(e.path_hint, e.label, e.split, e.part) for e in annotations.entries] == [
        ("run/1.avi", 2, 1, ""),
        ("arm wave/deep/2.avi", 0, 1, ""),
    ]
    assert problems(annotations, tmp_path) == [
        ("outside class folders", "loose.avi"),
        ("class without video", "empty"),
    ]


def test_folders_of_sets(tmp_path: Path) -> None:
    names = ["train/run/1.avi", "val/run/2.avi", "test/wave/3.avi", "train/wave/", "extra/4.avi"]
    annotations = folders_of(tmp_path, names)
    assert annotations.classes == ("run", "wave")
    assert [(e.path_hint, e.label, e.split, e.part) for e in annotations.entries] == [
        ("train/run/1.avi", 0, 1, "train"),
        ("train/run/1.avi", 0, 2, "train"),
        ("val/run/2.avi", 0, 1, "test"),
        ("test/wave/3.avi", 1, 2, "test"),
    ]
    assert problems(annotations, tmp_path) == [
        ("outside class folders", "extra/4.avi"),
        ("class without video", "train/wave"),
    ]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert folders_of(tmp_path, ["car/1.avi", "train/2.avi"]).classes == ("car", "train")


def test_folder_that_prepare_writes_is_no_class(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "done/manifest.csv": "",
            "begun/checked.jsonl": "",
            "old/checked.csv": "",
            "run/1.avi": "",
        },
    )
    assert read_folders(tmp_path, ["run/1.avi"]).classes == ("run",)


# Choice of the format -------------------------------------------------------------------------


def test_nothing_is_detected(tmp_path: Path) -> None:
    write(tmp_path, {"README.txt": "Version 2\n", "latin.txt": "x\n", "run/1.avi": ""})
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait\n")
    (tmp_path / "table.csv").write_text("a,b\n")
    assert detect_format(tmp_path) is None


def test_a_text_file_given_by_name_is_a_list(tmp_path: Path) -> None:
    write(tmp_path, {"mine.txt": "clip one 0\n"})
    assert detect_format(tmp_path) is None
    assert detect_format(tmp_path / "mine.txt") == "list"


def test_read_annotations_raises_when_nothing_is_usable(tmp_path: Path) -> None:
    write(tmp_path, {"train.txt": "x.avi\ny.avi\n"})
    with pytest.raises(AnnotationError, match=r"no video is listed.*First of 2: .*train\.txt:1"):
        read_annotations(tmp_path, "list", root=tmp_path, names=())
    with pytest.raises(AnnotationError, match="there is no such file or folder"):
        read_annotations(tmp_path / "no", "list", root=tmp_path, names=())
    with pytest.raises(UnknownNameError, match="Unknown annotation format 'ucf'"):
        read_annotations(tmp_path, "ucf", root=tmp_path, names=())  # type: ignore[arg-type]


# Files that are no data, names and labels that cannot be meant --------------------------------

FOREIGN = "\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \xb0"


def test_files_of_the_system_are_no_lists(tmp_path: Path) -> None:
    lists = {
        "ucf": {"classInd.txt": "1 A\n", "trainlist01.txt": "A/a.avi 1\n"},
        "hmdb": {"wave_test_split1.txt": "a.avi 1\n"},
        "kinetics": {"train.csv": KINETICS + "a,x,0,10,train\n"},
        "something": {"train.json": '[{"id": "1", "template": "A"}]'},
        "list": {"label_map.txt": "A\n", "train.txt": "a.avi 0\n"},
    }
    for folder, files in lists.items():
        write(tmp_path / folder, files)
        for name in files:
            (tmp_path / folder / f"._{name}").write_bytes(FOREIGN.encode("latin-1"))
        format = detect_format(tmp_path / folder)
        assert format is not None
        annotations = read_annotations(tmp_path / folder, format, root=tmp_path, names=())
        assert (len(annotations.entries), annotations.problems) == (1, ())
    assert find_class_list(tmp_path / "list") == tmp_path / "list" / "label_map.txt"


def test_folders_of_the_system_are_no_classes(tmp_path: Path) -> None:
    for name in ("run", "__MACOSX", "@eaDir", ".Trash"):
        (tmp_path / name).mkdir()
    assert folders_of(tmp_path, ["run/1.avi"]).classes == ("run",)
    assert problems(folders_of(tmp_path, ["run/1.avi"]), tmp_path) == []


@pytest.mark.parametrize("label", ["99999999", "1000", "-1", "999999999999"])
def test_label_that_cannot_be_meant(tmp_path: Path, label: str) -> None:
    write(tmp_path, {"train.txt": f"A/a.mp4 0\nB/b.mp4 {label}\n"})
    annotations = read_lists(tmp_path)
    assert annotations.classes == ("A",)
    assert problems(annotations, tmp_path) == [("label out of range", "train.txt:2")]
    assert annotations.problems[0].what == (
        f"label {label}, where 0..999 are expected where there is no class list"
    )


def test_many_classes_need_as_many_lines(tmp_path: Path) -> None:
    write(tmp_path, {"train.txt": "".join(f"{i}.mp4 {i}\n" for i in range(1200))})
    assert len(read_lists(tmp_path).classes) == 1200


@pytest.mark.parametrize("separator", [",", ", ", " ", "\t"])
def test_slowfast_csv(tmp_path: Path, separator: str) -> None:
    lists = {"train": "A/1 a.mp4|0\nB/3.mp4|1\n", "val": "A/2.mp4|0\n", "test": '"B/4.mp4"|1\n'}
    write(tmp_path, {f"{k}.csv": text.replace("|", separator) for k, text in lists.items()})
    assert detect_format(tmp_path) == "list"
    annotations = read_lists(tmp_path)
    assert annotations.classes == ("A", "B")
    assert {(e.path_hint, e.label, e.split, e.part) for e in annotations.entries} == {
        ("A/1 a.mp4", 0, 1, "train"),
        ("A/1 a.mp4", 0, 2, "train"),
        ("B/3.mp4", 1, 1, "train"),
        ("B/3.mp4", 1, 2, "train"),
        ("A/2.mp4", 0, 1, "test"),
        ("B/4.mp4", 1, 2, "test"),
    }
    assert annotations.problems == ()


def test_csv_of_no_form_is_told(tmp_path: Path) -> None:
    write(tmp_path, {"train.csv": "video,start,what\n1,2,x\n", "notes.csv": "a,b\n"})
    assert detect_format(tmp_path) is None
    (problem,) = unread_lists(tmp_path, "folders")
    assert (problem.kind, problem.where) == ("unread list", f"{tmp_path}/train.csv")
    write(tmp_path, {"val.txt": "a.mp4 0\n"})
    assert [p.where for p in unread_lists(tmp_path, "list")] == [f"{tmp_path}/train.csv"]
    assert len(unread_lists(tmp_path, "ucf101")) == 2


@pytest.mark.parametrize(
    ("name", "content", "program"),
    [
        ("project.boris", "{", "BORIS"),
        (
            "events.csv",
            "Observation id,Media file name,Beh\xffvior,St\xffrt (s)\no,a,run,0\n",
            "BORIS",
        ),
        ("events.tsv", "x\0\nBehavior\tBehavior type\tStart (s)\tSt\0p (s)\n", "BORIS"),
        ("one.eaf", "<ANNOTATION", "ELAN"),
        ("one.txt", "Tier\tBegin Tim - msec\tEnd Time - msec\tDuration - msec\n", "ELAN"),
        ("notes.txt", "Behavior is scored from the start (s. page 3).\n", None),
        ("notes.csv", "a,b\n", None),
    ],
)
def test_damaged_files_of_boris_and_elan_are_told(
    tmp_path: Path, name: str, content: str, program: str | None
) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    assert detect_format(tmp_path) is None
    problems = unread_lists(tmp_path, "folders")
    assert [p.where for p in problems] == ([f"{tmp_path}/{name}"] if program else [])
    for problem in problems:
        assert problem.kind == "unread list"
        assert problem.what == f"it is a file of {program} but no export of it that can be read"


def test_files_of_a_program_beside_its_exports_are_no_problem(tmp_path: Path) -> None:
    write(
        tmp_path, {"one.txt": "Begin Time - msec\tEnd Time - msec\ta\n0\t9\trun\n", "one.eaf": "<"}
    )
    assert detect_format(tmp_path) == "elan"
    assert unread_lists(tmp_path, "elan") == []


@pytest.mark.parametrize(
    ("classes", "lines", "labels"),
    [
        # The folders show it, whatever numbers the class list has.
        ("1 Run\n2 Swim\n3 Jump\n", "Run/a.mp4 1\nSwim/c.mp4 2\n", [0, 1]),
        ("Run\nSwim\nJump\n", "Run/a.mp4 1\nx.mp4 3\n", [0, 2]),
        ("1 Run\n2 Swim\n", "Run/a.mp4 0\nSwim/c.mp4 1\n", [0, 1]),
        # No folder: the class list's numbers, or the largest label.
        ("1 Run\n2 Swim\n3 Jump\n", "a.mp4 1\nc.mp4 2\n", [0, 1]),
        ("Run\nSwim\n", "a.mp4 1\nc.mp4 2\n", [0, 1]),
        ("1 Run\n2 Swim\n", "a.mp4 0\nc.mp4 1\n", [0, 1]),
        ("Run\nSwim\nJump\n", "a.mp4 1\nc.mp4 2\n", [1, 2]),
        ("0 Run\n1 Swim\n2 Jump\n", "a.mp4 1\nc.mp4 2\n", [1, 2]),
    ],
)
def test_labels_may_count_from_1(
    tmp_path: Path, classes: str, lines: str, labels: list[int]
) -> None:
    write(tmp_path, {"classes.txt": classes, "train.txt": lines})
    annotations = read_lists(tmp_path)
    assert [entry.label for entry in annotations.entries] == labels
    counts_from_1 = not lines.splitlines()[0].endswith(str(labels[0]))
    assert [p.kind for p in annotations.problems] == ["label numbering"] * counts_from_1


def test_label_above_a_list_that_counts_from_1(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"classes.txt": "1 Run\n2 Swim\n", "train.txt": "Run/a 1\nSwim/b 2\nx 3\nRun/c 0\n"},
    )
    annotations = read_lists(tmp_path)
    assert [(e.path_hint, e.label) for e in annotations.entries] == [("Run/a", 0), ("Swim/b", 1)]
    assert [p.what for p in annotations.problems[1:]] == [
        f"label 3, where {tmp_path}/classes.txt has 1..2",
        f"label 0, where {tmp_path}/classes.txt has 1..2",
    ]


def test_class_folders_whose_names_are_no_class_names(tmp_path: Path) -> None:
    for name in (b"run", b"\xfcber", b"two\nlines", b"  "):
        os.mkdir(os.path.join(os.fsencode(tmp_path), name))
    annotations = read_folders(tmp_path, ["run/1.avi", "  /2.avi"])
    assert annotations.classes == ("run",)
    assert [(p.kind, p.where) for p in annotations.problems] == [
        ("outside class folders", f"{tmp_path}/  /2.avi")
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.csv", KINETICS + '"two\nlines",x,0,10,train\n'),
        ("train.json", '[{"id": "1", "template": "\\ud800"}]'),
        ("train.json", '[{"id": "1", "template": "two\\nlines"}]'),
    ],
)
def test_names_that_cannot_stand_in_a_class_list(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path, {name: text})
    format = detect_format(tmp_path)
    assert format is not None
    with pytest.raises(AnnotationError, match=r"no video is listed.*cannot name a class"):
        read_annotations(tmp_path, format, root=tmp_path, names=())


def test_labels_file_with_a_name_of_two_lines(tmp_path: Path) -> None:
    write(tmp_path, {"labels.json": '{"two\\nlines": "0", "A": "1"}'})
    write(tmp_path, {"train.json": '[{"id": "1", "template": "A"}]'})
    with pytest.raises(AnnotationError, match=r"class name 'two\\nlines' holds line ends"):
        read_annotations(tmp_path, "something", root=tmp_path, names=())


def test_kinetics_file_with_a_cell_longer_than_csv_allows(tmp_path: Path) -> None:
    write(tmp_path, {"train.csv": KINETICS + "x" * 200_000 + ",x,0,10,train\n"})
    with pytest.raises(AnnotationError, match=r"train\.csv:2: not a CSV row"):
        read_kinetics(tmp_path)


def test_split_number_that_cannot_be_meant(tmp_path: Path) -> None:
    write(tmp_path, {"run_test_split1.txt": "a.avi 1\n", "run_test_split100000000.txt": "a.avi 2"})
    assert counts(read_hmdb51(tmp_path)) == {(1, "train"): 1}
    (problem,) = unread_lists(tmp_path, "hmdb51")
    assert problem.where == f"{tmp_path}/run_test_split100000000.txt"
