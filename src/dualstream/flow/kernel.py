"""TV-L1 by the compiled kernel (`_kernel/*.cpp`), where this package was built with it."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import MissingDependencyError, ShapeError, UnknownNameError
from dualstream.flow.methods.params import TVL1FastParams, TVL1Params
from dualstream.flow.methods.record import FieldPair

_tvl1: ModuleType | None
try:
    _tvl1 = importlib.import_module("dualstream.flow._tvl1")
except ImportError:  # installed where no compiler was: torch serves
    _tvl1 = None


def is_available() -> bool:
    """Whether the kernel was built."""
    return _tvl1 is not None


def instruction_sets() -> tuple[str, ...]:
    """Names of the kernels that run on this processor, the one in use first; () without any."""
    return () if _tvl1 is None else tuple(_tvl1.instruction_sets())


def kernel_flow(
    frames: NDArray[np.uint8],
    *,
    params: TVL1Params | TVL1FastParams,
    forward: bool = True,
    backward: bool = False,
    bound_px: float | None = None,
    subtract_mean: bool = False,
    instructions: str = "",
) -> FieldPair:
    """Flow of neighbouring frames in one thread, without holding Python's lock.

    Pyramid and gradients of a frame are computed once for all fields that it takes part in. A
    field does not depend on the others.

    Args:
        frames: (T, H, W) grey, T >= 2, of any strides.
        params: the method and its settings.
        forward, backward: which directions are wanted.
        bound_px: bound of the bytes that are wanted (see `quantize`); None for pixels.
        subtract_mean: move the mean of each plane of each field to zero first.
        instructions: one of `instruction_sets()`; empty takes the first.

    Returns:
        Flow from frame t to t + 1 and from frame t + 1 to t, (T-1, 2, H, W) each; None for what
        is not wanted.

    Raises:
        MissingDependencyError: the kernel was not built.
        ShapeError: frames of another shape or type, or fewer than two.
        UnknownNameError: this processor has no such instructions.
    """
    if _tvl1 is None:
        raise MissingDependencyError(
            "The compiled flow kernel is not there: this dualstream was installed without a C++ "
            "compiler. Install a compiler and run `pip install --force-reinstall --no-deps "
            "dualstream`, or let optical_flow use torch."
        )
    if instructions and instructions not in instruction_sets():
        raise UnknownNameError("instruction set", instructions, instruction_sets())
    if frames.ndim != 3 or frames.dtype != np.uint8 or min(frames.shape) < 1 or len(frames) < 2:
        raise ShapeError(
            f"The flow kernel takes two or more grey frames (T, H, W) uint8, got {frames.shape} "
            f"{frames.dtype}."
        )
    as_bytes = bound_px is not None
    shape, kind = (len(frames) - 1, 2, *frames.shape[1:]), np.uint8 if as_bytes else np.float32
    there, back = (np.empty(shape, kind) if wanted else None for wanted in (forward, backward))
    arrays = _tvl1.Arrays(
        forward=None if as_bytes else there,
        backward=None if as_bytes else back,
        forward_bytes=there if as_bytes else None,
        backward_bytes=back if as_bytes else None,
        bound_px=bound_px or 1.0,
        subtract_mean=subtract_mean,
    )
    images = np.ascontiguousarray(frames)
    energy = _tvl1.Energy(**asdict(params.energy), exact=params.arithmetic == "exact")
    common = {"energy": energy, "schedule": _tvl1.Schedule(**asdict(params.schedule))}
    if isinstance(params, TVL1Params):
        options = _tvl1.TVL1Options(**common, scales=params.scales, scale_step=params.scale_step)
        _tvl1.tvl1(images, options, arrays, instructions)
    else:
        options = _tvl1.TVL1FastOptions(
            **common,
            coarse_lambda=params.coarse_lambda,
            coarse_schedule=_tvl1.Schedule(**asdict(params.coarse_schedule)),
            patch_stride=params.patch_stride,
            descent_steps=params.descent_steps,
            rounds=params.rounds,
            smallest_px=params.smallest_px,
        )
        _tvl1.tvl1_fast(images, options, arrays, instructions)
    return there, back
