"""Videos that must stay on one side of a split, and classes that are mirror images."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import PurePosixPath

from dualstream.clips.data.annotations.entries import normalize_class
from dualstream.clips.data.intervals import video_of

_UCF101 = re.compile(r"(v_\w+_g\d+)_c\d+")
_HMDB51 = re.compile(r"(.+)_[hulf]_(?:nm|cm)_np\d+_(?:fr|ba|le|ri)_(?:goo|med|bad)_\d+")
_OPPOSITE = {"left": "right", "clockwise": "counterclockwise"}
_OPPOSITE |= {other: name for name, other in _OPPOSITE.items()}
_COUNTER = re.compile(r"\b(?:anti|counter)[- ]?clockwise\b")
_SIDE = re.compile(rf"\b({'|'.join(_OPPOSITE)})(?=wards?\b|\b)")


def source_group(name: str) -> str:
    """Return the name of the source video that a clip was cut from.

    Clips of one source look alike, so they belong on the same side of any split.

    - UCF-101: `Archery/v_Archery_g01_c02.avi` -> `v_Archery_g01`
    - HMDB-51 and J-HMDB, `<source>_<action>_<body>_<camera>_<people>_<view>_<quality>_<index>`:
      `brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi` -> `April_09_brush_hair`
    - any other name is its own source: `a/b.mp4` -> `a/b.mp4`
    - intervals are of their video's source: `a/b.mp4#t=84,94` -> `a/b.mp4`

    Source: the naming rules on the two data sets' pages (UCF-101: group and clip number;
    HMDB-51: visible body parts h, u, f, l; camera motion nm, cm; number of people npK;
    viewpoint fr, ba, le, ri; quality goo, med, bad).
    """
    name = video_of(name)
    stem = PurePosixPath(name).stem
    for pattern in (_UCF101, _HMDB51):
        if match := pattern.fullmatch(stem):
            return match.group(1)
    return name


def group_videos(videos: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return the group of each video: clips of one source, and all that shares content with them.

    Args:
        videos: (name, checksum of the content, "" where it is not known) of each.

    Returns:
        A group's name is the alphabetically first of its `source_group`s, whatever the order.

    Worked example: `a.mp4` and `b.mp4` are copies, `b.mp4` and `c.mp4` too (a link): all are of
    group `a.mp4`.
    """
    parents: dict[str, str] = {}

    def find(name: str) -> str:
        while (parent := parents.setdefault(name, name)) != name:
            name = parent
        return name

    first_of: dict[str, str] = {}
    for name, content in videos:
        group = find(source_group(name))
        if content:
            other = find(first_of.setdefault(content, group))
            parents[max(group, other)] = min(group, other)
    return tuple(find(source_group(name)) for name, _ in videos)


def choose_groups(
    videos: Iterable[tuple[int, str]], *, fraction: float, seed: int
) -> frozenset[str]:
    """Return groups that hold about `fraction` (0..1) of each class's (label, group) videos.

    A class of two or more groups has at least one chosen and one left; of a class of one group
    nothing is chosen. Per class the number of chosen videos misses its target by at most the
    size of the class's largest group. Another seed gives another choice.

    Worked example: 10 clips in groups of 4, 3, 2, 1, fraction .3 (3 clips). Drawn in the order
    2, 4, 1, 3: take 2 (1 missing), not 4 (would miss by 3), take 1 (exact), not 3.
    """
    sizes: dict[int, Counter[str]] = defaultdict(Counter)
    for label, group in videos:
        sizes[label][group] += 1
    chosen: set[str] = set()
    left: set[str] = set()
    for _, size in sorted(sizes.items()):
        # A source that another class has brought in already stays where it is.
        # The draw is the same on every machine and whatever else is in the data set.
        free = sorted(
            size.keys() - chosen - left, key=lambda g: sha256(f"{seed}/{g}".encode()).digest()
        )
        target = fraction * size.total() - sum(size[g] for g in size.keys() & chosen)
        taken: set[str] = set()
        for group in free:  # each that brings the total nearer to the target
            if abs(target - size[group]) < abs(target):
                taken.add(group)
                target -= size[group]
        smallest = min(free, key=lambda group: size[group], default="")
        if not taken and free and len(size) > 1 and not size.keys() & chosen:
            taken = {smallest}
        if len(taken) == len(free) and free and not size.keys() & left:
            taken -= {smallest}
        chosen |= taken
        left |= set(free) - taken
    return frozenset(chosen)


def deal_groups(
    videos: Sequence[tuple[int, str]], *, folds: int, seed: int
) -> tuple[frozenset[str], ...]:
    """Deal the groups of (label, group) videos into folds of about equal size, class by class.

    Each fold is chosen out of what the folds before it left (`choose_groups`), so none overlap.
    A group with a class that nothing outside its fold could teach is in no fold: it is always
    trained on.
    """
    rest, dealt = list(videos), []
    for left in range(folds, 1, -1):
        dealt.append(choose_groups(rest, fraction=1 / left, seed=seed))
        rest = [video for video in rest if video[1] not in dealt[-1]]
    dealt.append(frozenset(group for _, group in rest))
    kept = [{label for label, group in videos if group not in fold} for fold in dealt]
    return tuple(
        fold - {group for label, group in videos if label not in taught}
        for fold, taught in zip(dealt, kept, strict=True)
    )


def mirrored_classes(classes: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return the pairs of classes of which a mirrored picture of one shows the other.

    They are those whose names differ by left and right, or by clockwise and counterclockwise:
    `Pushing something from left to right` and `Pushing something from right to left`,
    `swipe_left` and `SwipeRight`. `bright` and `leftover` name no side.

    Args:
        classes: names in the order of their labels.

    Returns:
        (label, label of the mirrored class), each pair once and its smaller label first.
    """
    # `TurnLeft`, `turn_left` and `Turn left` are `turn left`.
    apart = [normalize_class(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)) for name in classes]
    names = [_COUNTER.sub("counterclockwise", name) for name in apart]
    labels = {name: label for label, name in enumerate(names)}
    mirrored = [_SIDE.sub(lambda match: _OPPOSITE[match[1]], name) for name in names]
    pairs = [(label, labels.get(name, label)) for label, name in enumerate(mirrored)]
    return tuple((label, other) for label, other in pairs if label < other)


def mirrored_labels(classes: Sequence[str]) -> tuple[int, ...]:
    """Return the label that each class has in a mirrored picture; its own unless it has a pair.

    (walk, turn left, turn right) -> (0, 2, 1).
    """
    labels = list(range(len(classes)))
    for label, other in mirrored_classes(classes):
        labels[label], labels[other] = other, label
    return tuple(labels)
