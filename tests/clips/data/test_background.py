"""Background: intervals of nothing, between those that are labelled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dualstream.clips.data.background import add_background
from dualstream.clips.data.intervals import Interval
from dualstream.clips.data.manifest import Manifest, VideoRecord
from dualstream.errors import AnnotationError, InputError

LENGTHS = (0.5, 1.0, 2.0)


def row(path: str, start: float | None, end: float = 0.0, *, side: str = "train") -> VideoRecord:
    """Of a video of 100 s."""
    interval = None if start is None else Interval(start, end)
    return VideoRecord(path, 0, (side,), 2500, 25.0, 64, 48, "", interval)


def scored(*records: VideoRecord) -> Manifest:
    return Manifest(records, ("walk", "run"), Path("videos"))


def six_videos(*, order: int = 1) -> Manifest:
    """20 labelled intervals in each of six videos, the last of them in the test part."""
    return scored(
        *(
            row(
                f"{name}.mp4",
                5.0 * n,
                5.0 * n + LENGTHS[n % 3],
                side="test" if name == "f" else "train",
            )
            for name in "abcdef"[::order]
            for n in range(20)
        )
    )


def test_background_lies_where_nothing_is_labelled() -> None:
    manifest = six_videos()
    found = add_background(manifest, share=0.5, seed=3)
    assert found.classes == ("walk", "run", "none of these")
    drawn = [r for r in found.records if r.label == 2]
    assert [r for r in found.records if r.label != 2] == list(manifest.records)
    assert {path: sum(r.path == path for r in drawn) for path in ("a.mp4", "f.mp4")} == {
        "a.mp4": 10,
        "f.mp4": 10,
    }
    assert len(drawn) == 60
    assert {r.splits for r in drawn if r.path != "f.mp4"} == {("train",)}
    assert {r.splits for r in drawn if r.path == "f.mp4"} == {("test",)}
    for record in drawn:
        assert record.interval is not None
        assert 0 <= record.interval.start_seconds < record.interval.end_seconds <= 100
        assert round(record.interval.seconds, 3) in LENGTHS
        others = [r.interval for r in found.records if r.path == record.path and r is not record]
        assert not any(record.interval.overlaps(other) for other in others if other)
    starts = [r.interval.start_seconds for r in found.records[:30] if r.interval]
    assert starts == sorted(starts)


def test_a_draw_depends_on_manifest_and_seed_only() -> None:
    one = add_background(six_videos(), share=0.5, seed=3)
    assert add_background(six_videos(), share=0.5, seed=3) == one
    assert set(add_background(six_videos(order=-1), share=0.5, seed=3).records) == set(one.records)
    assert add_background(six_videos(), share=0.5, seed=4) != one


def test_room_is_filled_and_no_more() -> None:
    # Gaps of a: 0..1, 3..3.4, 5..100; b is full, so that its share goes to c.
    full = [row("b.mp4", 0, 50), row("b.mp4", 50, 99.9)]
    manifest = scored(row("a.mp4", 1, 3), row("a.mp4", 3.4, 5), *full, row("c.mp4", 0, 2))
    found = [r.path for r in add_background(manifest, share=1).records if r.label == 2]
    assert found == ["a.mp4"] * 2 + ["c.mp4"] * 3
    # A short gap is taken whole where an interval is as short.
    tight = scored(row("a.mp4", 0, 99), row("a.mp4", 99.9, 100))
    drawn = [r.interval for r in add_background(tight, share=9).records if r.label == 2]
    assert 1 <= len(drawn) <= 9
    assert all(i and i.start_seconds >= 99 and i.end_seconds <= 99.9 for i in drawn)


def test_scored_background_is_joined() -> None:
    manifest = replace(scored(row("a.mp4", 1, 3)), classes=("none of these", "walk"))
    nothing = manifest.records[0]
    walk = replace(nothing, label=1, interval=Interval(50, 60))
    found = add_background(replace(manifest, records=(nothing, walk)), share=2)
    assert found.classes == ("none of these", "walk")
    assert [r.label for r in found.records].count(0) == 3


def test_a_video_on_both_sides_has_background_on_none() -> None:
    manifest = scored(row("a.mp4", 1, 3), row("a.mp4", 8, 9, side="test"))
    assert {r.splits for r in add_background(manifest, share=1).records if r.label == 2} == {("",)}


def test_what_has_no_background() -> None:
    with pytest.raises(InputError, match="must be above 0, got 0"):
        add_background(scored(row("a.mp4", 1, 3)), share=0)
    with pytest.raises(AnnotationError, match="between labelled intervals, and the manifest has"):
        add_background(scored(row("a.mp4", None)), share=1)
    with pytest.raises(AnnotationError, match=r"no video has 99\.5 s without a labelled interval"):
        add_background(scored(row("a.mp4", 0, 99.5)), share=1)
