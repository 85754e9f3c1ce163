"""Groups of videos from one source, and classes that a mirrored picture exchanges."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualstream.clips.data.groups import (
    choose_groups,
    deal_groups,
    group_videos,
    mirrored_classes,
    source_group,
)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("v_Archery_g01_c02.avi", "v_Archery_g01"),
        ("Archery/v_Archery_g25_c07.mp4", "v_Archery_g25"),
        ("HandstandPushups/v_HandStandPushups_g01_c01.avi", "v_HandStandPushups_g01"),
        ("April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "April_09_brush_hair"),
        ("chew/#2_Gum_chew_h_nm_np1_fr_med_0.avi", "#2_Gum_chew"),
        (
            "cartwheel/(Rad)Schlag_die_Bank!_cartwheel_f_cm_np1_le_med_0.avi",
            "(Rad)Schlag_die_Bank!_cartwheel",
        ),
        ("wave/RATRACE_wave_f_nm_np1_fr_goo_37.avi", "RATRACE_wave"),
        ("hug/21_hug_u_nm_np2_ri_bad_12.mp4", "21_hug"),
        ("catch/a.b_catch_l_cm_np10_ba_med_3.avi", "a.b_catch"),
        # Names of other forms are their own source, folder included.
        ("brush_hair/clip.mp4", "brush_hair/clip.mp4"),
        ("jump_x_nm_np1_fr_goo_0.avi", "jump_x_nm_np1_fr_goo_0.avi"),
        ("v_Archery_g01.avi", "v_Archery_g01.avi"),
        ("", ""),
    ],
)
def test_source_group(name: str, group: str) -> None:
    assert source_group(name) == group


def test_ucf101_has_25_groups_a_class(shared: Path) -> None:
    folder = shared / "annotations" / "ucf101"
    groups = defaultdict(set)
    for file in ("trainlist01.txt", "testlist01.txt"):
        for line in (folder / file).read_text().splitlines():
            name = line.split()[0]
            groups[name.split("/")[0]].add(source_group(name))
    assert {len(found) for found in groups.values()} == {25}
    assert len(groups) == 101


def test_every_hmdb51_name_has_attributes(shared: Path) -> None:
    names = [
        line.split()[0]
        for file in sorted((shared / "annotations" / "hmdb51").glob("*_split1.txt"))
        for line in file.read_text().splitlines()
        if line.strip()
    ]
    assert len(names) == 6766
    assert all(source_group(name) != name for name in names)


@pytest.mark.parametrize(
    ("videos", "groups"),
    [
        ([("a", ""), ("b", "")], ("a", "b")),
        ([("b", "1"), ("a", "1"), ("c", "2")], ("a", "a", "c")),
        # A copy of one clip brings its whole source along, here g01 and g02 by way of z.
        (
            [("v_k_g01_c01", "1"), ("v_k_g01_c02", "2"), ("z", "2"), ("v_k_g02_c01", "2")],
            ("v_k_g01", "v_k_g01", "v_k_g01", "v_k_g01"),
        ),
        ([("d", "1"), ("c", "2"), ("d", "2"), ("b", "1"), ("a", "3")], ("b", "b", "b", "b", "a")),
        ([], ()),
    ],
)
def test_copies_are_of_one_group(videos: list[tuple[str, str]], groups: tuple[str, ...]) -> None:
    assert group_videos(videos) == groups
    assert group_videos(videos[::-1]) == groups[::-1]


def grouped(videos: list[tuple[int, str]]) -> list[tuple[int, str]]:
    return [(label, source_group(name)) for label, name in videos]


def test_choose_takes_what_brings_nearest() -> None:
    # Sizes 4, 3, 2, 1; 3 clips wanted: whatever the order, at most 1 clip off.
    videos = [(0, f"v_A_g{group:02d}_c{i}.avi") for group in (1, 2, 3, 4) for i in range(group)]
    for seed in range(20):
        chosen = choose_groups(grouped(videos), fraction=0.3, seed=seed)
        size = sum(source_group(name) in chosen for _, name in videos)
        assert abs(size - 3) <= 1


def test_one_group_is_never_chosen_and_two_are_shared() -> None:
    one = [(0, f"v_A_g01_c{i}.avi") for i in range(5)]
    assert choose_groups(grouped(one), fraction=0.9, seed=0) == frozenset()
    two = [*one, (0, "v_A_g02_c0.avi")]
    assert choose_groups(grouped(two), fraction=0.99, seed=0) == {"v_A_g01"}
    assert choose_groups(grouped(two), fraction=0.01, seed=0) == {"v_A_g02"}


def test_source_of_two_classes_stays_whole() -> None:
    videos = [(label, f"v_A_g{group:02d}_c{label}.avi") for label in (0, 1) for group in range(10)]
    chosen = choose_groups(grouped(videos), fraction=0.3, seed=3)
    assert len(chosen) == 3


@given(
    sizes=st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=8), min_size=1, max_size=5),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 5),
)
def test_choice_of_any_classes(sizes: list[list[int]], fraction: float, seed: int) -> None:
    videos = [
        (label, f"v_k{label}_g{group:02d}_c{clip}.avi")
        for label, groups in enumerate(sizes)
        for group, size in enumerate(groups)
        for clip in range(size)
    ]
    chosen = choose_groups(grouped(videos), fraction=fraction, seed=seed)
    assert chosen == choose_groups(grouped(videos[::-1]), fraction=fraction, seed=seed)
    taken = Counter(label for label, name in videos if source_group(name) in chosen)
    for label, groups in enumerate(sizes):
        own = [g for g in range(len(groups)) if f"v_k{label}_g{g:02d}" in chosen]
        if len(groups) == 1:
            assert not own
        else:
            assert 0 < len(own) < len(groups)
            assert abs(taken[label] - fraction * sum(groups)) <= max(groups)


@pytest.mark.parametrize(
    ("classes", "pairs"),
    [
        (("Moving something left", "run", "Moving something right"), ((0, 2),)),
        (("Pushing [x] from right to left", "Pushing [x] from left to right"), ((0, 1),)),
        (("SwipeRight", "swipe_left", "Slide two fingers left"), ((0, 1),)),
        (("Turning Hand Counterclockwise", "Turning Hand Clockwise"), ((0, 1),)),
        (("turn anti-clockwise", "turn clockwise"), ((0, 1),)),
        (("move leftwards", "move rightward", "move rightwards"), ((0, 2),)),
        (("left-handed throw", "right-handed throw"), ((0, 1),)),
        # One side without the other, both in one name, and words that only hold a side.
        (("turn left", "go on"), ()),
        (("left or right", "left"), ()),
        (("bright", "bleft", "leftover", "rightover"), ()),
        ((), ()),
    ],
)
def test_mirrored_classes(classes: tuple[str, ...], pairs: tuple[tuple[int, int], ...]) -> None:
    assert mirrored_classes(classes) == pairs


def test_groups_are_dealt_out_as_a_table() -> None:
    # Class 0 has four sources of one video, class 1 one source of two, class 2 two sources.
    videos = [(0, "a"), (0, "b"), (0, "c"), (0, "d"), (1, "e"), (1, "e"), (2, "f"), (2, "g")]
    folds = deal_groups(videos, folds=2, seed=0)
    assert [len(fold & set("abcd")) for fold in folds] == [2, 2]
    assert [len(fold & set("fg")) for fold in folds] == [1, 1]
    assert not any("e" in fold for fold in folds)  # nobody else could teach class 1
    assert deal_groups(videos, folds=2, seed=0) == folds
    assert any(deal_groups(videos, folds=2, seed=seed) != folds for seed in range(1, 5))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=40),
    st.integers(2, 5),
    st.integers(0, 99),
)
def test_folds_do_not_overlap_and_leave_every_class_to_learn(
    pairs: list[tuple[int, int]], folds: int, seed: int
) -> None:
    videos = [(label, f"group {group}") for label, group in pairs]
    dealt = deal_groups(videos, folds=folds, seed=seed)
    assert len(dealt) == folds
    assert sum(len(fold) for fold in dealt) == len(frozenset().union(*dealt))
    for fold in dealt:
        kept = {label for label, group in videos if group not in fold}
        assert {label for label, group in videos if group in fold} <= kept
