"""Samples read from real files whose pictures and flow say where they come from.

Frame t of the videos is grey level 6 t (+ a ramp where said); field t of the stores is byte
100 + 2 t in x and 60 + 2 t in y, so a value tells its position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dualstream.clips import views as views_module
from dualstream.clips.dataset import ClipDataset, Cropping, Sampling
from dualstream.clips.geometry import View
from dualstream.clips.manifest import Manifest, VideoRecord
from dualstream.clips.transforms import ColorJitter
from dualstream.errors import (
    CorruptVideoError,
    FlowStoreError,
    InputError,
    UnknownNameError,
    VideoNotFoundError,
)
from dualstream.flow import FlowMeta, FlowStore
from dualstream.types import InputSpec
from dualstream.video import write_video

HEIGHT, WIDTH = 48, 64
RGB = InputSpec("rgb", short_side=48, crop_size=32)
FLOW = InputSpec("flow", num_frames=3, short_side=48, crop_size=32, mean=(0.0, 0.0), std=(1.0, 1.0))
CENTERS = Sampling("segment_centers", segments=3)
CENTER = Cropping("center")


def grey_frames(count: int) -> NDArray[np.uint8]:
    frames = np.empty((count, HEIGHT, WIDTH, 3), np.uint8)
    frames[...] = (6 * np.arange(count))[:, None, None, None]
    return frames


def counting_fields(count: int, *, offset: int = 0) -> NDArray[np.uint8]:
    fields = np.empty((count, 2, HEIGHT, WIDTH), np.uint8)
    fields[:, 0] = (100 + offset + 2 * np.arange(count))[:, None, None]
    fields[:, 1] = (60 + offset + 2 * np.arange(count))[:, None, None]
    return fields


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Three videos of 30, 12 and 4 grey frames, 25 fps."""
    records = []
    for label, count in enumerate((30, 12, 4)):
        write_video(tmp_path / f"videos/c{label}.mp4", grey_frames(count), fps=25)
        records.append(
            VideoRecord(f"c{label}.mp4", label, ("train",), count, 25.0, WIDTH, HEIGHT, "")
        )
    return Manifest(tuple(records), ("a", "b", "c"), tmp_path / "videos")


@pytest.fixture
def store(tmp_path: Path, manifest: Manifest) -> FlowStore:
    """Forward flow of those videos."""
    store = FlowStore(tmp_path / "forward")
    for record in manifest.records:
        store.write(record.path, [counting_fields(record.frames - 1)], meta(record.path))
    return store


def meta(source: str, **changes: Any) -> FlowMeta:
    return FlowMeta(**({"method": "dis", "fps": 25.0, "source": source, "version": "0"} | changes))


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


def test_clip_has_views_label_and_name(manifest: Manifest, store: FlowStore) -> None:
    dataset = ClipDataset(
        manifest, [RGB, FLOW], sampling=CENTERS, cropping=CENTER, flow_store=store
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
        (RGB, Sampling("dense", segments=2, span=8), [[11], [15]]),
        (
            InputSpec("rgb", num_frames=4, frame_stride=3, short_side=48, crop_size=32),
            Sampling("evenly_spaced", segments=2),
            [[0, 3, 6, 9], [20, 23, 26, 29]],
        ),
        (
            InputSpec("rgb", num_frames=8, short_side=48, crop_size=32),
            Sampling("windows", step=8),
            [list(range(start, start + 8)) for start in (0, 8, 16, 22)],
        ),
        (
            InputSpec("rgb_diff", num_frames=2, short_side=48, crop_size=32),
            Sampling("evenly_spaced", segments=2),
            [[0, 1, 2], [27, 28, 29]],
        ),
    ],
)
def test_frames_are_those_of_the_sampler(
    manifest: Manifest, spec: InputSpec, sampling: Sampling, expected: list[list[int]]
) -> None:
    dataset = ClipDataset(manifest, [spec], sampling=sampling, cropping=CENTER)
    assert positions(dataset[0].data[spec.modality]) == expected


def test_flow_fields_are_those_of_the_sampler(manifest: Manifest, store: FlowStore) -> None:
    # 29 fields, snippets of 3: 27 starts, tick 9
    dataset = ClipDataset(manifest, [FLOW], sampling=CENTERS, cropping=CENTER, flow_store=store)
    assert field_positions(dataset[0].data["flow"]) == [[4, 5, 6], [13, 14, 15], [22, 23, 24]]


