"""The flow methods: a record each, found by the name in meta.json, recipes and checkpoints.

Besides the methods of this package these are `warped-<method>`, from which the camera's motion is
removed, `motion-vectors`, which a video's own codec found, and plugins. A package offers one with
a function `flow(frames: Frames) -> Flow` and, in its pyproject.toml:

    [project.entry-points."dualstream.flow"]
    mymethod = "mypackage.module:flow"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib import metadata
from typing import Any, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from dualstream.errors import (
    DualstreamError,
    FlowError,
    InputError,
    ShapeError,
    UnknownNameError,
)
from dualstream.flow import kernel
from dualstream.flow.camera import estimate_camera_motion, warp_back
from dualstream.flow.images import grey_images, one_opencv_thread
from dualstream.flow.methods.params import (
    Direction,
    DISParams,
    FarnebackParams,
    FlowMethod,
    FlowParams,
    MotionVectorParams,
    RAFTParams,
    TVL1FastParams,
    TVL1Params,
)
from dualstream.flow.methods.record import FieldPair, Fields, FlowTask, Method, of_forward
from dualstream.flow.quantize import pixels
from dualstream.types import Flow, Frames

MOTION_VECTORS = "motion-vectors"
WARPED_PREFIX = "warped-"

_PLUGINS = "dualstream.flow"
"""Entry-point group of plugins."""


def _dis(task: FlowTask[DISParams]) -> Fields:
    preset = getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{task.params.preset.upper()}")
    return _by_opencv(cv2.DISOpticalFlow.create(preset), task.images)


def _farneback(task: FlowTask[FarnebackParams]) -> Fields:
    given = task.params
    solver = cv2.FarnebackOpticalFlow.create(
        numLevels=given.levels,
        pyrScale=given.pyramid_scale,
        winSize=given.window,
        numIters=given.iterations,
        polyN=given.poly_n,
        polySigma=given.poly_sigma,
    )
    return _by_opencv(solver, task.images)


def _by_opencv(solver: cv2.DenseOpticalFlow, images: NDArray[np.uint8]) -> Fields:
    """(T, H, W) -> (T-1, 2, H, W)."""
    out = np.empty((len(images) - 1, 2, *images.shape[1:]), np.float32)
    with one_opencv_thread():
        for field, first, second in zip(out, images[:-1], images[1:], strict=True):
            start: Any = None  # OpenCV's type stubs do not know that there need be none
            found: Any = solver.calc(first, second, start)
            field[:] = found.transpose(2, 0, 1)  # (H, W, 2) -> (2, H, W)
    return out


def _tvl1(task: FlowTask[TVL1Params] | FlowTask[TVL1FastParams]) -> FieldPair:
    images, params = task.images, task.params
    forward, backward = (direction in task.directions for direction in get_args(Direction))
    if task.device == "cpu" and kernel.is_available():
        return kernel.kernel_flow(
            images, params=params, forward=forward, backward=backward, bound_px=task.bound_px
        )
    from dualstream.flow.on_torch.tvl1 import tvl1_flow

    return tvl1_flow(images, params=params, device=task.device, forward=forward, backward=backward)


def _raft(task: FlowTask[RAFTParams]) -> Fields:
    from dualstream.flow.methods.raft import raft_flow

    return raft_flow(task.images[:-1], task.images[1:], params=task.params, device=task.device)


def _warped(base: Method[Any], task: FlowTask[Any]) -> FieldPair:
    """Flow by `base` without the camera's, which is taken to stand still where DIS cannot look."""

    def flow_of(images: NDArray[np.uint8], pts_seconds: NDArray[np.float64]) -> Fields:
        part = replace(task, images=images, pts_seconds=pts_seconds, bound_px=None)
        fields, _ = base.compute(part)
        assert fields is not None
        return fields

    frames = task.frames
    images, times = frames.data, frames.pts_seconds
    if min(frames.size) < METHODS["dis"].smallest_side_px:
        return flow_of(images, times), None
    guide = _dis(FlowTask(images=grey_images(images), params=DISParams()))
    motion = estimate_camera_motion(frames, Flow(guide, "dis", task.source), mask=task.mask)
    pairs = (
        np.stack((images[t], warp_back(images[t], images[t + 1], homography)))
        for t, homography in enumerate(motion.homographies)
    )
    return np.concatenate([flow_of(pair, times[t : t + 2]) for t, pair in enumerate(pairs)]), None


def _file_only(task: FlowTask[MotionVectorParams]) -> FieldPair:
    raise InputError(
        "Motion vectors come with a video file, not with its frames: predict the file, or store "
        "them with `dualstream flow --method motion-vectors`."
    )


def _motion_vectors(path: str, length: int, params: MotionVectorParams) -> Iterator[Flow]:
    from dualstream.video.motion_vectors import motion_vector_windows

    return motion_vector_windows(path, length, intra=params.intra)


METHODS: dict[str, Method[Any]] = {
    method.name: method
    for method in (
        Method(name="dis", function=of_forward(_dis), params=DISParams, smallest_side_px=16),
        Method(
            name="farneback",
            function=of_forward(_farneback),
            params=FarnebackParams,
            smallest_side_px=2,
        ),
        Method(name="tvl1-fast", function=_tvl1, params=TVL1FastParams, on_devices=True),
        Method(name="tvl1", function=_tvl1, params=TVL1Params, on_devices=True),
        Method(
            name="raft",
            function=of_forward(_raft),
            params=RAFTParams,
            sees="rgb",
            on_devices=True,
            smallest_side_px=16,
        ),
    )
}
"""The methods of this package that see frames, by name."""

