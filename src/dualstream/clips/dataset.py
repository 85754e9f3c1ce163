"""Clips of the videos of a manifest, for training and for testing."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, replace
from itertools import accumulate

import numpy as np
import torch
from torch.utils.data import Dataset

from dualstream.clips.data.groups import mirrored_labels
from dualstream.clips.data.manifest import Manifest, VideoRecord
from dualstream.clips.plan import Cropping, Sampling, plan_clip
from dualstream.clips.read import read_clip
from dualstream.clips.transforms import ColorJitter, Indices
from dualstream.errors import AnnotationError, FlowStoreError, InputError, check_least
from dualstream.flow import FlowFile, FlowFolder, FlowStore, StoredFlow
from dualstream.flow.methods.params import Direction
from dualstream.types import Clip, ClipSpec, Labels
from dualstream.video import VideoReader, frame_indices_at_rate
from dualstream.video.index import FrameIndex
from dualstream.video.times import frames_between

SampleKey = tuple[int, int]
"""(epoch, index): what is drawn at random for a sample depends on these and the seed only."""

MOST_FRAMES_LISTED = 250_000
"""Frames whose place in their files a dataset remembers, about 100 bytes each."""


@dataclass(frozen=True)
class FlowStores:
    """Where the flow of one stream is stored."""

    forward: FlowStore
    backward: FlowStore | None = None
    """Flow from each frame to the one before; needed for bi-directional stacking."""


@dataclass(eq=False)
class ClipDataset(Dataset[Clip]):
    """One sample a row of the manifest: V = snippets x boxes views of each stream, alike in place.

    `dataset[(epoch, index)]`, or `dataset[index]` for epoch 0, gives a `Clip` with data
    (V, C, T, H, W) uint8, snippet by snippet and inside a snippet box by box, and the label. T is
    num_frames, one more for rgb_diff. Indices of a key beyond the last video count around: they
    are further draws of the same videos. No file is opened before.

    Where a picture is mirrored that shows one of a pair of classes such as left and right
    (`mirrored_classes`), its label becomes the other's.

    Raises:
        InputError: no video, or a store that is missing.
    """

    manifest: Manifest
    spec: ClipSpec
    _: KW_ONLY
    sampling: Sampling
    cropping: Cropping
    flip: bool = False
    """Mirror half of the samples left to right, at random."""
    jitter: ColorJitter | None = None
    """Random change of colours of the streams that read frames."""
    flow: Mapping[str, FlowStores] | None = None
    """Stream -> its flow stores, for every stream that reads flow."""
    seed: int = 0
    """Of all that is random, from 0."""
    labels_each: Labels = "one"
    """Whether samples have `Clip.targets` too, for their several classes."""

    def __post_init__(self) -> None:
        if not self.manifest.records:
            raise InputError("The manifest has no video: there is nothing to make clips of.")
        check_least(0, seed=self.seed)
        self._label_when_mirrored = mirrored_labels(self.manifest.classes)
        self._frame_lists: dict[str, FrameIndex] = {}
        self._num_frames_listed = 0
        self._frames_inside: dict[str, range] = {}
        self._intervals_of: defaultdict[str, list[VideoRecord]] = defaultdict(list)
        for record in self.manifest.records:
            if record.interval is not None:
                self._intervals_of[record.path].append(record)
        self._stores: dict[tuple[str, Direction], FlowStore] = {}
        for name, stream in self.spec.flow_streams.items():
            stores = (self.flow or {}).get(name)
            if stores is None:
                raise InputError(
                    f"Stream {name!r} reads flow and has no flow store; `dualstream flow` writes "
                    "one."
                )
            self._stores[name, "forward"] = stores.forward
            if stream.stacking != "bidirectional":
                continue
            if stores.backward is None:
                raise InputError(
                    f"Bi-directional stacking of stream {name!r} needs backward flow too: write it "
                    "with `dualstream flow --direction backward`."
                )
            self._stores[name, "backward"] = stores.backward

    def __len__(self) -> int:
        return len(self.manifest.records)

    @property
    def labels(self) -> tuple[int, ...]:
        """Class of each video."""
        return tuple(record.label for record in self.manifest.records)

    @property
    def sample_bytes(self) -> int:
        """Size of one sample."""
        views = self.sampling.segments * self.cropping.num_views
        planes = sum(stream.channels * stream.steps for stream in self.spec.streams.values())
        return views * planes * self.spec.crop_size**2

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
        with ExitStack() as files:
            inside = range(record.frames) if record.interval is None else self._inside(record)
            timeline: Indices = np.asarray(inside)
            video = None
            if self.spec.frame_streams:
                video = files.enter_context(self._open_video(record))
                if record.interval is None:
                    inside = range(video.num_frames)
                timeline = np.asarray(inside)
                if self.spec.fps is not None:
                    seconds = video.pts_seconds[inside.start : inside.stop]
                    timeline = inside.start + frame_indices_at_rate(seconds, self.spec.fps)
            flow = self._open_flow(record, inside, files)
            plan = plan_clip(
                self.spec,
                timeline=timeline,
                size=(record.height, record.width),
                sampling=self.sampling,
                cropping=self.cropping,
                num_fields=min((source.num_fields for source in flow.values()), default=None),
                flip=self.flip,
                jitter=self.jitter,
                rng=np.random.default_rng([self.seed, epoch, index]),
            )
            labels = list(record.labels)
            if self.flip and all(view.flip for view in plan.views):
                labels = [self._label_when_mirrored[label] for label in labels]
            clip = read_clip(plan, video, flow, self.spec, label=labels[0], name=record.name)
            if self.labels_each == "one":
                return clip
            targets = torch.zeros(len(self.manifest.classes))
            targets[labels] = 1
            return replace(clip, targets=targets)

    def _inside(self, record: VideoRecord) -> range:
        """Frames of the file that are in a record's interval, two at least for flow.

        All intervals of a file are looked up the first time that one is asked for.

        Raises:
            AnnotationError: the interval lies outside the video.
        """
        if record.name not in self._frames_inside:
            with self._open_video(record) as video:
                pts_seconds = video.pts_seconds
            least = 2 if self.spec.flow_streams else 1
            for other in self._intervals_of[record.path]:
                assert other.interval is not None
                start, end = other.interval.start_seconds, other.interval.end_seconds
                try:
                    found = frames_between(pts_seconds, start, end, least=least)
                except InputError as error:
                    if other is record:
                        raise AnnotationError(
                            f"{record.path}: {error} Correct manifest.csv, or prepare it anew."
                        ) from None
                else:
                    self._frames_inside[other.name] = found
        return self._frames_inside[record.name]

    def _open_video(self, record: VideoRecord) -> VideoReader:
        """Reader of a video, which lists its frames only the first time that it is opened."""
        known = self._frame_lists.get(record.path)
        video = VideoReader(self.manifest.video_path(record), frame_list=known)
        if known is None and self._num_frames_listed < MOST_FRAMES_LISTED:
            self._frame_lists[record.path] = video.frame_list
            self._num_frames_listed += video.num_frames
        return video

    def _open_flow(
        self, record: VideoRecord, inside: range, files: ExitStack
    ) -> dict[str, StoredFlow]:
        """Stored flow of each stream that reads it, if it is what the spec wants.

        Of an interval, only the fields between its frames `inside`.
        """
        opened: dict[str, list[FlowFile | FlowFolder]] = {}
        for (name, direction), store in self._stores.items():
            if record.frames < 2:
                raise FlowStoreError(
                    f"{record.path} has 1 frame, and flow needs 2. Leave the video out of the "
                    "manifest."
                )
            file = store.open(record.path, source_sha256=record.sha256 or None)
            files.callback(file.close)
            opened.setdefault(name, []).append(file)
            meta, stream, fps = file.meta, self.spec.streams[name], self.spec.fps
            wanted: dict[str, object] = {"direction": direction, "bound_px": stream.flow_bound_px}
            if meta.method != "unknown":
                wanted["method"] = stream.flow_method
            for key, value in wanted.items():
                if getattr(meta, key) != value:
                    raise FlowStoreError(
                        f"{file.path}: stored flow has {key} {getattr(meta, key)!r}, the network's "
                        f"input {value!r}. Extract it anew with `dualstream flow`, or change the "
                        "recipe."
                    )
            if fps is None and meta.num_fields != record.frames - 1:
                raise FlowStoreError(
                    f"{file.path}: holds {meta.num_fields} fields, but {record.path} has "
                    f"{record.frames} frames. Extract it anew with `dualstream flow --overwrite`."
                )
            if fps is not None and abs(meta.fps - fps) > 0.01 * fps:
                raise InputError(
                    f"{file.path}: flow was extracted at {meta.fps:g} frames a second, but the "
                    f"network wants {fps:g}: stored fields cannot be resampled, as each spans one "
                    "frame of its own rate. Extract flow from videos of that rate."
                )
        if record.interval is None:
            return {name: StoredFlow(*both) for name, both in opened.items()}
        return {
            name: StoredFlow(
                *both, fields=range(inside.start, min(inside.stop - 1, both[0].num_fields))
            )
            for name, both in opened.items()
        }


class JoinedDataset(Dataset[Clip]):
    """The samples of several data sets one after the other, and their labels too.

    Of data sets of 10 videos in 3 classes and 20 videos in 4, index 12 is the third video of the
    second, whose label 1 becomes 3 + 1. Indices of a key beyond the last video count around, as in
    `ClipDataset`: 30 + 12 is another draw of the same video.

    Args:
        datasets: of the same spec, sampling and cropping.
    """

    def __init__(self, datasets: Sequence[ClipDataset]) -> None:
        self.datasets = tuple(datasets)
        self._starts = [0, *accumulate(len(dataset) for dataset in datasets)]
        self._first_labels = [0, *accumulate(len(d.manifest.classes) for d in datasets)]

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def sample_bytes(self) -> int:
        """Size of one sample."""
        return self.datasets[0].sample_bytes

    def __getitem__(self, key: SampleKey) -> Clip:
        """Read one sample; errors are those of its data set."""
        epoch, index = key
        draw, place = divmod(index, len(self))
        which = bisect_right(self._starts, place) - 1
        dataset = self.datasets[which]
        clip = dataset[epoch, place - self._starts[which] + draw * len(dataset)]
        return replace(clip, label=clip.label + self._first_labels[which])
