"""Clips of the videos of a manifest, for training and for testing, of one modality or several."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch.utils.data import Dataset

from dualstream.clips.geometry import (
    CornerPositions,
    View,
    center_crop,
    multi_scale_crop,
    random_crop,
    reference_size,
    ten_crops,
    three_crops,
)
from dualstream.clips.manifest import Manifest, VideoRecord
from dualstream.clips.samplers import (
    Indices,
    covered,
    dense_clip_starts,
    evenly_spaced_starts,
    segment_starts_center,
    segment_starts_random,
    window_starts,
)
from dualstream.clips.transforms import ColorJitter
from dualstream.clips.views import (
    ViewPlan,
    bidirectional_views,
    flow_views,
    frame_views,
    steps_read,
)
from dualstream.errors import FlowStoreError, InputError, UnknownNameError
from dualstream.flow import FlowFile, FlowFolder, FlowStore
from dualstream.types import Clip, InputSpec
from dualstream.video import VideoReader, frame_indices_at_rate

SampleKey = tuple[int, int]
"""(epoch, index): what is drawn at random for a sample depends on these and the seed only."""

SamplingKind = Literal["random_segments", "segment_centers", "evenly_spaced", "dense", "windows"]
CroppingKind = Literal["center", "random", "multi_scale", "three", "ten"]


@dataclass(frozen=True)
class Sampling:
    """Which snippets of a video form a sample."""

    kind: SamplingKind
    segments: int = 1
    """Snippets: one a segment, evenly spaced ones, or those inside a dense window; not used by
    "windows", which takes all."""
    random: bool = False
    """"dense" only: put the window at a random place instead of the middle."""
    span: int = 64
    """"dense" only: positions of the window that the snippets are spread over."""
    step: int = 1
    """"windows" only: positions between the starts of two windows."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(SamplingKind):
            raise UnknownNameError("sampling", self.kind, get_args(SamplingKind))
        for name in ("segments", "span", "step"):
            if getattr(self, name) < 1:
                raise InputError(f"Sampling.{name} must be at least 1, got {getattr(self, name)}.")

    def starts(self, num_frames: int, *, length: int, rng: np.random.Generator) -> Indices:
        """Starts of the snippets in a video of `num_frames` positions; see `clips.samplers`."""
        if self.kind == "random_segments":
            return segment_starts_random(num_frames, segments=self.segments, length=length, rng=rng)
        if self.kind == "segment_centers":
            return segment_starts_center(num_frames, segments=self.segments, length=length)
        if self.kind == "evenly_spaced":
            return evenly_spaced_starts(num_frames, count=self.segments, length=length)
        if self.kind == "dense":
            return dense_clip_starts(
                num_frames,
                segments=self.segments,
                length=length,
                span=self.span,
                rng=rng if self.random else None,
            )
        return window_starts(num_frames, length=length, step=self.step)


