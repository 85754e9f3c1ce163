"""Samples read from real files whose pictures and flow say where they come from.

In the videos and stores of `conftest.py` a value tells its position.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.clips.specs import joined, one_stream, stored

from dualstream.clips import read as read_module
from dualstream.clips.data.manifest import Manifest, VideoRecord
from dualstream.clips.dataset import ClipDataset, JoinedDataset
from dualstream.clips.geometry import View
from dualstream.clips.plan import Cropping, Sampling
from dualstream.clips.transforms import ColorJitter
from dualstream.errors import InputError
from dualstream.flow import FlowStore
from dualstream.types import ClipSpec
from dualstream.video import write_video
from dualstream.video.decoder import Decoder, frames_of

HEIGHT, WIDTH = 48, 64  # of all videos and fields
RGB = one_stream("rgb")
FLOW = one_stream("flow", num_frames=3, flow_method="dis")
CENTERS = Sampling("segment_centers", segments=3)
CENTER = Cropping("center")


def positions(
    view: torch.Tensor, *, per_position: float = 6.0, zero: float = 0.0
) -> list[list[int]]:
    """(V, T) positions that the mean values of (V, C, T, H, W) stand for; checks each channel."""
    means = view.float().mean(dim=(-2, -1))
    numbers = (means - zero) / per_position
    assert (numbers - numbers.round()).abs().max() < 0.45
    assert (numbers.round() == numbers[:, :1].round()).all()
    return numbers[:, 0].round().int().tolist()  # type: ignore[no-any-return]


def field_positions(view: torch.Tensor) -> list[list[int]]:
    return positions(
        view - torch.tensor([40, 0], dtype=torch.uint8).view(2, 1, 1, 1),
        per_position=2.0,
        zero=60.0,
    )


def test_clip_has_views_label_and_name(grey_manifest: Manifest, grey_store: FlowStore) -> None:
    dataset = ClipDataset(
        grey_manifest, joined(RGB, FLOW), sampling=CENTERS, cropping=CENTER, flow=stored(grey_store)
    )
    assert len(dataset) == 3
    assert dataset.labels == (0, 1, 2)
    clip = dataset[(0, 1)]
    assert {m: tuple(v.shape) for m, v in clip.data.items()} == {
        "rgb": (3, 3, 1, 32, 32),
        "flow": (3, 2, 3, 32, 32),
    }
    assert {v.dtype for v in clip.data.values()} == {torch.uint8}
    assert int(clip.label) == 1
    assert clip.label.dtype == torch.int64
    assert clip.name == ("c1.mp4",)


@pytest.mark.parametrize(
    ("spec", "sampling", "expected"),
    [
        (RGB, CENTERS, [[5], [15], [25]]),
        (RGB, Sampling("evenly_spaced", segments=4), [[0], [9], [19], [29]]),
        (
            one_stream("rgb", num_frames=4, frame_stride=3),
            Sampling("evenly_spaced", segments=2),
            [[0, 3, 6, 9], [20, 23, 26, 29]],
        ),
        (
            one_stream("rgb_diff", num_frames=2),
            Sampling("evenly_spaced", segments=2),
            [[0, 1, 2], [27, 28, 29]],
        ),
    ],
)
def test_frames_are_those_of_the_sampler(
    grey_manifest: Manifest, spec: ClipSpec, sampling: Sampling, expected: list[list[int]]
) -> None:
    dataset = ClipDataset(grey_manifest, spec, sampling=sampling, cropping=CENTER)
    assert positions(dataset[0].data[next(iter(spec.streams))]) == expected


def test_flow_fields_are_those_of_the_sampler(
    grey_manifest: Manifest, grey_store: FlowStore
) -> None:
    # 29 fields, snippets of 3: 27 starts, tick 9
    dataset = ClipDataset(
        grey_manifest, FLOW, sampling=CENTERS, cropping=CENTER, flow=stored(grey_store)
    )
    assert field_positions(dataset[0].data["flow"]) == [[4, 5, 6], [13, 14, 15], [22, 23, 24]]


def test_flow_views_come_snippet_by_snippet(grey_manifest: Manifest, grey_store: FlowStore) -> None:
    dataset = ClipDataset(
        grey_manifest,
        FLOW,
        sampling=Sampling("evenly_spaced", segments=2),
        cropping=Cropping("three"),
        flow=stored(grey_store),
    )
    fields = field_positions(dataset[0].data["flow"])
    assert fields == [[0, 1, 2]] * 3 + [[26, 27, 28]] * 3


def test_a_short_video_repeats_its_end(grey_manifest: Manifest, grey_store: FlowStore) -> None:
    spec = one_stream("rgb", num_frames=6)
    dataset = ClipDataset(
        grey_manifest,
        joined(spec, FLOW),
        sampling=CENTERS,
        cropping=CENTER,
        flow=stored(grey_store),
    )
    clip = dataset[2]  # 4 frames, 3 fields
    assert positions(clip.data["rgb"]) == [[0, 1, 2, 3, 3, 3]] * 3
    assert field_positions(clip.data["flow"]) == [[0, 1, 2]] * 3


def test_both_modalities_start_at_the_same_frame(
    grey_manifest: Manifest, grey_store: FlowStore
) -> None:
    dataset = ClipDataset(
        grey_manifest,
        joined(RGB, FLOW),
        sampling=Sampling("random_segments", segments=3),
        cropping=CENTER,
        flow=stored(grey_store),
    )
    starts = set()
    for epoch in range(12):
        clip = dataset[(epoch, 0)]
        frames = [snippet[0] for snippet in positions(clip.data["rgb"])]
        fields = [snippet[0] for snippet in field_positions(clip.data["flow"])]
        assert frames == fields
        starts.add(tuple(frames))
    assert len(starts) > 6


def test_both_modalities_share_box_and_flip(
    tmp_path: Path, write_flow: Callable[..., None]
) -> None:
    # Every picture and field holds a ramp of 3 levels a column and 1 a row; the store is half as
    # large as the video, so equal boxes give equal ramps to within a step of the coarser grid.
    ramp = np.arange(WIDTH)[None, :] * 3 + np.arange(HEIGHT)[:, None]
    frames = np.repeat(ramp.astype(np.uint8)[None, ..., None], 6, axis=0).repeat(3, axis=3)
    write_video(tmp_path / "ramp.mp4", frames, fps=25, crf=5)
    half = frames.reshape(6, HEIGHT // 2, 2, WIDTH // 2, 2, 3)[:5].mean(axis=(2, 4))
    store = FlowStore(tmp_path)
    write_flow(store, "ramp.mp4", half[..., :2].transpose(0, 3, 1, 2).astype(np.uint8))
    record = VideoRecord("ramp.mp4", 0, (), 6, 25.0, WIDTH, HEIGHT, "")
    dataset = ClipDataset(
        Manifest((record,), ("a",), tmp_path),
        joined(RGB, FLOW),
        sampling=Sampling("random_segments"),
        cropping=Cropping("multi_scale"),
        flip=True,
        flow=stored(store),
    )
    flips, corners = set(), set()
    for epoch in range(25):
        clip = dataset[(epoch, 0)]
        picture = clip.data["rgb"][0, 0, 0].float()
        along_x, along_y = clip.data["flow"][0, :, 0].float()
        assert (picture - along_y).abs().mean() < 4
        flipped = bool(picture[0, 0] > picture[0, -1])
        expected = 256 - along_y if flipped else along_y
        assert (along_x - expected).abs().max() <= 3  # the two planes are coded separately
        flips.add(flipped)
        corners.add((flipped, int(picture[0, 0])))
    assert flips == {False, True}
    assert len(corners) > 8


def test_twenty_five_times_ten_views(
    grey_manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper's test: exact positions and boxes, snippet by snippet, box by box."""
    calls: list[tuple[list[int], View]] = []
    cut_frames = read_module.cut_frames

    def recorded(frames: Any, view: View, *, steps: NDArray[np.int64], **options: Any) -> Any:
        calls.append((steps.tolist(), view))
        return cut_frames(frames, view, steps=steps, **options)

    monkeypatch.setattr(read_module, "cut_frames", recorded)
    dataset = ClipDataset(
        grey_manifest,
        one_stream("rgb", short_side=256, crop_size=224),
        sampling=Sampling("evenly_spaced", segments=25),
        cropping=Cropping("ten"),
    )
    clip = dataset[0]
    # fmt: off
    frames = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 24, 25, 26,
              27, 29]
    # fmt: on
    boxes = [(0, 0), (117, 0), (0, 32), (117, 32), (58, 16)]  # of 256 x 341
    expected = [View(x, y, 224, 224, flip) for flip in (False, True) for x, y in boxes]
    assert [view for _, view in calls] == expected * 25
    assert tuple(clip.data["rgb"].shape) == (250, 3, 1, 224, 224)
    assert [p for [p] in positions(clip.data["rgb"])] == np.repeat(frames, 10).tolist()


