"""Multiply-adds of one torch operation.

What the papers of these networks call FLOPs: one multiplication and one addition together count
once, and only convolutions and matrix products count. Norms, activations, pooling and sums, which
are a few per cent, count nothing.
"""

from __future__ import annotations

from math import prod

from dualstream.models.inspection.call import Call


def multiply_adds(call: Call) -> int:
    """Multiply-adds of a call; 0 for all but convolutions and matrix products.

    A 3x3 convolution from 3 to 12 channels on 64 x 64 outputs: 12 * 64 * 64 * 3 * 3 * 3.
    """
    if call.name == "convolution":
        return _of_convolution(call)
    if call.name in MATRIX_PRODUCTS:
        left = call.arguments[MATRIX_PRODUCTS[call.name]]
        return int(prod(call.shape) * left.shape[-1])
    if call.name.startswith("_scaled_dot_product"):
        query, key = call.arguments["query"].shape, call.arguments["key"].shape
        value = call.arguments["value"].shape
        return int(prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))
    return 0


MATRIX_PRODUCTS = {"mm": "self", "addmm": "mat1", "bmm": "self", "baddbmm": "batch1", "mv": "self"}
"""Matrix product -> its left factor, over whose last dimension the sum runs."""


def _of_convolution(call: Call) -> int:
    """Each output is a sum over the window and the channels of its group.

    In a transposed convolution each input goes to as many outputs.
    """
    # (out, in / groups, *window), or transposed (in, out / groups, *window)
    weight: list[int] = list(call.arguments["weight"].shape)
    entries: list[int] = list(
        call.arguments["input"].shape if call.arguments["transposed"] else call.shape
    )
    return prod(entries) * prod(weight[1:])
