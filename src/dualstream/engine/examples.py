"""Example videos for a report: decoded frames and their optical flow in colours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dualstream.clips.data.manifest import Manifest
from dualstream.flow import flow_to_rgb, optical_flow, pixels
from dualstream.report import SampleFigure, choose_examples, top_by_stream
from dualstream.types import Scores
from dualstream.video import VideoReader

LONGEST_EXAMPLE = 24
"""Frames of an example; longer videos are thinned out evenly."""

EXAMPLE_SHORT_SIDE = 120
"""Short side in pixels of the flow picture."""


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
    records = {record.path: record for record in manifest.records}
    figures = []
    for name in choose_examples(streams, fused):
        if name not in records:
            continue
        record = records[name]
        with VideoReader(manifest.video_path(record)) as video:
            step = -(-video.num_frames // LONGEST_EXAMPLE)
            frames = video.read(list(range(0, video.num_frames, step)))
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
