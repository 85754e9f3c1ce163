"""What a data set says about videos, flow and options that it cannot use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.clips.specs import joined, one_stream, stored

from dualstream.clips.data.manifest import Manifest, VideoRecord
from dualstream.clips.dataset import ClipDataset
from dualstream.clips.plan import Cropping, Sampling
from dualstream.errors import (
    CorruptVideoError,
    FlowStoreError,
    InputError,
    UnknownNameError,
    VideoNotFoundError,
)
from dualstream.flow import FlowStore

HEIGHT, WIDTH = 48, 64
RGB = one_stream("rgb")
FLOW = one_stream("flow", num_frames=3, flow_method="dis")
CENTERS = Sampling("segment_centers", segments=3)
CENTER = Cropping("center")


def flow_dataset(manifest: Manifest, store: FlowStore, **options: Any) -> ClipDataset:
    return ClipDataset(
        manifest, FLOW, sampling=CENTERS, cropping=CENTER, flow=stored(store), **options
    )


def test_missing_flow_names_the_command(tmp_path: Path, grey_manifest: Manifest) -> None:
    with pytest.raises(FlowStoreError, match=r"c1\.mp4.*`dualstream flow`"):
        flow_dataset(grey_manifest, FlowStore(tmp_path / "empty"))[1]


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
    tmp_path: Path,
    grey_manifest: Manifest,
    write_flow: Callable[..., None],
    num_fields: int,
    changes: dict[str, Any],
    message: str,
) -> None:
    store = FlowStore(tmp_path / "other")
    write_flow(store, "c0.mp4", num_fields, **changes)
    with pytest.raises(FlowStoreError, match=message):
        flow_dataset(grey_manifest, store)[0]


def test_flow_of_another_video_is_refused(
    tmp_path: Path, grey_manifest: Manifest, write_flow: Callable[..., None]
) -> None:
    store = FlowStore(tmp_path / "other")
    write_flow(store, "c0.mp4", 29, source_sha256="ab" * 32)
    record = VideoRecord("c0.mp4", 0, (), 30, 25.0, WIDTH, HEIGHT, "cd" * 32)
    changed = Manifest((record,), grey_manifest.classes, grey_manifest.root)
    with pytest.raises(FlowStoreError, match=r"c0\.mp4"):
        flow_dataset(changed, store)[0]


def test_one_frame_has_no_flow(tmp_path: Path, grey_store: FlowStore) -> None:
    record = VideoRecord("c0.mp4", 0, (), 1, 25.0, WIDTH, HEIGHT, "")
    with pytest.raises(FlowStoreError, match=r"c0\.mp4 has 1 frame, and flow needs 2"):
        flow_dataset(Manifest((record,), ("a",), tmp_path), grey_store)[0]


def test_broken_and_missing_videos_are_named(grey_manifest: Manifest) -> None:
    dataset = ClipDataset(grey_manifest, RGB, sampling=CENTERS, cropping=CENTER)
    (grey_manifest.root / "c0.mp4").write_bytes(b"")
    (grey_manifest.root / "c1.mp4").unlink()
    with pytest.raises(CorruptVideoError, match=r"c0\.mp4"):
        dataset[0]
    with pytest.raises(VideoNotFoundError, match=r"c1\.mp4"):
        dataset[1]


def test_a_stream_of_flow_needs_a_store(grey_manifest: Manifest) -> None:
    with pytest.raises(InputError, match="'flow' reads flow and has no flow store"):
        ClipDataset(grey_manifest, joined(RGB, FLOW), sampling=CENTERS, cropping=CENTER)


def test_misuse_is_named(grey_manifest: Manifest, grey_store: FlowStore) -> None:
    make: Callable[..., ClipDataset] = flow_dataset
    with pytest.raises(InputError, match="no video"):
        make(Manifest((), ("a",), grey_manifest.root), grey_store)
    with pytest.raises(InputError, match="seed"):
        make(grey_manifest, grey_store, seed=-1)
    both_ways = one_stream("flow", num_frames=2, stacking="bidirectional")
    with pytest.raises(InputError, match="--direction backward"):
        ClipDataset(
            grey_manifest, both_ways, sampling=CENTERS, cropping=CENTER, flow=stored(grey_store)
        )
    with pytest.raises(UnknownNameError, match="Did you mean 'random_segments'"):
        Sampling("random_segment")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="Did you mean 'center'"):
        Cropping("centre")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"Sampling\.segments must be at least 1"):
        Sampling("evenly_spaced", segments=0)
