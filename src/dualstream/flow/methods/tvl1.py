"""Both TV-L1 methods: by the compiled kernel, or by torch without it and on a device."""

from __future__ import annotations

from dualstream.flow import kernel
from dualstream.flow.methods.params import TVL1FastParams, TVL1Params
from dualstream.flow.methods.record import FieldPair, FlowTask, Method


def _tvl1(task: FlowTask[TVL1Params] | FlowTask[TVL1FastParams]) -> FieldPair:
    images, params, forward, backward = task.images, task.params, task.forward, task.backward
    if task.device == "cpu" and kernel.is_available():
        return kernel.kernel_flow(
            images, params=params, forward=forward, backward=backward, bound_px=task.bound_px
        )
    from dualstream.flow.on_torch.tvl1 import tvl1_flow

    return tvl1_flow(images, params=params, device=task.device, forward=forward, backward=backward)


TVL1 = Method(name="tvl1", function=_tvl1, params=TVL1Params, on_devices=True)
"""Duality based TV-L1, which the two-stream papers used."""

TVL1_FAST = Method(name="tvl1-fast", function=_tvl1, params=TVL1FastParams, on_devices=True)
"""The same energy from a better start: several times faster, as exact."""
