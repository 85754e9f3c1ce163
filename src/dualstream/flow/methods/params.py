"""Settings of the optical-flow methods, checked when they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_origin, get_type_hints

from dualstream.errors import InputError, check_choice
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

# What a setting must be -> the test, and the settings of any method for which it holds.
_RULES: dict[str, tuple[Callable[[float], bool], str]] = {
    "above 0": (lambda value: value > 0, "tau lambda_ theta coarse_lambda poly_sigma"),
    "0 or more": (lambda value: value >= 0, "epsilon rounds"),
    "at least 1": (
        lambda value: value >= 1,
        (
            "levels window iterations warps inner_iterations outer_iterations coarse_warps "
            "coarse_iterations descent_steps smallest_px updates"
        ),
    ),
    "at least 3": (lambda value: value >= 3, "poly_n"),
    "between 0 and 1 (both excluded)": (lambda value: 0 < value < 1, "pyramid_scale scale_step"),
    "1, 3 or 5": (lambda value: value in (1, 3, 5), "median_size coarse_median_size"),
    f"1 to {PATCH_PX}": (lambda value: 1 <= value <= PATCH_PX, "patch_stride"),
    f"1 to {MOST_SCALES}": (lambda value: 1 <= value <= MOST_SCALES, "scales"),
}


class _Checked:
    """Settings that are checked by their names, choices by their types."""

    def __post_init__(self) -> None:
        for rule, (is_met, names) in _RULES.items():
            for name in names.split():
                if hasattr(self, name) and not is_met(value := getattr(self, name)):
                    raise InputError(f"{type(self).__name__}.{name} must be {rule}, got {value}.")
        for name, choices in get_type_hints(type(self)).items():
            if get_origin(choices) is Literal:
                check_choice(name, getattr(self, name), choices)


@dataclass(frozen=True, kw_only=True)
class DISParams(_Checked):
    """Dense inverse search (Kroeger et al. 2016), OpenCV's presets."""

    preset: DISPreset = "medium"


@dataclass(frozen=True, kw_only=True)
class FarnebackParams(_Checked):
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


@dataclass(frozen=True)
class Energy:
    """Weights of the energy of TV-L1; see `TVL1Params`."""

    tau: float
    lambda_: float
    theta: float


@dataclass(frozen=True)
class Schedule:
    """Schedule of TV-L1 on one image size; see `TVL1Params`."""

    warps: int
    inner_iterations: int
    outer_iterations: int
    median_size: int
    epsilon: float


@dataclass(frozen=True, kw_only=True)
class _TVL1(_Checked):
    """Settings of both TV-L1 methods."""

    tau: float = 0.25
    """Step of the dual update; the scheme converges up to 1/4."""
    lambda_: float
    """Weight of the data term at full size for images in 0..255; smaller gives smoother flow."""
    theta: float = 0.3
    """Tightness of the coupling between data term and smoothness."""
    warps: int
    """Times that the second image is warped: on each pyramid level, or at full size."""
    epsilon: float = 0.01
    """Iterations of a warp end once the mean squared change of the flow falls to epsilon squared
    (in px of that level), at which every fifth iteration looks; 0 always runs all iterations."""
    median_size: int
    """Side in pixels of the median filter of the flow: 3 or 5, or 1 for none."""
    arithmetic: Arithmetic
    """Of the compiled kernel; torch is always exact."""

    @property
    def energy(self) -> Energy:
        """Weights at full size."""
        return Energy(self.tau, self.lambda_, self.theta)


@dataclass(frozen=True, kw_only=True)
class TVL1Params(_TVL1):
    """Duality based TV-L1 (Zach, Pock & Bischof 2007); defaults of OpenCV's `DualTVL1`."""

    lambda_: float = 0.15
    scales: int = 5
    """Pyramid levels, the image itself included."""
    scale_step: float = 0.8
    """Size of a pyramid level in sizes of the level below, in 0..1."""
    warps: int = 5
    inner_iterations: int = 30
    """Iterations between two median filters."""
    outer_iterations: int = 10
    """Rounds of median filter and inner iterations in a warp."""
    median_size: int = 5
    arithmetic: Arithmetic = "exact"

    @property
    def schedule(self) -> Schedule:
        """Schedule on each pyramid level."""
        counts = self.warps, self.inner_iterations, self.outer_iterations
        return Schedule(*counts, self.median_size, self.epsilon)


@dataclass(frozen=True, kw_only=True)
class TVL1FastParams(_TVL1):
    """TV-L1 at full size, started from dense inverse search (Kroeger et al. 2016) at halves of it.

    At every size that is searched a few iterations of TV-L1 smooth what the patches of 8x8
    pixels found. The patches also tell how much brighter the second image is, which the data
    term allows for. The defaults were chosen on generated pairs and public ones with known flow
    (`benchmarks/known_flow`, development seeds).
    """

    lambda_: float = 0.35
    warps: int = 1
    iterations: int = 40
    """Iterations of each warp, at most."""
    median_size: int = 1
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

    @property
    def schedule(self) -> Schedule:
        """Schedule at full size."""
        return Schedule(self.warps, self.iterations, 1, self.median_size, self.epsilon)

    @property
    def coarse_schedule(self) -> Schedule:
        """Schedule at the sizes that are searched."""
        return Schedule(self.coarse_warps, self.coarse_iterations, 1, self.coarse_median_size, 0.0)


@dataclass(frozen=True, kw_only=True)
class RAFTParams(_Checked):
    """Recurrent all-pairs field transforms (Teed & Deng 2020), torchvision's networks."""

    size: RAFTSize = "large"
    """`small` has 1.0 million parameters, `large` 5.3 million."""
    updates: int = 12
    """Recurrent updates of the flow."""


@dataclass(frozen=True, kw_only=True)
class MotionVectorParams(_Checked):
    """Motion vectors that a video's own codec found (Wu et al. 2018)."""

    intra: Intra = "repeat"
    """Fill of a block or a picture without vectors: `repeat` the field before, or `zero`."""


FlowParams = (
    DISParams | FarnebackParams | TVL1Params | TVL1FastParams | RAFTParams | MotionVectorParams
)
