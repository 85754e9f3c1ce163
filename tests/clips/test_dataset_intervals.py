"""Samples of intervals: exactly the frames and fields of a file that is cut to them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.clips.specs import joined, one_stream, stored
from tests.clips.test_dataset import CENTER, field_positions, positions
from tests.conftest import moving_square

from dualstream.clips.data.intervals import Interval
from dualstream.clips.data.manifest import Manifest, VideoRecord
from dualstream.clips.dataset import ClipDataset
from dualstream.clips.plan import Sampling
from dualstream.errors import AnnotationError
from dualstream.flow import FlowJob, FlowStore, extract_flow
from dualstream.types import ClipSpec
from dualstream.video import write_video

EVENLY = Sampling("evenly_spaced", segments=3)
RGB = one_stream("rgb")
FLOW = one_stream("flow", num_frames=3, flow_method="dis")


def pieces(manifest: Manifest, *intervals: tuple[float, float]) -> Manifest:
    """The first video's intervals."""
    first = manifest.records[0]
    records = [replace(first, interval=Interval(*times)) for times in intervals]
    return replace(manifest, records=tuple(records))


def test_frames_are_those_that_start_inside(grey_manifest: Manifest) -> None:
    videos = pieces(grey_manifest, (0, 0.4), (0.4, 0.8), (0.41, 0.42), (1.16, 9))
    dataset = ClipDataset(videos, RGB, sampling=EVENLY, cropping=CENTER)
    assert [positions(dataset[i].data["rgb"]) for i in range(4)] == [
        [[0], [4], [9]],
        [[10], [14], [19]],
        [[10], [10], [10]],
        [[29], [29], [29]],
    ]
    assert dataset[1].name == ("c0.mp4#t=0.4,0.8",)


def test_fields_are_those_between_the_frames(
    grey_manifest: Manifest, grey_store: FlowStore
) -> None:
    videos = pieces(grey_manifest, (0.4, 0.8), (0.4, 0.52), (0.4, 0.44), (1.16, 1.2))
    flow = stored(grey_store)
    dataset = ClipDataset(videos, FLOW, sampling=EVENLY, cropping=CENTER, flow=flow)
    assert [field_positions(dataset[i].data["flow"]) for i in range(4)] == [
        [[10, 11, 12], [13, 14, 15], [16, 17, 18]],  # frames 10..19, fields 10..18
        [[10, 11, 11]] * 3,  # frames 10, 11, 12
        [[10, 10, 10]] * 3,  # frame 10 and the next one
        [[28, 28, 28]] * 3,  # frame 29 and the one before
    ]


def test_random_snippets_stay_inside(grey_manifest: Manifest, grey_store: FlowStore) -> None:
    dataset = ClipDataset(
        pieces(grey_manifest, (0.4, 0.8)),
        joined(RGB, one_stream("flow", num_frames=2, flow_method="dis")),
        sampling=Sampling("random_segments", segments=2),
        cropping=CENTER,
        flow=stored(grey_store),
    )
    seen = [dataset[epoch, 0] for epoch in range(20)]
    frames = {p for clip in seen for (p,) in positions(clip.data["rgb"])}
    fields = {p for clip in seen for row in field_positions(clip.data["flow"]) for p in row}
    assert frames <= set(range(10, 20))
    assert fields <= set(range(10, 19))
    assert len(frames) > 5


def test_an_interval_at_another_rate(grey_manifest: Manifest) -> None:
    spec = replace(RGB, fps=12.5)
    dataset = ClipDataset(pieces(grey_manifest, (0.4, 0.8)), spec, sampling=EVENLY, cropping=CENTER)
    assert positions(dataset[0].data["rgb"]) == [[10], [14], [18]]


def test_an_interval_outside_names_the_row(grey_manifest: Manifest) -> None:
    dataset = ClipDataset(
        pieces(grey_manifest, (0, 1), (1.2, 2)), RGB, sampling=EVENLY, cropping=CENTER
    )
    assert len(dataset[0].data["rgb"]) == 3
    with pytest.raises(AnnotationError, match=r"c0\.mp4: 1\.2 to 2 s lie outside .* 1\.20 s long"):
        dataset[1]


@pytest.mark.parametrize("spec", [RGB, FLOW, joined(RGB, FLOW)])
def test_the_same_as_of_a_file_that_is_cut(tmp_path: Path, spec: ClipSpec) -> None:
    frames = moving_square(30, (48, 64), step_px=1)
    frames[12:] = frames[12:, ::-1]  # the pieces look different
    parts = {"whole.mkv": frames, "cut.mkv": frames[10:20]}
    for name, part in parts.items():
        write_video(tmp_path / name, part, fps=25, codec="ffv1")
    names = list(parts)
    jobs = [FlowJob(name, str(tmp_path / name)) for name in names]
    assert {o.status for o in extract_flow(jobs, tmp_path / "flow", workers=1, method="dis")} == {
        "done"
    }
    records = tuple(
        VideoRecord(name, 0, ("train",), len(part), 25.0, 64, 48, "")
        for name, part in parts.items()
    )
    videos = Manifest(
        (replace(records[0], interval=Interval(0.4, 0.8)), records[1]), ("a",), tmp_path
    )
    flow = stored(FlowStore(tmp_path / "flow"))
    for sampling in (EVENLY, Sampling("random_segments", segments=3)):
        dataset = ClipDataset(videos, spec, sampling=sampling, cropping=CENTER, flow=flow)
        # The seed of a random draw is the place in the list: the same place for both.
        alone = replace(dataset, manifest=replace(videos, records=(records[1],)))
        piece, cut = dataset[0].data, alone[0].data
        assert piece.keys() == cut.keys()
        for stream, values in piece.items():
            assert torch.equal(values, cut[stream]), stream
            assert len(np.unique(values.numpy())) > 5
