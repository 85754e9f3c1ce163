"""Settings of the optical-flow methods, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from dualstream.errors import InputError, UnknownNameError
from dualstream.video.motion_vectors import Intra

FlowMethod = Literal["dis", "farneback", "tvl1-fast", "tvl1", "raft"]
"""The methods of this package that see frames, fastest first on a CPU (RAFT wants a GPU)."""

DEFAULT_METHOD: FlowMethod = "tvl1-fast"

Direction = Literal["forward", "backward"]
"""Whether a field leads from frame t to t + 1 or from frame t + 1 to t."""

Arithmetic = Literal["exact", "approximate"]
"""Square roots and divisions to the last bit, or to 12 to 14 bits: faster by up to a quarter,
depending on the processor, for differences of about 0.001 px."""

DISPreset = Literal["ultrafast", "fast", "medium"]
RAFTSize = Literal["small", "large"]


MOST_SCALES = 32
"""Sizes of an image pyramid, the image itself included, at most."""

PATCH_PX = 8
"""Side in pixels of the patches of `tvl1-fast`."""


@dataclass(frozen=True, kw_only=True)
class DISParams:
    """Dense inverse search (Kroeger et al. 2016), OpenCV's presets."""

    preset: DISPreset = "medium"

    def __post_init__(self) -> None:
        if self.preset not in get_args(DISPreset):
            raise UnknownNameError("DIS preset", self.preset, get_args(DISPreset))


@dataclass(frozen=True, kw_only=True)
class FarnebackParams:
    """Polynomial expansion (Farneback 2003), OpenCV's parameters."""

    pyramid_scale: float = 0.5
    """Size of a pyramid level in sizes of the level below, in 0..1."""
    levels: int = 5
    """Pyramid levels, the image itself included."""
    window: int = 15
    """Side in pixels of the averaging window."""
    iterations: int = 3
    """Iterations on each level."""
    poly_n: int = 5
    """Side in pixels of the neighbourhood that a polynomial is fitted to."""
    poly_sigma: float = 1.2
    """Standard deviation in pixels of that fit's Gaussian weight."""

    def __post_init__(self) -> None:
        _check_fraction("FarnebackParams.pyramid_scale", self.pyramid_scale)
        _check_counts(self, ("levels", "window", "iterations"))
        if self.poly_n < 3:
            raise InputError(f"FarnebackParams.poly_n must be at least 3, got {self.poly_n}.")
        _check_positive(self, ("poly_sigma",))


@dataclass(frozen=True, kw_only=True)
class TVL1Params:
    """Duality based TV-L1 (Zach, Pock & Bischof 2007); defaults of OpenCV's `DualTVL1`."""

    tau: float = 0.25
    """Step of the dual update; the scheme converges up to 1/4."""
    lambda_: float = 0.15
    """Weight of the data term for images in 0..255; smaller gives smoother flow."""
    theta: float = 0.3
    """Tightness of the coupling between data term and smoothness."""
    scales: int = 5
    """Pyramid levels, the image itself included."""
    scale_step: float = 0.8
    """Size of a pyramid level in sizes of the level below, in 0..1."""
    warps: int = 5
    """Times that the second image is warped on each level."""
    epsilon: float = 0.01
    """Iterations of a warp end once the mean squared change of the flow falls to epsilon squared
    (in px of that level), at which every fifth iteration looks; 0 always runs all iterations."""
    inner_iterations: int = 30
    """Iterations between two median filters."""
    outer_iterations: int = 10
    """Rounds of median filter and inner iterations in a warp."""
    median_size: int = 5
    """Side in pixels of the median filter of the flow: 3 or 5, or 1 for none."""
    arithmetic: Arithmetic = "exact"
    """Of the compiled kernel; torch is always exact."""

    def __post_init__(self) -> None:
        _check_fraction("TVL1Params.scale_step", self.scale_step)
        _check_counts(self, ("scales", "warps", "inner_iterations", "outer_iterations"))
        if self.scales > MOST_SCALES:
            raise InputError(f"TVL1Params.scales is at most {MOST_SCALES}, got {self.scales}.")
        _check_energy(self)
        _check_median_sizes(self, ("median_size",))