@dataclass(frozen=True)
class Cropping:
    """Which boxes of the picture form the views of each snippet."""

    kind: CroppingKind
    scales: tuple[float, ...] = (1, 0.875, 0.75, 0.66)
    """"multi_scale" only: sides as parts of the short side."""
    max_distort: int = 1
    """"multi_scale" only: how many places of `scales` width and height may lie apart."""
    positions: CornerPositions = "five"
    """"multi_scale" only: where the box may lie."""
    zoom: tuple[float, float] = (1.0, 1.0)
    """"random" only: range of the factor by which the picture is enlarged before it is cut."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(CroppingKind):
            raise UnknownNameError("cropping", self.kind, get_args(CroppingKind))
        if self.positions not in get_args(CornerPositions):
            raise UnknownNameError("positions", self.positions, get_args(CornerPositions))

    def views(
        self, reference: tuple[int, int], *, size: int, rng: np.random.Generator
    ) -> tuple[View, ...]:
        """Boxes on a reference grid of (H, W); see `clips.geometry`."""
        height, width = reference
        if self.kind == "center":
            return (center_crop(height, width, size=size),)
        if self.kind == "random":
            return (random_crop(height, width, size=size, rng=rng, zoom=self.zoom),)
        if self.kind == "three":
            return three_crops(height, width, size=size)
        if self.kind == "ten":
            return ten_crops(height, width, size=size)
        return (
            multi_scale_crop(
                height,
                width,
                size=size,
                rng=rng,
                scales=self.scales,
                max_distort=self.max_distort,
                positions=self.positions,
            ),
        )


class ClipDataset(Dataset[Clip]):
    """One sample a video: V = snippets x boxes views of each modality, at the same places.

    `dataset[(epoch, index)]`, or `dataset[index]` for epoch 0, gives a `Clip` with data
    (V, C, T, H, W) uint8, snippet by snippet and inside a snippet box by box, and the label. T is
    num_frames, one more for rgb_diff. Indices of a key beyond the last video count around: they
    are further draws of the same videos.
    """

    def __init__(
        self,
        manifest: Manifest,
        specs: Sequence[InputSpec],
        *,
        sampling: Sampling,
        cropping: Cropping,
        flip: bool = False,
        jitter: ColorJitter | None = None,
        flow_store: FlowStore | None = None,
        backward_store: FlowStore | None = None,
        seed: int = 0,
    ) -> None:
        """Describe the samples; no file is opened yet.

        Args:
            manifest: the videos.
            specs: one a modality, with the same short_side, crop_size and fps.
            sampling: which snippets.
            cropping: which boxes.
            flip: mirror half of the samples left to right, at random.
            jitter: random change of colours of rgb and rgb_diff.
            flow_store: where flow is read from; needed for flow.
            backward_store: flow from each frame to the one before; needed for bi-directional
                stacking.
            seed: of all that is random, from 0.

        Raises:
            InputError: no video, specs that do not fit together, or a store that is missing.
        """
        self.manifest = manifest
        self.specs = {spec.modality: spec for spec in specs}
        self.sampling = sampling
        self.cropping = cropping
        self.flip = flip
        self.jitter = jitter
        self.flow_store = flow_store
        self.backward_store = backward_store
        self.seed = seed
        _check_specs(specs)
        if not manifest.records:
            raise InputError("The manifest has no video: there is nothing to make clips of.")
        if seed < 0:
            raise InputError(f"seed must be at least 0, got {seed}.")
        flow = self.specs.get("flow")
        if flow is not None and flow_store is None:
            raise InputError("Clips of flow need flow_store; `dualstream flow` writes one.")
        if flow is not None and flow.stacking == "bidirectional" and backward_store is None:
            raise InputError(
                "Bi-directional stacking needs backward_store, a flow store written with "
                "`dualstream flow --direction backward`."
            )
        self._short_side, self._crop_size = specs[0].short_side, specs[0].crop_size
        self._fps = specs[0].fps

    def __len__(self) -> int:
        return len(self.manifest.records)

    @property
    def labels(self) -> tuple[int, ...]:
        """Class of each video."""
        return tuple(record.label for record in self.manifest.records)

    @property
    def sample_bytes(self) -> int | None:
        """Size of one sample; None where it depends on the video's length ("windows")."""
        if self.sampling.kind == "windows":
            return None
        views = self.sampling.segments * {"three": 3, "ten": 10}.get(self.cropping.kind, 1)
        planes = sum(spec.channels * steps_read(spec) for spec in self.specs.values())
        return views * planes * self._crop_size**2

    def __getitem__(self, key: SampleKey | int) -> Clip:
        """Read one sample.

        Raises:
            IndexError: an index (not a key) beyond the last video.
            InputError: stored flow does not fit the spec.
            VideoError: the video cannot be read.
            FlowStoreError: its flow is missing, broken or of another video.
        """
        if isinstance(key, int):
            if not -len(self) <= key < len(self):
                raise IndexError(f"{key} is not one of {len(self)} videos.")
            key = (0, key % len(self))
        epoch, index = key
        record = self.manifest.records[index % len(self)]
        rng = np.random.default_rng([self.seed, epoch, index])
        return Clip(
            data=self._read(record, rng), label=torch.tensor(record.label), name=(record.path,)
        )

    def _read(self, record: VideoRecord, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        with ExitStack() as files:
            shown: Indices = np.arange(record.frames)
            num_fields = record.frames - 1
            if self.specs.keys() - {"flow"}:
                video = files.enter_context(VideoReader(self.manifest.video_path(record)))
                if self._fps is not None:
                    shown = frame_indices_at_rate(video.pts_seconds, self._fps)
            if "flow" in self.specs:
                fields = self._open_flow(record, files, direction="forward")
                num_fields = fields.num_fields
                if self.specs["flow"].stacking == "bidirectional":
                    back = self._open_flow(record, files, direction="backward")
            plan = self._plan(record, rng, num_frames=len(shown), num_fields=num_fields)
            data: dict[str, torch.Tensor] = {}
            for modality, spec in self.specs.items():
                if modality != "flow":
                    data[modality] = frame_views(video, shown, plan, spec)
                elif spec.stacking == "bidirectional":
                    data[modality] = bidirectional_views(fields, back, plan, spec)
                else:
                    data[modality] = flow_views(fields, plan, spec)
            return data

    def _open_flow(
        self, record: VideoRecord, files: ExitStack, *, direction: Literal["forward", "backward"]
    ) -> FlowFile | FlowFolder:
        store = self.flow_store if direction == "forward" else self.backward_store
        assert store is not None  # checked by __init__
        if record.frames < 2:
            raise FlowStoreError(
                f"{record.path} has 1 frame, and flow needs 2. Leave the video out of the manifest."
            )
        file = store.open(record.path, source_sha256=record.sha256 or None)
        files.callback(file.close)
        _check_flow(file, record, self.specs["flow"], direction=direction)
        return file

    def _plan(
        self, record: VideoRecord, rng: np.random.Generator, *, num_frames: int, num_fields: int
    ) -> ViewPlan:
        positions, lengths = [], []
        for modality, spec in self.specs.items():
            positions.append(num_fields if modality == "flow" else num_frames)
            lengths.append(covered(steps_read(spec), stride=spec.frame_stride))
        starts = self.sampling.starts(min(positions), length=max(lengths), rng=rng)
        reference = reference_size(record.height, record.width, short_side=self._short_side)
        views = self.cropping.views(reference, size=self._crop_size, rng=rng)
        if self.flip:
            flip = bool(rng.integers(2))
            views = tuple(view.mirrored(flip) for view in views)
        color = None if self.jitter is None else self.jitter.draw(rng)
        return ViewPlan(starts, views, reference, color)


def _check_specs(specs: Sequence[InputSpec]) -> None:
    modalities = [spec.modality for spec in specs]
    if not modalities or len(set(modalities)) < len(modalities):
        raise InputError(f"A clip needs one spec for each modality, got {modalities}.")
    for name in ("short_side", "crop_size", "fps"):
        values = [getattr(spec, name) for spec in specs]
        if len(set(values)) > 1:
            raise InputError(
                f"The modalities of a clip share boxes and positions, but their {name} differ: "
                f"{dict(zip(modalities, values, strict=True))}."
            )


def _check_flow(
    file: FlowFile | FlowFolder, record: VideoRecord, spec: InputSpec, *, direction: str
) -> None:
    """Whether stored flow is what the spec and the manifest say."""
    meta = file.meta
    expected = {"direction": direction, "bound_px": spec.flow_bound_px}
    if meta.method != "unknown":
        expected["method"] = spec.flow_method
    for name, value in expected.items():
        if getattr(meta, name) != value:
            raise FlowStoreError(
                f"{file.path}: stored flow has {name} {getattr(meta, name)!r}, the network's "
                f"input {value!r}. Extract it anew with `dualstream flow`, or change the recipe."
            )
    if spec.fps is None:
        if meta.num_fields != record.frames - 1:
            raise FlowStoreError(
                f"{file.path}: holds {meta.num_fields} fields, but {record.path} has "
                f"{record.frames} frames. Extract it anew with `dualstream flow --overwrite`."
            )
    elif abs(meta.fps - spec.fps) > 0.01 * spec.fps:
        raise InputError(
            f"{file.path}: flow was extracted at {meta.fps:g} frames a second, but the network "
            f"wants {spec.fps:g}: stored fields cannot be resampled, as each spans one frame of "
            "its own rate. Extract flow from videos of that rate."
        )
