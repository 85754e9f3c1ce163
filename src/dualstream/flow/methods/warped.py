"""Warped flow: any method's flow with the camera's motion removed."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dualstream.flow.camera import estimate_camera_motion, warp_back
from dualstream.flow.images import grey_images
from dualstream.flow.methods.opencv import DIS, dis_flow
from dualstream.flow.methods.params import DISParams, FlowParams
from dualstream.flow.methods.plugins import WARPED_PREFIX
from dualstream.flow.methods.record import FieldPair, Fields, FlowTask, Method
from dualstream.types import Flow

P = TypeVar("P", bound=FlowParams | None)


def warped_method(method: Method[P], *, mask: NDArray[np.bool_] | None = None) -> Method[P]:
    """The record of `warped-<method>`, forward only.

    Args:
        method: what computes the flow.
        mask: (T, H, W) of the images that will be given, see `estimate_camera_motion`.
    """

    def function(task: FlowTask[P]) -> FieldPair:
        return _without_camera_motion(task, method, mask), None

    return Method(
        name=f"{WARPED_PREFIX}{method.name}",
        function=function,
        params=method.params,
        sees="rgb",
        on_devices=method.on_devices,
        smallest_side_px=method.smallest_side_px,
        directions=("forward",),
    )


def _without_camera_motion(
    task: FlowTask[P], method: Method[P], mask: NDArray[np.bool_] | None
) -> Fields:
    """(T-1, 2, H, W) pixels; the camera is taken to stand still in images too small for DIS."""

    def flow_of(images: NDArray[np.uint8], pts_seconds: NDArray[np.float64]) -> Fields:
        part = replace(task, images=images, pts_seconds=pts_seconds, bound_px=None)
        fields, _ = method.compute(part)
        assert fields is not None
        return fields

    frames = task.frames
    images, times = frames.data, frames.pts_seconds
    if min(frames.size) < DIS.smallest_side_px:
        return flow_of(images, times)
    guide = Flow(dis_flow(grey_images(images), params=DISParams()), DIS.name, task.source)
    motion = estimate_camera_motion(frames, guide, mask=mask)
    pairs = (
        np.stack((images[t], warp_back(images[t], images[t + 1], homography)))
        for t, homography in enumerate(motion.homographies)
    )
    return np.concatenate([flow_of(pair, times[t : t + 2]) for t, pair in enumerate(pairs)])
