"""Flow methods by the names that meta.json, recipes and checkpoints know them by.

Besides the methods of this package and plugins these are `warped-<method>`, from which the
camera's motion is removed, and `motion-vectors`, which a video's own codec found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from dualstream.errors import InputError, UnknownNameError
from dualstream.flow import kernel
from dualstream.flow.methods.opencv import DIS, FARNEBACK
from dualstream.flow.methods.params import (
    FlowParams,
    MotionVectorParams,
    RAFTParams,
    TVL1FastParams,
    TVL1Params,
)
from dualstream.flow.methods.plugins import (
    MOTION_VECTORS,
    WARPED_PREFIX,
    plugin_method,
    plugin_names,
)
from dualstream.flow.methods.record import FieldPair, Fields, FlowTask, Method, of_forward
from dualstream.flow.methods.warped import warped_method
from dualstream.types import Flow


def _tvl1(task: FlowTask[TVL1Params] | FlowTask[TVL1FastParams]) -> FieldPair:
    images, params, forward, backward = task.images, task.params, task.forward, task.backward
    if task.device == "cpu" and kernel.is_available():
        return kernel.kernel_flow(
            images, params=params, forward=forward, backward=backward, bound_px=task.bound_px
        )
    from dualstream.flow.on_torch.tvl1 import tvl1_flow

    return tvl1_flow(images, params=params, device=task.device, forward=forward, backward=backward)


def _raft(task: FlowTask[RAFTParams]) -> Fields:
    from dualstream.flow.methods.raft import raft_flow

    return raft_flow(task.images[:-1], task.images[1:], params=task.params, device=task.device)


def _file_only(task: FlowTask[MotionVectorParams]) -> FieldPair:
    raise InputError(
        "Motion vectors come with a video file, not with its frames: store them with "
        "`dualstream flow --method motion-vectors`, then `dualstream test` on the store."
    )


def _motion_vectors(path: str, length: int, params: MotionVectorParams) -> Iterator[Flow]:
    from dualstream.video.motion_vectors import motion_vector_windows

    return motion_vector_windows(path, length, intra=params.intra)


METHODS: dict[str, Method[Any]] = {
    method.name: method
    for method in (
        DIS,
        FARNEBACK,
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
        return warped_method(base)
    if method := _of_frames(name):
        return method
    names = (*METHODS, *plugin_names())
    warped = (f"{WARPED_PREFIX}{method}" for method in names)
    raise UnknownNameError("flow method", name, (*names, *warped, MOTION_VECTORS))


def _of_frames(name: str) -> Method[Any] | None:
    if name in METHODS:
        return METHODS[name]
    return plugin_method(name) if name in plugin_names() else None


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