@dataclass(frozen=True, kw_only=True)
class TVL1FastParams:
    """TV-L1 at full size, started from dense inverse search (Kroeger et al. 2016) at halves of it.

    At every size that is searched a few iterations of TV-L1 smooth what the patches of 8x8
    pixels found. The patches also tell how much brighter the second image is, which the data
    term allows for. The defaults were chosen on generated pairs and public ones with known flow
    (`benchmarks/known_flow`, development seeds).
    """

    tau: float = 0.25
    """Step of the dual update."""
    lambda_: float = 0.35
    """Weight of the data term at full size for images in 0..255."""
    theta: float = 0.3
    """Tightness of the coupling between data term and smoothness."""
    warps: int = 1
    """Times that the second image is warped at full size."""
    iterations: int = 40
    """Iterations of each warp, at most."""
    epsilon: float = 0.01
    """As in `TVL1Params`, at full size."""
    median_size: int = 1
    """Side in pixels of the median filter before each warp at full size: 1 (none), 3 or 5."""
    coarse_lambda: float = 0.06
    """Weight of the data term at the sizes that are searched."""
    coarse_warps: int = 2
    """Warps there."""
    coarse_iterations: int = 4
    """Iterations of each warp there, always all."""
    coarse_median_size: int = 3
    """Side in pixels of the median filter there."""
    patch_stride: int = 3
    """Pixels between neighbouring patches, 1 to 8."""
    descent_steps: int = 3
    """Gauss-Newton steps of a patch from each start, at most."""
    rounds: int = 2
    """Rounds in which each patch tries the flows of its four neighbours."""
    smallest_px: int = 32
    """Least short side in pixels of the smallest size that is searched."""
    arithmetic: Arithmetic = "approximate"
    """Of the compiled kernel; torch is always exact."""

    def __post_init__(self) -> None:
        _check_counts(self, ("warps", "iterations", "coarse_warps", "coarse_iterations"))
        _check_counts(self, ("descent_steps", "smallest_px"))
        if not 1 <= self.patch_stride <= PATCH_PX:
            raise InputError(
                f"TVL1FastParams.patch_stride must be 1 to {PATCH_PX}, got {self.patch_stride}."
            )
        if self.rounds < 0:
            raise InputError(f"TVL1FastParams.rounds must be 0 or more, got {self.rounds}.")
        _check_energy(self)
        _check_positive(self, ("coarse_lambda",))
        _check_median_sizes(self, ("median_size", "coarse_median_size"))


@dataclass(frozen=True, kw_only=True)
class RAFTParams:
    """Recurrent all-pairs field transforms (Teed & Deng 2020), torchvision's networks."""

    size: RAFTSize = "large"
    """`small` has 1.0 million parameters, `large` 5.3 million."""
    updates: int = 12
    """Recurrent updates of the flow."""

    def __post_init__(self) -> None:
        if self.size not in get_args(RAFTSize):
            raise UnknownNameError("RAFT size", self.size, get_args(RAFTSize))
        _check_counts(self, ("updates",))


@dataclass(frozen=True, kw_only=True)
class MotionVectorParams:
    """Motion vectors that a video's own codec found (Wu et al. 2018)."""

    intra: Intra = "repeat"
    """Fill of a block or a picture without vectors: `repeat` the field before, or `zero`."""

    def __post_init__(self) -> None:
        if self.intra not in get_args(Intra):
            raise UnknownNameError("intra", self.intra, get_args(Intra))


FlowParams = (
    DISParams | FarnebackParams | TVL1Params | TVL1FastParams | RAFTParams | MotionVectorParams
)


def _check_fraction(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise InputError(f"{name} must lie between 0 and 1 (both excluded), got {value}.")


def _check_counts(params: FlowParams, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(params, name)
        if value < 1:
            raise InputError(f"{type(params).__name__}.{name} must be at least 1, got {value}.")


def _check_positive(params: FlowParams, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(params, name)
        if not value > 0:
            raise InputError(f"{type(params).__name__}.{name} must be above 0, got {value}.")


def _check_energy(params: TVL1Params | TVL1FastParams) -> None:
    _check_positive(params, ("tau", "lambda_", "theta"))
    if not params.epsilon >= 0:
        raise InputError(
            f"{type(params).__name__}.epsilon must be 0 or more, got {params.epsilon}."
        )
    if params.arithmetic not in get_args(Arithmetic):
        raise UnknownNameError("arithmetic", params.arithmetic, get_args(Arithmetic))


def _check_median_sizes(params: FlowParams, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(params, name)
        if value not in (1, 3, 5):
            raise InputError(f"{type(params).__name__}.{name} must be 1, 3 or 5, got {value}.")
