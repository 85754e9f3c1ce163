"""Drop-a-frame sensitivity: which steps stand in, and what falls."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dualstream.engine.infer.sensitivity import (
    Sensitivity,
    dropped_pieces,
    rearranged,
    sensitivity,
)
from dualstream.errors import InputError, ShapeError
from dualstream.types import Clip


def pieces_of(frames: list[list[int]], pieces: int, **options: object) -> list[object]:
    found = dropped_pieces(np.array(frames), pieces=pieces, **options)  # type: ignore[arg-type]
    return [(first, places.tolist()) for first, places in found]


def test_the_nearest_steps_outside_of_a_piece_stand_in() -> None:
    # Steps are numbered snippet by snippet: frames 0 1 2 are steps 0 1 2, frames 2 3 4 are 3 4 5.
    assert pieces_of([[0, 1, 2], [2, 3, 4]], 2) == [
        (0, [[4, 4, 4], [4, 4, 5]]),
        (3, [[0, 1, 2], [3, 2, 2]]),
    ]
    # In the middle each takes the nearer side.
    assert pieces_of([[0, 4, 5, 9, 10, 14]], 3) == [
        (0, [[2, 2, 2, 3, 4, 5]]),
        (5, [[0, 1, 1, 4, 4, 5]]),
        (10, [[0, 1, 2, 3, 3, 3]]),
    ]
    assert pieces_of([[0, 2, 4]], 3)[1] == (2, [[0, 0, 2]])  # both as near: the first


def test_a_held_or_looped_frame_is_gone_wherever_it_stands() -> None:
    # A video of three frames in a snippet of five, looped: frame 0 stands at steps 0 and 3.
    assert pieces_of([[0, 1, 2, 0, 1]], 3)[0] == (0, [[1, 1, 2, 1, 4]])


def test_backward_flow_is_no_stand_in_for_forward_flow() -> None:
    frames, ways = [[4, 5, 3, 2]], np.array([0, 0, 1, 1])
    # Distinct fields 2 3 | 4 5. Without 2 and 3 there is no backward field left: they stay.
    assert pieces_of(frames, 2, directions=ways) == [
        (2, [[0, 1, 2, 3]]),
        (4, [[0, 1, 2, 3]]),
    ]
    assert pieces_of(frames, 4, directions=ways) == [
        (2, [[0, 1, 2, 2]]),
        (3, [[0, 1, 3, 3]]),
        (4, [[1, 1, 2, 3]]),
        (5, [[0, 0, 2, 3]]),
    ]


def test_one_moment_has_no_stand_in() -> None:
    assert pieces_of([[7]], 8) == []
    assert pieces_of([[7, 7], [7, 7]], 8) == []
    assert pieces_of([[7, 8]], 1) == []


def test_steps_are_rearranged_within_and_across_snippets() -> None:
    data = torch.arange(2 * 3 * 2 * 1 * 1).reshape(2, 3, 2, 1, 1)  # (V, C, T, H, W)
    same = rearranged(data, np.array([[0, 1], [2, 3]]))
    assert torch.equal(same, data)
    changed = rearranged(data, np.array([[3, 1], [2, 0]]))
    assert torch.equal(changed[0, :, 0], data[1, :, 1])
    assert torch.equal(changed[1, :, 1], data[0, :, 0])
    assert torch.equal(changed[0, :, 1], data[0, :, 1])


def clip_of(values: list[int]) -> Clip:
    """One snippet of 1 x 1 pixels."""
    data = torch.tensor(values, dtype=torch.uint8).reshape(1, 1, -1, 1, 1)
    return Clip({"rgb": data, "flow": data + 1}, torch.tensor(-1))


def test_the_piece_that_the_class_hangs_on_is_found() -> None:
    """A network that answers with the share of bright frames."""
    clip = clip_of([10, 10, 10, 200, 200, 10, 10, 10])
    seconds = {number: number / 4 for number in range(8)}

    def probability(one: Clip) -> float:
        assert torch.equal(one.data["flow"], clip.data["flow"])
        return float((one.data["rgb"] > 100).float().mean())

    found = sensitivity(
        probability,
        clip,
        whole=0.25,
        stream="rgb",
        frames=np.arange(8)[None],
        seconds=seconds,
        end_seconds=2.0,
        pieces=4,
    )
    # 2 of 8 frames are bright, in two of the pieces 01 23 45 67: each stands in for the other.
    assert found.seconds.tolist() == [[0, 0.5], [0.5, 1], [1, 1.5], [1.5, 2]]
    assert found.falls.tolist() == [0, 0, 0, 0]
    assert found.decisive is None
    whole = sensitivity(
        probability,
        clip,
        whole=0.25,
        stream="rgb",
        frames=np.array([[0, 1, 2, 3, 3, 4, 5, 6]]),
        seconds=seconds,
        end_seconds=1.75,
        pieces=7,
    )
    # Both are frame 3. Without frame 4, between 3 and 5, frame 3 is there once more.
    assert whole.falls.tolist() == [0, 0, 0, 0.25, -0.125, 0, 0]
    assert whole.decisive == (0.75, 1.0, 0.25)


def test_nothing_is_asked_where_nothing_is_taken() -> None:
    def never(_clip: Clip) -> float:
        raise AssertionError

    frames = np.arange(4)[None]
    found = sensitivity(
        never,
        clip_of([1, 2, 3, 4]),
        whole=0.5,
        stream="rgb",
        frames=frames,
        seconds={},
        end_seconds=1,
        pieces=0,
    )
    assert (found.seconds.shape, found.falls.shape, found.decisive) == ((0, 2), (0,), None)
    with pytest.raises(InputError, match="pieces must be at least 0, got -1"):
        sensitivity(
            never,
            clip_of([1]),
            whole=0.5,
            stream="rgb",
            frames=frames,
            seconds={},
            end_seconds=1,
            pieces=-1,
        )
    with pytest.raises(ShapeError, match=r"Sensitivity\.falls must be \(2,\)"):
        Sensitivity(np.zeros((2, 2)), np.zeros(3, np.float32))
