"""Example videos of a report, and the choice of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import InputError, ShapeError, check_least, check_shape
from dualstream.report.tables import Comparable, compare
from dualstream.scores import predicted_classes, probabilities
from dualstream.types import Scores, top_classes

if TYPE_CHECKING:
    from dualstream.clips.data.manifest import Manifest


LONGEST_EXAMPLE = 24
"""Frames of an example; longer videos are thinned out evenly."""

EXAMPLE_SHORT_SIDE = 120
"""Short side in pixels of the flow picture."""


@dataclass(frozen=True, eq=False)
class SampleFigure:
    """One example video."""

    name: str
    """Name of the video, as in Scores."""
    label: str
    """Name of the true class; empty where unknown."""
    frames: NDArray[np.uint8]
    """(T, H, W, 3) RGB."""
    flow_rgb: NDArray[np.uint8] | None = None
    """(T', H', W', 3) optical flow drawn in colours (`flow.flow_to_rgb`), stretched over the same
    time as the frames; or None."""
    top: Mapping[str, Sequence[tuple[str, float]]] = field(default_factory=dict)
    """Name of a stream -> its best classes with their probabilities, best first. The fusion goes
    last: the last entry decides whether the example counts as right."""
    fps: float = 12.5
    """Frames shown a second."""

    def __post_init__(self) -> None:
        for what, value in (("frames", self.frames), ("flow_rgb", self.flow_rgb)):
            if value is not None:
                check_shape(f"SampleFigure.{what}", value, ("T", "H", "W", 3), "uint8")
                if value.size == 0:
                    raise ShapeError(f"SampleFigure.{what} has no pixel: {value.shape}.")
        if not self.fps > 0:
            raise InputError(f"SampleFigure.fps must be above 0, got {self.fps}.")

    @property
    def is_right(self) -> bool | None:
        """Whether the last entry of `top` has the true class first; None where unknown."""
        if not self.label or not self.top:
            return None
        last = list(self.top.values())[-1]
        return bool(last) and last[0][0] == self.label


def top_by_stream(
    streams: Mapping[str, Scores],
    fused: Scores | None = None,
    *,
    name: str,
    fused_name: str = "fused",
    k: int = 3,
) -> dict[str, list[tuple[str, float]]]:
    """Return the best k classes of one video in each stream and last in the fusion.

    It is the `top` of a `SampleFigure`. Logits are shown as their softmax.

    Raises:
        InputError: there is no such video.
    """
    comparable = compare(streams, fused, fused_name=fused_name)
    if name not in comparable.streams[0].names:
        raise InputError(f"There are no scores of a video {name!r}.")
    row = comparable.streams[0].names.index(name)
    return {
        column: top_classes(probabilities(scores)[row], scores.classes, k)
        for column, scores in comparable.columns
    }


def choose_examples(
    streams: Mapping[str, Scores], fused: Scores | None = None, *, count: int = 12
) -> tuple[str, ...]:
    """Choose videos to show: saved by the fusion, mistaken, and right in every stream.

    A third each, as far as there are such videos, and no class twice before every class that
    can has been shown once. Saved are videos that the fusion gets right and some stream wrong,
    those with most streams wrong first; mistakes and right ones come by falling confidence.
    Without a fusion the best single stream takes its place. The choice is the same every time.

    Raises:
        InputError: count is below 1.
        ScoresError: the scores do not fit together, or a class is unknown.
    """
    check_least(1, count=count)
    comparable = compare(streams, fused)
    groups = _groups(comparable)
    chosen: list[int] = []
    labels = comparable.streams[0].labels
    for number, group in enumerate(groups):
        share = (count - len(chosen)) // (len(groups) - number)
        chosen += _one_of_each_class(group, labels, share)
    left = [row for group in groups for row in group if row not in set(chosen)]
    chosen += left[: count - len(chosen)]
    order = {row: place for place, row in enumerate(row for group in groups for row in group)}
    return tuple(comparable.streams[0].names[row] for row in sorted(chosen, key=order.__getitem__))


def _groups(comparable: Comparable) -> tuple[list[int], list[int], list[int]]:
    """Return the rows saved by the fusion, mistaken, and right everywhere, best examples first."""
    _, main = comparable.main
    labels = main.labels
    right = predicted_classes(main) == labels
    confidence = probabilities(main).max(axis=1)
    wrong = np.sum([predicted_classes(stream) != labels for stream in comparable.streams], axis=0)
    by_confidence = np.argsort(-confidence, kind="stable").tolist()
    saved = [i for i in by_confidence if right[i] and wrong[i] > 0]
    saved.sort(key=lambda i: -int(wrong[i]))
    mistakes = [i for i in by_confidence if not right[i]]
    return saved, mistakes, [i for i in by_confidence if right[i] and wrong[i] == 0]


def _one_of_each_class(rows: list[int], labels: NDArray[np.int64], count: int) -> list[int]:
    """Return the first `count` rows, one of each class before a second of any."""
    times: Counter[int] = Counter()
    ranked = []
    for place, row in enumerate(rows):
        times[labels[row]] += 1
        ranked.append((times[labels[row]], place, row))
    return [row for _, _, row in sorted(ranked)[:count]]


def example_figures(
    manifest: Manifest, streams: Mapping[str, Scores], fused: Scores | None
) -> list[SampleFigure]:
    """Videos that tell most about streams and fusion, ready for `write_report`.

    Args:
        manifest: where the scored videos lie; videos that it does not list are left out.
        streams: name -> scores of the same videos.
        fused: scores of their fusion.

    Raises:
        VideoError: a chosen video cannot be read any more.
    """
    from dualstream.flow import flow_to_rgb, optical_flow, pixels
    from dualstream.video import VideoReader
    from dualstream.video.times import frames_between

    records = {record.name: record for record in manifest.records}
    figures = []
    for name in choose_examples(streams, fused):
        if name not in records:
            continue
        record = records[name]
        with VideoReader(manifest.video_path(record)) as video:
            inside = video.available
            if record.interval is not None:
                times = record.interval.start_seconds, record.interval.end_seconds
                inside = frames_between(video.pts_seconds, *times)
            step = -(-len(inside) // LONGEST_EXAMPLE)
            frames = video.read(inside[::step])
        drawn = None
        if len(frames) > 1:
            flow = optical_flow(frames, short_side=EXAMPLE_SHORT_SIDE)
            largest = float(np.percentile(np.hypot(flow.data[:, 0], flow.data[:, 1]), 99.5))
            drawn = flow_to_rgb(pixels(flow), max_px=max(largest, 1.0))
        figures.append(
            SampleFigure(
                name=name,
                label=manifest.classes[record.label],
                frames=frames.data,
                flow_rgb=drawn,
                top=top_by_stream(streams, fused, name=name),
                fps=min(record.fps / step, 12.5),
            )
        )
    return figures