def test_flow_views_come_snippet_by_snippet(manifest: Manifest, store: FlowStore) -> None:
    dataset = ClipDataset(
        manifest,
        [FLOW],
        sampling=Sampling("evenly_spaced", segments=2),
        cropping=Cropping("three"),
        flow_store=store,
    )
    fields = field_positions(dataset[0].data["flow"])
    assert fields == [[0, 1, 2]] * 3 + [[26, 27, 28]] * 3


def test_a_short_video_repeats_its_end(manifest: Manifest, store: FlowStore) -> None:
    spec = InputSpec("rgb", num_frames=6, short_side=48, crop_size=32)
    dataset = ClipDataset(
        manifest, [spec, FLOW], sampling=CENTERS, cropping=CENTER, flow_store=store
    )
    clip = dataset[2]  # 4 frames, 3 fields
    assert positions(clip.data["rgb"]) == [[0, 1, 2, 3, 3, 3]] * 3
    assert field_positions(clip.data["flow"]) == [[0, 1, 2]] * 3


def test_both_modalities_start_at_the_same_frame(manifest: Manifest, store: FlowStore) -> None:
    dataset = ClipDataset(
        manifest,
        [RGB, FLOW],
        sampling=Sampling("random_segments", segments=3),
        cropping=CENTER,
        flow_store=store,
    )
    starts = set()
    for epoch in range(12):
        clip = dataset[(epoch, 0)]
        frames = [snippet[0] for snippet in positions(clip.data["rgb"])]
        fields = [snippet[0] for snippet in field_positions(clip.data["flow"])]
        assert frames == fields
        starts.add(tuple(frames))
    assert len(starts) > 6


