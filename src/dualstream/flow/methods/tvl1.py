"""Both TV-L1 methods: by the compiled kernel, or by torch without it and on a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dualstream.flow import kernel
from dualstream.flow.methods.params import TVL1FastParams, TVL1Params
from dualstream.flow.methods.record import FieldPair, FlowFunction, FlowTask, Method

P = TypeVar("P", TVL1Params, TVL1FastParams)


def _kernel_or(by_torch: Callable[[FlowTask[P]], FieldPair]) -> FlowFunction[P]:
    def function(task: FlowTask[P]) -> FieldPair:
        if task.device != "cpu" or not kernel.is_available():
            return by_torch(task)
        return kernel.kernel_flow(
            task.images,
            params=task.params,
            forward=task.forward,
            backward=task.backward,
            bound_px=task.bound_px,
        )

    return function


def _torch_tvl1(task: FlowTask[TVL1Params]) -> FieldPair:
    from dualstream.flow.on_torch.tvl1 import tvl1_flow

    return tvl1_flow(
        task.images,
        params=task.params,
        device=task.device,
        forward=task.forward,
        backward=task.backward,
    )


def _torch_tvl1_fast(task: FlowTask[TVL1FastParams]) -> FieldPair:
    from dualstream.flow.on_torch.tvl1_fast import tvl1_fast_flow

    return tvl1_fast_flow(
        task.images,
        params=task.params,
        device=task.device,
        forward=task.forward,
        backward=task.backward,
    )


TVL1 = Method(name="tvl1", function=_kernel_or(_torch_tvl1), params=TVL1Params, on_devices=True)
"""Duality based TV-L1, which the two-stream papers used."""

TVL1_FAST = Method(
    name="tvl1-fast",
    function=_kernel_or(_torch_tvl1_fast),
    params=TVL1FastParams,
    on_devices=True,
)
"""The same energy from a better start: several times faster, as exact."""
