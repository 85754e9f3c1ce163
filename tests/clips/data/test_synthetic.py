"""The synthetic data set: what single frames and what flow can know, and its files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualstream.clips.data.prepare import prepare
from dualstream.clips.data.synthetic import (
    LOOKS,
    MOTIONS,
    RenderedVideo,
    SyntheticSpec,
    class_names,
    render_synthetic,
    render_video,
)
from dualstream.clips.data.synthetic.render import (
    HUE_DEGREES,
    LUMA_WEIGHTS,
    STEPS,
    draw_scene,
    hue_without_luma,
    pattern,
    place_order,
    render_pictures,
)
from dualstream.errors import DiskError, InputError, UnknownNameError
from dualstream.video import read_video

SMALL = SyntheticSpec(num_frames=14, size=64)
TINY = SyntheticSpec(
    num_looks=2,
    num_motions=2,
    train_videos_per_class=2,
    test_videos_per_class=1,
    num_frames=8,
    size=32,
)


def sorted_frames(frames: np.ndarray) -> list[bytes]:
    """The frames as a set with repeats, whatever their order."""
    return sorted(frame.tobytes() for frame in frames)


def grey(frames: np.ndarray) -> np.ndarray:
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]).astype(int)


# Motions


@pytest.mark.parametrize(
    ("motion", "expected"),
    [
        ("fast", [0, 3, 6, 1, 4, 7, 2, 5]),
        ("shuttle", [0, 5, 2, 7, 4, 1, 6, 3]),
        ("slow", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("stutter", [0, 3, 2, 5, 4, 7, 6, 1]),
    ],
)
def test_place_order_of_eight_frames(motion: str, expected: list[int]) -> None:
    assert place_order(motion, num_frames=8).tolist() == expected


def test_place_order_starts_anywhere_and_runs_both_ways() -> None:
    assert place_order("stutter", num_frames=8, first=6).tolist() == [6, 1, 0, 3, 2, 5, 4, 7]
    assert place_order("slow", num_frames=8, first=2, direction=-1).tolist() == [
        *(2, 1, 0, 7, 6, 5, 4, 3)
    ]


@given(
    motion=st.sampled_from(MOTIONS),
    half=st.integers(4, 100).filter(lambda half: half % 3),
    first=st.integers(0, 7),
    direction=st.sampled_from([-1, 1]),
)
def test_every_motion_visits_every_place_once(
    motion: str, half: int, first: int, direction: int
) -> None:
    order = place_order(motion, num_frames=2 * half, first=first, direction=direction)
    assert sorted(order.tolist()) == list(range(2 * half))
    assert order[0] == first


def test_unknown_motion_is_named() -> None:
    with pytest.raises(UnknownNameError, match=r"motion 'fats'.*'fast'"):
        place_order("fats", num_frames=8)


# Looks


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [
        (0, [1, -0.299 / 0.701, -0.299 / 0.701]),
        (60, [0.114 / 0.886, 0.114 / 0.886, -1]),
        (120, [-1, 0.413 / 0.587, -1]),
        (240, [-0.114 / 0.886, -0.114 / 0.886, 1]),
        (30, [1 - 0.5925, 0.5 - 0.5925, -0.5925]),  # orange (1, 0.5, 0), luminance 0.5925
    ],
)
def test_hue_without_luma(degrees: float, expected: list[float]) -> None:
    scaled = np.array(expected) / np.abs(expected).max()
    np.testing.assert_allclose(hue_without_luma(degrees), scaled, atol=1e-12)


@given(st.floats(-360, 720))
def test_no_hue_has_luminance(degrees: float) -> None:
    change = hue_without_luma(degrees)
    assert abs(change @ LUMA_WEIGHTS) < 1e-12
    assert np.abs(change).max() == pytest.approx(1)


def plain_pattern(look: str) -> np.ndarray:
    """(41, 41) at angle 0, period 10, the middle at [20, 20]."""
    return pattern(look, side=41, angle=0.0, period_px=10.0, phase=(0.0, 0.0))


@pytest.mark.parametrize("look", LOOKS)
def test_patterns_cover_about_half(look: str) -> None:
    values = pattern(look, side=200, angle=0.3, period_px=12.0, phase=(0.2, 0.7))
    assert values.min() == 0
    assert values.max() == 1
    assert 0.35 < values.mean() < 0.65


def test_patterns_are_what_their_names_say() -> None:
    middle = slice(10, 31)
    stripes = plain_pattern("stripes")
    np.testing.assert_allclose(stripes, np.broadcast_to(stripes[:1], (41, 41)))
    np.testing.assert_allclose(stripes[:, 10:], stripes[:, :-10], atol=1e-9)
    checker = plain_pattern("checker")
    np.testing.assert_allclose(checker[:, 5:], 1 - checker[:, :-5], atol=1e-9)
    np.testing.assert_allclose(checker[5:, 5:], checker[:-5, :-5], atol=1e-9)
    rings = plain_pattern("rings")
    np.testing.assert_allclose(rings, np.rot90(rings), atol=1e-9)
    assert rings[20, 22] == rings[20, 23] == 1
    assert rings[20, 27] == rings[27, 20] == 0
    dots = plain_pattern("dots")
    assert dots[20, 20] == dots[20, 30] == dots[30, 10] == 1
    assert dots[25, 25] == dots[20, 25] == dots[15, 20] == 0
    np.testing.assert_allclose(dots[middle, middle], dots[:21, 20:], atol=1e-9)


def test_the_angle_turns_a_pattern() -> None:
    turned = pattern("stripes", side=41, angle=math.pi / 2, period_px=10.0, phase=(0.0, 0.0))
    np.testing.assert_allclose(turned, plain_pattern("stripes").T, atol=1e-9)


def test_unknown_look_is_named() -> None:
    with pytest.raises(UnknownNameError, match=r"look 'plaid'.*checker"):
        plain_pattern("plaid")


# What the streams can know


def test_single_frames_do_not_tell_the_motion() -> None:
    videos = [render_video(SMALL, look=1, motion=m, index=3) for m in range(4)]
    first = sorted_frames(videos[0])
    assert len(set(first)) == SMALL.num_frames
    for video in videos[1:]:
        assert sorted_frames(video) == first
    assert len({video.tobytes() for video in videos}) == 4


def test_shuffled_time_keeps_the_frames_and_no_order() -> None:
    shuffled = replace(SMALL, shuffle_time=True)
    plain = render_video(SMALL, look=1, motion=0, index=3)
    videos = [render_video(shuffled, look=1, motion=m, index=3) for m in range(4)]
    for video in videos:
        assert sorted_frames(video) == sorted_frames(plain)
    assert len({video.tobytes() for video in videos}) == 4


@pytest.mark.parametrize("motion", range(4))
def test_steps_of_shuffled_time_are_those_of_chance(motion: int) -> None:
    """All steps but 0 are equally likely, whatever the motion."""
    spec = replace(TINY, num_motions=4, shuffle_time=True)
    counts = np.zeros(8, int)
    for index in range(60):
        pictures = render_pictures(draw_scene(spec, index), look="checker", size=spec.size)
        places = {picture.tobytes(): place for place, picture in enumerate(pictures)}
        video = render_video(spec, look=0, motion=motion, index=index)
        order = [places[frame.tobytes()] for frame in video]
        np.add.at(counts, np.diff(order) % 8, 1)
    assert counts[0] == 0
    # 60 * 7 steps, 60 of each kind expected, standard deviation about 7.
    assert counts[1:].min() > 30
    assert counts[1:].max() < 90


@pytest.mark.parametrize("index", [0, 1, 2])
def test_luminance_does_not_tell_the_look(index: int) -> None:
    videos = [render_video(SMALL, look=look, motion=2, index=index) for look in range(4)]
    for video in videos[1:]:
        assert np.abs(grey(video) - grey(videos[0])).max() <= 1
        assert np.abs(video.astype(int) - videos[0]).max() > 60


def test_looks_have_their_colours() -> None:
    for look, name in enumerate(LOOKS):
        spec = replace(SMALL, blank_texture=True)
        coloured = render_video(SMALL, look=look, motion=0, index=5).astype(float)
        change = (coloured - render_video(spec, look=look, motion=0, index=5)).sum((0, 1, 2))
        scene = draw_scene(SMALL, 5)
        expected = hue_without_luma(HUE_DEGREES[name] + scene.hue_shift_degrees)
        np.testing.assert_allclose(change / np.abs(change).max(), expected, atol=0.02)


def test_blank_texture_makes_the_looks_equal() -> None:
    spec = replace(SMALL, blank_texture=True)
    videos = [render_video(spec, look=look, motion=1, index=0) for look in range(4)]
    for video in videos[1:]:
        np.testing.assert_array_equal(video, videos[0])
    np.testing.assert_allclose(
        grey(videos[0]), grey(render_video(SMALL, look=0, motion=1, index=0)), atol=1
    )


def test_flow_in_the_sprite_follows_the_motion() -> None:
    spec = SyntheticSpec()
    scene = draw_scene(spec, 0)
    solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    for motion, name in enumerate(MOTIONS):
        images = grey(render_video(spec, look=0, motion=motion, index=0)).astype(np.uint8)
        order = place_order(name, num_frames=26, first=scene.first_place, direction=scene.direction)
        places = scene.places_px[order]
        for t in range(6):
            x, y = np.rint(places[t]).astype(int)
            inside = solver.calc(images[t], images[t + 1], None)[y - 10 : y + 11, x - 10 : x + 11]
            found = np.median(inside.reshape(-1, 2), axis=0)
            np.testing.assert_allclose(found, places[t + 1] - places[t], atol=0.5)


def test_steps_tell_the_motions_apart() -> None:
    """Distance in one step and in two, in places: no two motions share both."""
    signatures = {m: (max(map(abs, s)), abs(sum((s * 2)[:2]))) for m, s in STEPS.items()}
    assert signatures == {"fast": (3, 6), "shuttle": (5, 2), "slow": (1, 2), "stutter": (3, 2)}


# Scenes


def test_scenes_differ_and_repeat() -> None:
    again = render_video(SMALL, look=0, motion=0, index=1)
    np.testing.assert_array_equal(again, render_video(SMALL, look=0, motion=0, index=1))
    for other in (
        render_video(SMALL, look=0, motion=0, index=2),
        render_video(replace(SMALL, seed=1), look=0, motion=0, index=1),
    ):
        assert np.abs(again.astype(int) - other).mean() > 10


def test_counts_do_not_change_a_video() -> None:
    more = replace(SMALL, train_videos_per_class=50, num_looks=2)
    np.testing.assert_array_equal(
        render_video(SMALL, look=1, motion=3, index=4),
        render_video(more, look=1, motion=3, index=4),
    )


def test_pixels_are_those_of_this_rendering() -> None:
    """Other numbers here: raise `files.RENDERING`, or old folders are continued with new pixels."""
    frames = render_video(SMALL, look=3, motion=0, index=0)
    assert frames.shape == (14, 64, 64, 3)
    assert frames.dtype == np.uint8
    np.testing.assert_allclose(frames.mean((0, 1, 2)), [120.64, 128.27, 121.66], atol=0.05)
    np.testing.assert_allclose(frames[5, 40, 40:44, 1], [185, 169, 152, 137], atol=1)


@pytest.mark.parametrize("size", [32, 64, 130])
def test_the_sprite_stays_in_the_picture_and_the_background_fills_it(size: int) -> None:
    spec = replace(SMALL, size=size)
    for index in range(12):
        scene = draw_scene(spec, index)
        reach = 1.12 * 26 * size / 128 + 1
        assert scene.places_px.min() > reach
        assert scene.places_px.max() < size - 1 - reach
        assert scene.opacity[0].max() == scene.opacity[:, 0].max() == 0
        assert render_pictures(scene, look=None, size=size).min() > 20


def test_places_lie_on_a_circle_but_for_the_shake() -> None:
    for index in range(12):
        places = draw_scene(SyntheticSpec(), index).places_px
        distance = np.hypot(*(places - places.mean(axis=0)).T)
        assert distance.min() > 7.5 - 1.5
        assert distance.max() < 9.5 + 1.5


def test_both_directions_occur() -> None:
    assert {draw_scene(TINY, index).direction for index in range(20)} == {-1, 1}


@pytest.mark.parametrize(
    "position", [{"look": 4}, {"look": -1}, {"motion": 4}, {"motion": -1}, {"index": -1}]
)
def test_positions_out_of_range_are_refused(position: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"There is no video.*looks 0\.\.3, motions 0\.\.3"):
        render_video(SMALL, **({"look": 0, "motion": 0, "index": 0} | position))


# Spec


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_looks": 5}, r"num_looks must be 1\.\.4, got 5"),
        ({"num_motions": 0}, r"num_motions must be 1\.\.4, got 0"),
        ({"train_videos_per_class": 0}, "train_videos_per_class must be at least 1, got 0"),
        ({"test_videos_per_class": 0}, "test_videos_per_class must be at least 1, got 0"),
        ({"num_frames": 25}, "must be even.*got 25"),
        ({"num_frames": 24}, "no multiple of 3.*got 24"),
        ({"num_frames": 4}, "at least 8.*got 4"),
        ({"size": 30}, "at least 32 pixels, got 30"),
        ({"size": 129}, "must be even.*got 129"),
        ({"fps": 0.0}, "fps must be above 0, got 0"),
        ({"fps": math.inf}, "fps must be above 0, got inf"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_wrong_settings_are_refused(setting: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SyntheticSpec(**setting)  # type: ignore[arg-type]


def test_class_names_are_in_the_order_that_readers_give_them() -> None:
    names = class_names(SyntheticSpec())
    assert len(names) == 16
    assert names[:5] == (
        "checker-fast",
        "checker-shuttle",
        "checker-slow",
        "checker-stutter",
        "dots-fast",
    )
    assert list(names) == sorted(names)
    assert class_names(TINY) == ("checker-fast", "checker-shuttle", "dots-fast", "dots-shuttle")


# Files


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RenderedVideo]]:
    """A complete data set of 12 tiny videos; tests only read it."""
    out = tmp_path_factory.mktemp("synthetic")
    return out, list(render_synthetic(out, TINY))


def assert_same_content(found: Path, wanted: Path) -> None:
    """Same files, same texts, same videos up to what libx264 does differently from run to run."""
    names = sorted(p.relative_to(wanted) for p in wanted.rglob("*") if p.is_file())
    assert sorted(p.relative_to(found) for p in found.rglob("*") if p.is_file()) == names
    for name in names:
        if name.suffix == ".mp4":
            difference = grey(read_video(found / name).data) - grey(read_video(wanted / name).data)
            assert np.abs(difference).mean() < 6
        else:
            assert (found / name).read_bytes() == (wanted / name).read_bytes()


def test_every_video_is_named(rendered: tuple[Path, list[RenderedVideo]]) -> None:
    out, videos = rendered
    assert len(videos) == 12
    assert videos[0] == RenderedVideo("checker-fast/checker-fast_000.mp4", 0, "train", "done")
    assert videos[5] == RenderedVideo("checker-shuttle/checker-shuttle_002.mp4", 1, "test", "done")
    assert videos[-1].label == 3
    found = {p.relative_to(out / "videos").as_posix() for p in (out / "videos").rglob("*.*")}
    assert found == {video.name for video in videos}


def test_split_files_are_those_of_hmdb51(rendered: tuple[Path, list[RenderedVideo]]) -> None:
    out, _ = rendered
    assert sorted(path.name for path in (out / "splits").iterdir()) == [
        "checker-fast_test_split1.txt",
        "checker-shuttle_test_split1.txt",
        "dots-fast_test_split1.txt",
        "dots-shuttle_test_split1.txt",
    ]
    assert (out / "splits" / "dots-fast_test_split1.txt").read_text(encoding="utf-8") == (
        "dots-fast_000.mp4 1\ndots-fast_001.mp4 1\ndots-fast_002.mp4 2\n"
    )


def test_files_hold_the_rendered_frames(rendered: tuple[Path, list[RenderedVideo]]) -> None:
    out, videos = rendered
    for video in videos:
        frames = read_video(out / "videos" / video.name)
        assert frames.data.shape == (8, 32, 32, 3)
        np.testing.assert_allclose(frames.pts_seconds, np.arange(8) / 25, atol=1e-6)
        distances = [
            np.abs(
                render_video(TINY, look=look, motion=motion, index=int(video.name[-7:-4]))
                - frames.data.astype(int)
            ).mean()
            for look in range(2)
            for motion in range(2)
        ]
        assert np.argmin(distances) == video.label
        assert min(distances) < 10


def test_prepare_reads_it(rendered: tuple[Path, list[RenderedVideo]]) -> None:
    out, videos = rendered
    report = prepare(out).report()
    assert report.problems == ()
    assert report.manifest.classes == class_names(TINY)
    found = {(r.path, r.label, r.splits, r.frames) for r in report.manifest.records}
    assert found == {(v.name, v.label, (v.part,), 8) for v in videos}


def test_two_workers_write_the_same_videos(
    rendered: tuple[Path, list[RenderedVideo]], tmp_path: Path
) -> None:
    out, videos = rendered
    assert list(render_synthetic(tmp_path, TINY, workers=2)) == videos
    assert_same_content(tmp_path, out)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_video_that_cannot_be_written_is_named(tmp_path: Path, workers: int) -> None:
    next(render_synthetic(tmp_path, TINY))
    (tmp_path / "videos" / "dots-fast").write_text("no folder")
    with pytest.raises(DiskError, match=r"dots-fast_00\d\.mp4: cannot be written"):
        list(render_synthetic(tmp_path, TINY, workers=workers))


def test_an_interrupted_folder_is_continued(
    rendered: tuple[Path, list[RenderedVideo]], tmp_path: Path
) -> None:
    run = render_synthetic(tmp_path, TINY)
    done = [next(run) for _ in range(5)]
    run.close()
    assert not (tmp_path / "splits").exists()
    broken = tmp_path / "videos" / done[1].name
    broken.write_bytes(broken.read_bytes()[:300])
    (tmp_path / "videos" / done[2].name).unlink()
    left = broken.with_name(f".{broken.name}.123.tmp.mp4")
    left.write_bytes(b"half")

    videos = list(render_synthetic(tmp_path, TINY))
    kept = [number for number, video in enumerate(videos) if video.status == "kept"]
    assert kept == [0, 3, 4]
    assert_same_content(tmp_path, rendered[0])
    assert {v.status for v in render_synthetic(tmp_path, TINY)} == {"kept"}


def test_another_spec_is_refused(tmp_path: Path) -> None:
    next(render_synthetic(tmp_path, TINY))
    with pytest.raises(InputError, match=r"\(seed is 0, asked for was 7\).*another folder"):
        next(render_synthetic(tmp_path, replace(TINY, seed=7)))
    spec = tmp_path / "spec.json"
    content = json.loads(spec.read_text(encoding="utf-8"))
    spec.write_text(json.dumps(content | {"rendering": 0}), encoding="utf-8")
    with pytest.raises(InputError, match="rendering is 0"):
        next(render_synthetic(tmp_path, TINY))
    for text, message in (("[]", "seed is None"), ("{", "is not JSON")):
        spec.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            next(render_synthetic(tmp_path, TINY))


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    with pytest.raises(InputError, match=r"no spec\.json"):
        next(render_synthetic(tmp_path, TINY))


def test_no_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="workers must be at least 1, got 0"):
        next(render_synthetic(tmp_path, TINY, workers=0))