def test_both_modalities_share_box_and_flip(tmp_path: Path) -> None:
    # Every picture and field holds a ramp of 3 levels a column and 1 a row; the store is half as
    # large as the video, so equal boxes give equal ramps to within a step of the coarser grid.
    ramp = np.arange(WIDTH)[None, :] * 3 + np.arange(HEIGHT)[:, None]
    frames = np.repeat(ramp.astype(np.uint8)[None, ..., None], 6, axis=0).repeat(3, axis=3)
    write_video(tmp_path / "ramp.mp4", frames, fps=25, crf=5)
    half = frames.reshape(6, HEIGHT // 2, 2, WIDTH // 2, 2, 3)[:5].mean(axis=(2, 4))
    store = FlowStore(tmp_path)
    store.write("ramp.mp4", [half[..., :2].transpose(0, 3, 1, 2).astype(np.uint8)], meta("ramp"))
    record = VideoRecord("ramp.mp4", 0, (), 6, 25.0, WIDTH, HEIGHT, "")
    dataset = ClipDataset(
        Manifest((record,), ("a",), tmp_path),
        [RGB, FLOW],
        sampling=Sampling("random_segments"),
        cropping=Cropping("multi_scale"),
        flip=True,
        flow_store=store,
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


def test_twenty_five_times_ten_views(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's test: exact positions and boxes, snippet by snippet, box by box."""
    calls: list[tuple[list[int], View]] = []
    cut_frames = views_module.cut_frames

    def recorded(frames: Any, view: View, *, steps: NDArray[np.int64], **options: Any) -> Any:
        calls.append((steps.tolist(), view))
        return cut_frames(frames, view, steps=steps, **options)

    monkeypatch.setattr(views_module, "cut_frames", recorded)
    dataset = ClipDataset(
        manifest,
        [InputSpec("rgb", short_side=256, crop_size=224)],
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
    manifest: Manifest, store: FlowStore
) -> None:
    def make(seed: int) -> ClipDataset:
        return ClipDataset(
            manifest,
            [RGB, FLOW],
            sampling=Sampling("random_segments", segments=2),
            cropping=Cropping("random"),
            flip=True,
            jitter=ColorJitter(),
            flow_store=store,
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


def test_bidirectional_reads_both_stores(
    tmp_path: Path, manifest: Manifest, store: FlowStore
) -> None:
    backward = FlowStore(tmp_path / "backward")
    for record in manifest.records:
        fields = counting_fields(record.frames - 1, offset=80)
        backward.write(record.path, [fields], meta(record.path, direction="backward"))
    spec = InputSpec(
        "flow",
        num_frames=4,
        short_side=48,
        crop_size=32,
        mean=(0, 0),
        std=(1, 1),
        stacking="bidirectional",
    )
    dataset = ClipDataset(
        manifest,
        [spec],
        sampling=Sampling("evenly_spaced", segments=3),
        cropping=CENTER,
        flow_store=store,
        backward_store=backward,
    )
    fields = field_positions(dataset[0].data["flow"])
    # Starts 0, 12, 25: tau is 2, 14, 27; an offset of 80 is 40 positions.
    assert fields == [[2, 3, 41, 40], [14, 15, 53, 52], [27, 28, 66, 65]]


def test_trajectory_follows_the_motion(tmp_path: Path) -> None:
    # Field 0 moves everything by 16 bytes = 2.51 px to the right; field 1 is a ramp of 2 bytes a
    # column in y. Along the path, pixel x reads the ramp at x + 2.51: 5.02 bytes more.
    fields = np.full((2, 2, HEIGHT, WIDTH), 128, np.uint8)
    fields[0, 0] = 144
    fields[1, 1] = 60 + 2 * np.arange(WIDTH)
    FlowStore(tmp_path).write("a.mp4", [fields], meta("a.mp4"))
    record = VideoRecord("a.mp4", 0, (), 3, 25.0, WIDTH, HEIGHT, "")

    def read(stacking: Any) -> torch.Tensor:
        spec = InputSpec(
            "flow",
            num_frames=2,
            short_side=48,
            crop_size=32,
            mean=(0, 0),
            std=(1, 1),
            stacking=stacking,
        )
        dataset = ClipDataset(
            Manifest((record,), ("a",), tmp_path),
            [spec],
            sampling=Sampling("segment_centers"),
            cropping=CENTER,
            flow_store=FlowStore(tmp_path),
        )
        return dataset[0].data["flow"][0].float()

    plain, followed = read("flow"), read("trajectory")
    torch.testing.assert_close(followed[:, 0], plain[:, 0])
    difference = followed[1, 1] - plain[1, 1]
    assert abs(float(difference.mean()) - 5.02) < 0.1
    assert difference.min() >= 3
    assert difference.max() <= 7


def test_frame_rates_are_resampled_by_time(manifest: Manifest) -> None:
    spec = InputSpec("rgb", num_frames=3, fps=12.5, short_side=48, crop_size=32)
    dataset = ClipDataset(
        manifest, [spec], sampling=Sampling("evenly_spaced", segments=2), cropping=CENTER
    )
    # 30 frames at 25 fps are frames 0, 2, ... 28 at 12.5 fps
    assert positions(dataset[0].data["rgb"]) == [[0, 2, 4], [24, 26, 28]]


def test_flow_of_another_rate_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    def at(fps: float, num_fields: int) -> ClipDataset:
        store = FlowStore(tmp_path / f"flow{fps}")
        store.write("c0.mp4", [counting_fields(num_fields)], meta("c0.mp4", fps=fps))
        specs = [
            InputSpec("rgb", fps=12.5, short_side=48, crop_size=32),
            InputSpec(
                "flow", num_frames=3, fps=12.5, short_side=48, crop_size=32, mean=(0, 0), std=(1, 1)
            ),
        ]
        return ClipDataset(
            manifest,
            specs,
            sampling=Sampling("evenly_spaced", segments=2),
            cropping=CENTER,
            flow_store=store,
        )

    with pytest.raises(InputError, match=r"extracted at 25 frames a second.*wants 12\.5"):
        at(25.0, 29)[0]
    clip = at(12.5, 14)[0]  # 15 frames at that rate
    assert field_positions(clip.data["flow"]) == [[0, 1, 2], [11, 12, 13]]
    assert positions(clip.data["rgb"]) == [[0], [22]]


def test_sample_bytes_are_those_of_the_sample(manifest: Manifest, store: FlowStore) -> None:
    def make(sampling: Sampling, cropping: Cropping) -> ClipDataset:
        return ClipDataset(
            manifest, [RGB, FLOW], sampling=sampling, cropping=cropping, flow_store=store
        )

    for cropping in (CENTER, Cropping("three"), Cropping("ten"), Cropping("multi_scale")):
        dataset = make(CENTERS, cropping)
        assert dataset.sample_bytes == sum(value.numel() for value in dataset[0].data.values())
    assert make(Sampling("windows"), CENTER).sample_bytes is None


def test_jitter_changes_all_snippets_alike_and_never_flow(
    manifest: Manifest, store: FlowStore
) -> None:
    def make(jitter: ColorJitter | None) -> ClipDataset:
        return ClipDataset(
            manifest,
            [RGB, FLOW],
            sampling=CENTERS,
            cropping=CENTER,
            flow_store=store,
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


# ---- bad input ----


def flow_dataset(manifest: Manifest, store: FlowStore, **options: Any) -> ClipDataset:
    return ClipDataset(
        manifest, [FLOW], sampling=CENTERS, cropping=CENTER, flow_store=store, **options
    )


def test_missing_flow_names_the_command(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(FlowStoreError, match=r"c1\.mp4.*`dualstream flow`"):
        flow_dataset(manifest, FlowStore(tmp_path / "empty"))[1]


@pytest.mark.parametrize(
    ("num_fields", "changes", "message"),
    [
        (29, {"bound_px": 15.0}, r"bound_px 15\.0.*input 20\.0"),
        (29, {"direction": "backward"}, "direction 'backward'.*input 'forward'"),
        (29, {"method": "tvl1"}, "method 'tvl1'.*input 'dis'"),
        (28, {}, r"holds 28 fields, but c0\.mp4 has 30 frames"),
    ],
)
def test_flow_made_otherwise_is_refused(
    tmp_path: Path, manifest: Manifest, num_fields: int, changes: dict[str, Any], message: str
) -> None:
    store = FlowStore(tmp_path / "other")
    store.write("c0.mp4", [counting_fields(num_fields)], meta("c0.mp4", **changes))
    with pytest.raises(FlowStoreError, match=message):
        flow_dataset(manifest, store)[0]


def test_flow_of_another_video_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    store = FlowStore(tmp_path / "other")
    store.write("c0.mp4", [counting_fields(29)], meta("c0.mp4", source_sha256="ab" * 32))
    record = VideoRecord("c0.mp4", 0, (), 30, 25.0, WIDTH, HEIGHT, "cd" * 32)
    changed = Manifest((record,), manifest.classes, manifest.root)
    with pytest.raises(FlowStoreError, match=r"c0\.mp4"):
        flow_dataset(changed, store)[0]


def test_one_frame_has_no_flow(tmp_path: Path, store: FlowStore) -> None:
    record = VideoRecord("c0.mp4", 0, (), 1, 25.0, WIDTH, HEIGHT, "")
    with pytest.raises(FlowStoreError, match=r"c0\.mp4 has 1 frame, and flow needs 2"):
        flow_dataset(Manifest((record,), ("a",), tmp_path), store)[0]


def test_broken_and_missing_videos_are_named(manifest: Manifest) -> None:
    dataset = ClipDataset(manifest, [RGB], sampling=CENTERS, cropping=CENTER)
    (manifest.root / "c0.mp4").write_bytes(b"")
    (manifest.root / "c1.mp4").unlink()
    with pytest.raises(CorruptVideoError, match=r"c0\.mp4"):
        dataset[0]
    with pytest.raises(VideoNotFoundError, match=r"c1\.mp4"):
        dataset[1]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([], "one spec for each modality"),
        ([RGB, RGB], "one spec for each modality"),
        ([RGB, InputSpec("rgb_diff", short_side=50, crop_size=32)], "short_side differ"),
        ([RGB, InputSpec("rgb_diff", short_side=48, crop_size=30)], "crop_size differ"),
        ([RGB, InputSpec("rgb_diff", short_side=48, crop_size=32, fps=5.0)], "fps differ"),
        ([FLOW], "flow_store"),
    ],
)
def test_specs_must_fit_together(
    manifest: Manifest, specs: Sequence[InputSpec], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        ClipDataset(manifest, specs, sampling=CENTERS, cropping=CENTER)


def test_misuse_is_named(manifest: Manifest, store: FlowStore) -> None:
    make: Callable[..., ClipDataset] = flow_dataset
    with pytest.raises(InputError, match="no video"):
        make(Manifest((), ("a",), manifest.root), store)
    with pytest.raises(InputError, match="seed"):
        make(manifest, store, seed=-1)
    both_ways = InputSpec("flow", num_frames=2, mean=(0, 0), std=(1, 1), stacking="bidirectional")
    with pytest.raises(InputError, match="--direction backward"):
        ClipDataset(manifest, [both_ways], sampling=CENTERS, cropping=CENTER, flow_store=store)
    with pytest.raises(UnknownNameError, match="Did you mean 'random_segments'"):
        Sampling("random_segment")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="Did you mean 'center'"):
        Cropping("centre")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="positions"):
        Cropping("multi_scale", positions="four")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"Sampling\.segments must be at least 1"):
        Sampling("evenly_spaced", segments=0)
