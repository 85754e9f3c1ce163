"""TV-L1 by the compiled kernel (`_kernel/*.cpp`), where this package was built with it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import MissingDependencyError, ShapeError, UnknownNameError
from dualstream.flow.params import TVL1FastParams, TVL1Params


def _extension() -> ModuleType | None:
    try:
        return importlib.import_module("dualstream.flow._tvl1")
    except ImportError:  # installed where no compiler was: torch serves
        return None


_tvl1 = _extension()


@dataclass(frozen=True, eq=False, kw_only=True)
class KernelFlow:
    """What was asked for of the flow of T frames; the rest is None."""

    forward: NDArray[np.float32] | None
    """(T-1, 2, H, W) pixels: field t leads from frame t to t + 1."""
    backward: NDArray[np.float32] | None
    """(T-1, 2, H, W) pixels: field t leads from frame t + 1 to t."""
    forward_bytes: NDArray[np.uint8] | None
    """`quantize` of `forward`."""
    backward_bytes: NDArray[np.uint8] | None
    """`quantize` of `backward`."""


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
    forward_bytes: bool = False,
    backward_bytes: bool = False,
    bound_px: float = 20.0,
    subtract_mean: bool = False,
    instructions: str = "",
) -> KernelFlow:
    """Flow of neighbouring frames in one thread, without holding Python's lock.

    Pyramid and gradients of a frame are computed once for all fields that it takes part in. A
    field does not depend on the others.

    Args:
        frames: (T, H, W) grey, T >= 2, of any strides.
        params: the method and its settings.
        forward, backward: which directions are wanted in pixels.
        forward_bytes, backward_bytes: which are wanted as bytes.
        bound_px: bound of the bytes (see `quantize`).
        subtract_mean: move the mean of each plane of each field to zero first.
        instructions: one of `instruction_sets()`; empty takes the first.

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
    count, height, width = frames.shape
    shape = (count - 1, 2, height, width)
    result = KernelFlow(
        forward=np.empty(shape, np.float32) if forward else None,
        backward=np.empty(shape, np.float32) if backward else None,
        forward_bytes=np.empty(shape, np.uint8) if forward_bytes else None,
        backward_bytes=np.empty(shape, np.uint8) if backward_bytes else None,
    )
    arrays = _tvl1.Arrays(
        forward=result.forward,
        backward=result.backward,
        forward_bytes=result.forward_bytes,
        backward_bytes=result.backward_bytes,
        bound_px=bound_px,
        subtract_mean=subtract_mean,
    )
    images = np.ascontiguousarray(frames)
    if isinstance(params, TVL1FastParams):
        _tvl1.tvl1_fast(images, _fast_options(_tvl1, params), arrays, instructions)
    else:
        _tvl1.tvl1(images, _options(_tvl1, params), arrays, instructions)
    return result


def _options(kernel: ModuleType, params: TVL1Params) -> object:
    return kernel.TVL1Options(
        energy=_energy(kernel, params),
        schedule=kernel.Schedule(
            warps=params.warps,
            inner_iterations=params.inner_iterations,
            outer_iterations=params.outer_iterations,
            median_size=params.median_size,
            epsilon=params.epsilon,
        ),
        scales=params.scales,
        scale_step=params.scale_step,
    )


def _fast_options(kernel: ModuleType, params: TVL1FastParams) -> object:
    return kernel.TVL1FastOptions(
        energy=_energy(kernel, params),
        schedule=kernel.Schedule(
            warps=params.warps,
            inner_iterations=params.iterations,
            outer_iterations=1,
            median_size=params.median_size,
            epsilon=params.epsilon,
        ),
        coarse_lambda=params.coarse_lambda,
        coarse_schedule=kernel.Schedule(
            warps=params.coarse_warps,
            inner_iterations=params.coarse_iterations,
            outer_iterations=1,
            median_size=params.coarse_median_size,
            epsilon=0.0,
        ),
        patch_stride=params.patch_stride,
        descent_steps=params.descent_steps,
        rounds=params.rounds,
        smallest_px=params.smallest_px,
    )


def _energy(kernel: ModuleType, params: TVL1Params | TVL1FastParams) -> object:
    return kernel.Energy(
        tau=params.tau,
        lambda_=params.lambda_,
        theta=params.theta,
        exact=params.arithmetic == "exact",
    )
