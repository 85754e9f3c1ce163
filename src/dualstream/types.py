"""The values that pass between the layers: small frozen dataclasses that check themselves.

Shapes are written with these letters: N samples, V views (segments x crops), C channels,
T frames in time, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, ShapeError, check_choice, check_least, check_shape

if TYPE_CHECKING:
    import torch

Modality = Literal["rgb", "flow", "rgb_diff"]
"""Frames, optical flow, or differences of neighbouring frames."""

Stacking = Literal["flow", "trajectory", "bidirectional"]
"""How L flow fields become one input (Simonyan & Zisserman 2014, section 3.1)."""

BeyondEnd = Literal["hold", "loop"]
"""How a snippet longer than its video goes on: with the last position, or from the first again."""

ScoreKind = Literal["logits", "probabilities"]

Labels = Literal["one", "several"]
"""Classes of a video: one of all, or several, each with a probability of its own."""

BACKGROUND = "none of these"
"""Class of what is none of the others: it makes no segments; `prepare` draws its intervals."""

MODALITY_SCALES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "rgb": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "flow": ((0.0, 0.0), (1.0, 1.0)),
    "rgb_diff": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Mean and std of a modality's C channels where none are given: ImageNet's for rgb."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Decoded video frames."""

    data: NDArray[np.uint8]
    """(T, H, W, 3) RGB, rotation already applied."""
    pts_seconds: NDArray[np.float64]
    """(T,) presentation time of each frame from the start of the stream's clock."""
    source: str = ""
    """The file or URL that the frames came from; empty for frames made in memory."""

    def __post_init__(self) -> None:
        check_shape("Frames.data", self.data, ("T", "H", "W", 3), "uint8")
        check_shape(f"Frames.pts_seconds of {len(self)} frames", self.pts_seconds, (len(self),))

    def __len__(self) -> int:
        return int(self.data.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return int(self.data.shape[1]), int(self.data.shape[2])

    def __repr__(self) -> str:
        return f"Frames(data={self.data.shape}, source={self.source!r})"


@dataclass(frozen=True, eq=False)
class Flow:
    """Optical flow of consecutive frames, as pixels or as the bytes that stand for them."""

    data: NDArray[np.float32 | np.uint8]
    """(T-1, 2, H, W) displacement from frame t to t + 1; channel 0 is x (right is +), channel 1
    is y (down is +). float32 pixels of this grid where `bound_px` is None, else bytes."""
    method: str
    """Name of the method that computed it."""
    source: str = ""
    """The file that the frames came from; empty for frames made in memory."""
    bound_px: float | None = None
    """Bound of the bytes, round(d * 127.5 / bound_px) + 128 (see `flow.quantize`)."""

    def __post_init__(self) -> None:
        dtype = "float32" if self.bound_px is None else "uint8"
        check_shape("Flow.data", self.data, ("T-1", 2, "H", "W"), dtype)
        if self.bound_px is not None and not 0 < self.bound_px < float("inf"):
            raise InputError(f"Flow.bound_px must be above 0 and finite, got {self.bound_px}.")

    def __len__(self) -> int:
        return int(self.data.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return int(self.data.shape[2]), int(self.data.shape[3])

    def __repr__(self) -> str:
        return f"Flow(data={self.data.shape}, method={self.method!r}, source={self.source!r})"


@dataclass(frozen=True)
class StreamSpec:
    """Input of one stream: its modality, its snippets, the scale of its numbers.

    Size and frame rate, which all streams of a clip share, are in `ClipSpec`.
    """

    modality: Modality
    num_frames: int = 1
    """T of one snippet: frames for rgb and rgb_diff, flow fields L for flow."""
    frame_stride: int = 1
    """Distance of neighbouring frames of a snippet, in frames of the video (or of
    `ClipSpec.fps`)."""
    mean: tuple[float, ...] = ()
    """Subtracted per channel: of RGB in 0..1, of flow in pixels. (): ImageNet's for rgb, zeros
    for the others."""
    std: tuple[float, ...] = ()
    """Divisor per channel, in the same unit. (): ImageNet's for rgb, ones for the others."""
    stacking: Stacking = "flow"
    subtract_mean_flow: bool = False
    """Subtract from each displacement field its mean vector."""
    flow_method: str = "tvl1-fast"
    """Optical-flow method for prediction on files that have no flow store."""
    flow_bound_px: float = 20.0
    """Largest stored displacement (see `flow.quantize`)."""
    flow_short_side: int | None = None
    """Short side of the grid that flow was computed on; None is the video's own."""

    def __post_init__(self) -> None:
        check_choice("modality", self.modality, Modality)
        check_choice("stacking", self.stacking, Stacking)
        check_least(1, **{"StreamSpec.num_frames": self.num_frames})
        check_least(1, **{"StreamSpec.frame_stride": self.frame_stride})
        mean, std = MODALITY_SCALES[self.modality]
        object.__setattr__(self, "mean", tuple(self.mean) or mean)
        object.__setattr__(self, "std", tuple(self.std) or std)
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise InputError(
                f"StreamSpec.mean and std need {self.channels} values for {self.modality}, got "
                f"{len(self.mean)} and {len(self.std)}."
            )
        if any(not value > 0 for value in self.std):
            raise InputError(f"StreamSpec.std must be above 0, got {self.std}.")
        if self.stacking == "bidirectional" and self.num_frames % 2:
            raise InputError(
                f"Bi-directional stacking needs an even num_frames, got {self.num_frames}."
            )

    @property
    def channels(self) -> int:
        """C of one time step."""
        return len(MODALITY_SCALES[self.modality][0])

    @property
    def is_flow(self) -> bool:
        """Whether the stream reads flow fields, not frames."""
        return self.modality == "flow"

    @property
    def steps(self) -> int:
        """Positions that a snippet reads: a difference needs one frame more than it gives."""
        return self.num_frames + (self.modality == "rgb_diff")

    @property
    def span(self) -> int:
        """Positions that a snippet covers from its first to its last step, both included."""
        return (self.steps - 1) * self.frame_stride + 1


@dataclass(frozen=True)
class ClipSpec:
    """Input of a network: a `StreamSpec` for each stream, and what all of them share.

    Saved with the network's weights, so that prediction repeats training.
    """

    streams: Mapping[str, StreamSpec]
    """Stream name -> its input; one entry for a network that sees one stream."""
    short_side: int = 256
    """Short side in pixels of the grid on which crops are chosen."""
    crop_size: int = 224
    """Side in pixels of the square that the network sees."""
    fps: float | None = None
    """Frame rate that videos are resampled to; None keeps their own."""
    beyond_end: BeyondEnd = "hold"

    def __post_init__(self) -> None:
        object.__setattr__(self, "streams", dict(self.streams))
        if not self.streams:
            raise InputError("ClipSpec.streams must name at least one stream.")
        check_choice("beyond_end", self.beyond_end, BeyondEnd)
        check_least(1, **{"ClipSpec.short_side": self.short_side})
        check_least(1, **{"ClipSpec.crop_size": self.crop_size})
        if self.crop_size > self.short_side:
            raise InputError(
                f"ClipSpec.crop_size ({self.crop_size}) must not exceed short_side "
                f"({self.short_side})."
            )
        if self.fps is not None and not self.fps > 0:
            raise InputError(f"ClipSpec.fps must be above 0, got {self.fps}.")
        for name, stream in self.streams.items():
            if stream.stacking != "flow" and self.beyond_end == "loop":
                raise InputError(
                    f"Stacking {stream.stacking!r} of stream {name!r} follows the motion, which a "
                    "looped video breaks: use beyond_end='hold'."
                )

    @property
    def flow_streams(self) -> dict[str, StreamSpec]:
        """The streams that read flow fields."""
        return {name: stream for name, stream in self.streams.items() if stream.is_flow}

    @property
    def frame_streams(self) -> dict[str, StreamSpec]:
        """The streams that read frames."""
        return {name: stream for name, stream in self.streams.items() if not stream.is_flow}

    @property
    def span(self) -> int:
        """Positions that the longest snippet covers."""
        return max(stream.span for stream in self.streams.values())


@dataclass(frozen=True, eq=False)
class Clip:
    """One training or test sample, or a batch of them, as bytes before normalisation."""

    data: Mapping[str, torch.Tensor]
    """Stream name -> uint8 (V, C, T, H, W), or (N, V, C, T, H, W) for a batch."""
    label: torch.Tensor
    """int64, () or (N,); -1 where unknown."""
    name: tuple[str, ...] = field(default=())
    """Name (manifest path and interval) of each sample."""
    targets: torch.Tensor | None = None
    """float32, (K,) or (N, K): 1 for each class of a sample, where it may have several."""

    def __post_init__(self) -> None:
        dims = self.label.ndim + 5
        for stream, value in self.data.items():
            if value.ndim != dims:
                raise ShapeError(
                    f"Clip.data[{stream!r}] must have {dims} dimensions "
                    f"{'(N, V, C, T, H, W)' if dims == 6 else '(V, C, T, H, W)'}, got "
                    f"{tuple(value.shape)}."
                )

    def __len__(self) -> int:
        return 1 if self.label.ndim == 0 else int(self.label.shape[0])

    def sample(self, index: int) -> Clip:
        """Return one sample of a batch."""
        data = {stream: value[index] for stream, value in self.data.items()}
        targets = None if self.targets is None else self.targets[index]
        return Clip(data, self.label[index], self.name[index : index + 1], targets)

    def pin_memory(self) -> Clip:
        """Page-locked copy, called by torch's loader when the batch goes to a GPU."""
        pinned = {stream: value.pin_memory() for stream, value in self.data.items()}
        targets = None if self.targets is None else self.targets.pin_memory()
        return Clip(pinned, self.label.pin_memory(), self.name, targets)

    def to(self, device: Any, non_blocking: bool = False) -> Clip:
        """The same values on another device."""
        moved = {s: v.to(device, non_blocking=non_blocking) for s, v in self.data.items()}
        label, targets = self.label.to(device, non_blocking=non_blocking), self.targets
        if targets is not None:
            targets = targets.to(device, non_blocking=non_blocking)
        return Clip(moved, label, self.name, targets)


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores that one network (or a fusion of several) gives to each video of a list."""

    names: tuple[str, ...]
    """N video names (manifest paths)."""
    labels: NDArray[np.int64]
    """(N,) true class, -1 where unknown; of several the smallest."""
    scores: NDArray[np.float32]
    """(N, K)."""
    classes: tuple[str, ...]
    """K class names."""
    kind: ScoreKind
    truth: NDArray[np.bool_] | None = None
    """(N, K) which classes each video has, where it may have several: probabilities are then those
    of each class by itself."""

    def __post_init__(self) -> None:
        check_choice("score kind", self.kind, ScoreKind)
        n, k = len(self.names), len(self.classes)
        check_shape(f"Scores.scores of {n} names and {k} classes", self.scores, (n, k), "float32")
        check_shape(f"Scores.labels of {n} names", self.labels, (n,), "int64")
        if self.truth is not None:
            check_shape(f"Scores.truth of {n} names and {k} classes", self.truth, (n, k), "bool")
        if n and (self.labels.min() < -1 or self.labels.max() >= k):
            raise InputError(
                f"Labels must lie in -1..{k - 1}, got {self.labels.min()}..{self.labels.max()}."
            )
        if not np.isfinite(self.scores).all():
            bad = self.names[int(np.argmin(np.isfinite(self.scores).all(axis=1)))]
            raise InputError(f"Scores of {bad!r} hold a NaN or an infinity.")

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, places: Sequence[int]) -> Scores:
        """The scores of some of the videos, in the order of their places."""
        chosen = np.asarray(places, np.int64)
        return Scores(
            tuple(self.names[place] for place in places),
            self.labels[chosen],
            self.scores[chosen],
            self.classes,
            self.kind,
            None if self.truth is None else self.truth[chosen],
        )


@dataclass(frozen=True, eq=False)
class Prediction:
    """Classes of one video, with the scores of its windows in time."""

    source: str
    classes: tuple[str, ...]
    """K class names."""
    probabilities: NDArray[np.float32]
    """(K,) of the whole video, summing to 1 unless it may have several classes (`labels`)."""
    window_seconds: NDArray[np.float64]
    """(M, 2) start and end of each window."""
    window_probabilities: NDArray[np.float32]
    """(M, K)."""
    streams: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Stream name -> (K,) probabilities before fusion."""
    cut_seconds: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """(n,) start of each scene but the first one."""
    window_streams: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Stream name -> (M, K) probabilities of its windows before fusion."""
    labels: Labels = "one"

    def __post_init__(self) -> None:
        k, m = len(self.classes), len(self.window_seconds)
        check_shape(f"Prediction.probabilities of {k} classes", self.probabilities, (k,))
        what = f"Prediction.window_probabilities of {m} windows and {k} classes"
        check_shape(what, self.window_probabilities, (m, k))
        for name, table in self.window_streams.items():
            check_shape(f"Prediction.window_streams[{name!r}]", table, (m, k))

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k most probable classes, best first."""
        return top_classes(self.probabilities, self.classes, k)


@dataclass(frozen=True, eq=False)
class Features:
    """What classifiers see of one video: the vectors of its windows in time, before the classes."""

    source: str
    window_seconds: NDArray[np.float64]
    """(M, 2) start and end of each window."""
    vectors: dict[str, NDArray[np.float32]]
    """Network -> (M, D); of a network with several classifiers `network/head`."""

    def __post_init__(self) -> None:
        for name, table in self.vectors.items():
            wanted = (len(self.window_seconds), "D")
            check_shape(f"Features.vectors[{name!r}]", table, wanted, "float32")


def top_classes(
    scores: NDArray[np.floating], classes: Sequence[str], k: int
) -> list[tuple[str, float]]:
    """Return the k best classes with their scores (K,); of equal scores the first class first."""
    order = np.argsort(-scores, kind="stable")[:k]
    return [(classes[i], float(scores[i])) for i in order]