def test_a_sample_depends_on_seed_epoch_and_index_only(
    grey_manifest: Manifest, grey_store: FlowStore
) -> None:
    def make(seed: int) -> ClipDataset:
        return ClipDataset(
            grey_manifest,
            joined(RGB, FLOW),
            sampling=Sampling("random_segments", segments=2),
            cropping=Cropping("random"),
            flip=True,
            jitter=ColorJitter(),
            flow=stored(grey_store),
            seed=seed,
        )

    first, again, other = make(3), make(3), make(4)
    again[(5, 2)], again[(0, 1)]  # what was read before must not matter
    for key in ((0, 0), (7, 1)):
        for modality in ("rgb", "flow"):
            assert torch.equal(first[key].data[modality], again[key].data[modality])
    assert torch.equal(first[1].data["rgb"], first[(0, 1)].data["rgb"])
    assert torch.equal(first[-2].data["rgb"], first[(0, 1)].data["rgb"])
    samples = [first[(0, 0)], first[(1, 0)], first[(0, 3)], other[(0, 0)]]
    assert {sample.name for sample in samples} == {("c0.mp4",)}  # 3 counts around to video 0
    for a, sample in enumerate(samples):
        for b in samples[:a]:
            assert not torch.equal(sample.data["rgb"], b.data["rgb"])
    with pytest.raises(IndexError, match="3 is not one of 3 videos"):
        first[3]