_MOTION_VECTORS = Method(
    name=MOTION_VECTORS,
    function=_file_only,
    params=MotionVectorParams,
    directions=("forward",),
    read_file=_motion_vectors,
)


def find_method(name: str) -> Method[Any]:
    """The record of a method.

    Raises:
        UnknownNameError: nothing has that name; the message lists what there is.
    """
    if name == MOTION_VECTORS:
        return _MOTION_VECTORS
    if name.startswith(WARPED_PREFIX) and (base := _of_frames(name.removeprefix(WARPED_PREFIX))):
        warped = partial(_warped, base)
        return replace(base, name=name, function=warped, sees="rgb", directions=("forward",))
    if method := _of_frames(name):
        return method
    names = (*METHODS, *plugin_names())
    warped_names = (f"{WARPED_PREFIX}{method}" for method in names)
    raise UnknownNameError("flow method", name, (*names, *warped_names, MOTION_VECTORS))


def _of_frames(name: str) -> Method[Any] | None:
    if name in METHODS:
        return METHODS[name]
    if name not in plugin_names():
        return None
    function = of_forward(lambda task: _plugin_flow(name, task.frames))
    return Method(name=name, function=function, params=None, sees="rgb")


def plugin_names() -> tuple[str, ...]:
    """Names of the flow methods that installed packages offer, sorted.

    Reads package metadata only; no plugin is imported. Names that this package uses itself are
    left out: they keep their meaning here.
    """
    names = {entry.name for entry in metadata.entry_points(group=_PLUGINS)}
    names -= {*get_args(FlowMethod), MOTION_VECTORS}
    return tuple(sorted(name for name in names if not name.startswith(WARPED_PREFIX)))


def _plugin_flow(name: str, frames: Frames) -> NDArray[np.float32]:
    """(T-1, 2, H, W) pixels by one of `plugin_names()`, checked.

    Raises:
        FlowError: the name is offered by two packages; the plugin cannot be imported, is not
            callable, fails, or returns something other than a finite Flow. Names the entry point
            and its distribution.
        ShapeError: its flow is not (T-1, 2, H, W).
    """
    entry, *others = sorted(metadata.entry_points(group=_PLUGINS, name=name), key=_label)
    for other in others:  # one distribution can be found twice on sys.path
        if other.value != entry.value:
            raise FlowError(
                f"{_label(entry)} and {_label(other)} have one name. Uninstall one of them."
            )
    plugin = _label(entry)
    try:
        compute = entry.load()
    except Exception as error:
        raise FlowError(f"{plugin} cannot be loaded: {_reason(error)}. Reinstall it.") from error
    if not callable(compute):
        raise FlowError(f"{plugin} is not a function but {type(compute).__name__}.")
    source = frames.source or "frames in memory"
    try:
        flow = compute(frames)
    except DualstreamError:
        raise
    except Exception as error:
        raise FlowError(f"{plugin} failed on {source}: {_reason(error)}.") from error
    if not isinstance(flow, Flow):
        raise FlowError(f"{plugin} must return a dualstream.types.Flow, got {type(flow).__name__}.")
    data = pixels(flow)
    expected = (len(frames) - 1, 2, *frames.size)
    if data.shape != expected:
        raise ShapeError(
            f"{plugin} must return flow of {expected} for {len(frames)} frames of "
            f"{frames.size[1]}x{frames.size[0]} px, got {data.shape}."
        )
    is_finite = np.isfinite(data).all(axis=(1, 2, 3))
    if not is_finite.all():
        raise FlowError(
            f"{plugin} returned a NaN or an infinity in field {int(np.argmin(is_finite))} of "
            f"{source}."
        )
    return data


def _label(entry: metadata.EntryPoint) -> str:
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"
    return f"Flow plugin {entry.name!r} ({entry.value} of {package})"


def _reason(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def check_flow_name(name: str) -> str:
    """`name` if there is such a method; errors of `find_method`."""
    return find_method(name).name


def params_from_values(name: str, values: Mapping[str, Any] | None) -> FlowParams | None:
    """Settings of `name` from those that meta.json lists; None for a method without settings."""
    params = find_method(name).params
    return None if params is None else params(**(values or {}))


def params_from_settings(name: str, settings: Sequence[str]) -> FlowParams | None:
    """Settings of `name` from texts such as `preset=fast` or `epsilon=0.005`.

    Raises:
        UnknownNameError: there is no such method, or it has no such setting.
        InputError: a text is not `name=value`, or the value is of another type.
    """
    params = find_method(name).params
    allowed = {} if params is None else asdict(params())
    values: dict[str, Any] = {}
    for text in settings:
        setting, separator, value = text.partition("=")
        if not separator:
            raise InputError(f"A setting of a flow method is name=value, got {text!r}.")
        field = "lambda_" if setting == "lambda" else setting
        if field not in allowed:
            raise UnknownNameError(f"setting of {name}", setting, allowed)
        kind = type(allowed[field])
        try:
            values[field] = kind(value)
        except ValueError as error:
            raise InputError(f"{name}: {setting} takes {kind.__name__}, got {value!r}.") from error
    return None if params is None else params(**values)