def test_a_dataset_lists_the_frames_of_a_file_once(
    grey_manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = []

    def counted(decoder: Decoder) -> object:
        listed.append(decoder.path)
        return frames_of(decoder)

    monkeypatch.setattr("dualstream.video.reader.frames_of", counted)

    def make() -> ClipDataset:
        return ClipDataset(
            grey_manifest, RGB, sampling=Sampling("random_segments"), cropping=Cropping("random")
        )

    dataset = make()
    read = [dataset[epoch, index].data for epoch in range(3) for index in range(len(dataset))]
    assert len(listed) == len(dataset) == len(set(listed))
    anew = [make()[epoch, index].data for epoch in range(3) for index in range(len(dataset))]
    assert len(listed) == 4 * len(dataset)
    assert all(torch.equal(a["rgb"], b["rgb"]) for a, b in zip(read, anew, strict=True))


def test_bidirectional_reads_both_stores(
    tmp_path: Path,
    grey_manifest: Manifest,
    grey_store: FlowStore,
    write_flow: Callable[..., None],
) -> None:
    backward = FlowStore(tmp_path / "backward")
    for record in grey_manifest.records:
        write_flow(backward, record.path, record.frames - 1, offset=80, direction="backward")
    spec = one_stream(
        "flow",
        flow_method="dis",
        num_frames=4,
        stacking="bidirectional",
    )
    dataset = ClipDataset(
        grey_manifest,
        spec,
        sampling=Sampling("evenly_spaced", segments=3),
        cropping=CENTER,
        flow=stored(grey_store, backward),
    )
    fields = field_positions(dataset[0].data["flow"])
    # Starts 0, 12, 25: tau is 2, 14, 27; an offset of 80 is 40 positions.
    assert fields == [[2, 3, 41, 40], [14, 15, 53, 52], [27, 28, 66, 65]]


def test_trajectory_follows_the_motion(tmp_path: Path, write_flow: Callable[..., None]) -> None:
    # Field 0 moves everything by 16 bytes = 2.51 px to the right; field 1 is a ramp of 2 bytes a
    # column in y. Along the path, pixel x reads the ramp at x + 2.51: 5.02 bytes more.
    fields = np.full((2, 2, HEIGHT, WIDTH), 128, np.uint8)
    fields[0, 0] = 144
    fields[1, 1] = 60 + 2 * np.arange(WIDTH)
    write_flow(FlowStore(tmp_path), "a.mp4", fields)
    record = VideoRecord("a.mp4", 0, (), 3, 25.0, WIDTH, HEIGHT, "")

    def read(stacking: Any) -> torch.Tensor:
        spec = one_stream(
            "flow",
            flow_method="dis",
            num_frames=2,
            stacking=stacking,
        )
        dataset = ClipDataset(
            Manifest((record,), ("a",), tmp_path),
            spec,
            sampling=Sampling("segment_centers"),
            cropping=CENTER,
            flow=stored(FlowStore(tmp_path)),
        )
        return dataset[0].data["flow"][0].float()

    plain, followed = read("flow"), read("trajectory")
    torch.testing.assert_close(followed[:, 0], plain[:, 0])
    difference = followed[1, 1] - plain[1, 1]
    assert abs(float(difference.mean()) - 5.02) < 0.1
    assert difference.min() >= 3
    assert difference.max() <= 7


def test_frame_rates_are_resampled_by_time(grey_manifest: Manifest) -> None:
    spec = one_stream("rgb", num_frames=3, fps=12.5)
    dataset = ClipDataset(
        grey_manifest, spec, sampling=Sampling("evenly_spaced", segments=2), cropping=CENTER
    )
    # 30 frames at 25 fps are frames 0, 2, ... 28 at 12.5 fps
    assert positions(dataset[0].data["rgb"]) == [[0, 2, 4], [24, 26, 28]]


def test_flow_of_another_rate_is_refused(
    tmp_path: Path, grey_manifest: Manifest, write_flow: Callable[..., None]
) -> None:
    def at(fps: float, num_fields: int) -> ClipDataset:
        store = FlowStore(tmp_path / f"flow{fps}")
        write_flow(store, "c0.mp4", num_fields, fps=fps)
        specs = [
            one_stream("rgb", fps=12.5),
            one_stream("flow", num_frames=3, fps=12.5, flow_method="dis"),
        ]
        return ClipDataset(
            grey_manifest,
            joined(*specs),
            sampling=Sampling("evenly_spaced", segments=2),
            cropping=CENTER,
            flow=stored(store),
        )

    with pytest.raises(InputError, match=r"extracted at 25 frames a second.*wants 12\.5"):
        at(25.0, 29)[0]
    clip = at(12.5, 14)[0]  # 15 frames at that rate
    assert field_positions(clip.data["flow"]) == [[0, 1, 2], [11, 12, 13]]
    assert positions(clip.data["rgb"]) == [[0], [22]]


def test_sample_bytes_are_those_of_the_sample(
    grey_manifest: Manifest, grey_store: FlowStore
) -> None:
    def make(sampling: Sampling, cropping: Cropping) -> ClipDataset:
        return ClipDataset(
            grey_manifest,
            joined(RGB, FLOW),
            sampling=sampling,
            cropping=cropping,
            flow=stored(grey_store),
        )

    for cropping in (CENTER, Cropping("three"), Cropping("ten"), Cropping("multi_scale")):
        dataset = make(CENTERS, cropping)
        assert dataset.sample_bytes == sum(value.numel() for value in dataset[0].data.values())


def test_jitter_changes_all_snippets_alike_and_never_flow(
    grey_manifest: Manifest, grey_store: FlowStore
) -> None:
    def make(jitter: ColorJitter | None) -> ClipDataset:
        return ClipDataset(
            grey_manifest,
            joined(RGB, FLOW),
            sampling=CENTERS,
            cropping=CENTER,
            flow=stored(grey_store),
            jitter=jitter,
        )

    plain = make(None)[0]
    jittered = make(ColorJitter(brightness=0.4, contrast=0.0, saturation=0.0, hue_turns=0.0))[0]
    assert torch.equal(plain.data["flow"], jittered.data["flow"])
    before = plain.data["rgb"].float().mean(dim=(1, 2, 3, 4))
    after = jittered.data["rgb"].float().mean(dim=(1, 2, 3, 4))
    factors = after / before
    assert abs(float(factors[0]) - 1) > 0.02
    torch.testing.assert_close(factors, factors[:1].expand(3), rtol=0.03, atol=0)


def test_data_sets_one_after_the_other(grey_manifest: Manifest) -> None:
    last = Manifest(grey_manifest.records[2:], grey_manifest.classes, grey_manifest.root)
    parts = [
        ClipDataset(
            manifest, RGB, sampling=Sampling("random_segments", segments=2), cropping=CENTER
        )
        for manifest in (grey_manifest, last)
    ]
    joined = JoinedDataset(parts)
    assert len(joined) == 4
    assert joined.sample_bytes == parts[0].sample_bytes
    # Index 3 is c2.mp4 of the second, whose classes follow three others; 4 + 1 is c1.mp4 again.
    for index, part, inside, label in ((1, 0, 1, 1), (3, 1, 0, 2 + 3), (5, 0, 4, 1), (7, 1, 1, 5)):
        clip, own = joined[2, index], parts[part][2, inside]
        assert torch.equal(clip.data["rgb"], own.data["rgb"])
        assert (int(clip.label), clip.name) == (label, own.name)
