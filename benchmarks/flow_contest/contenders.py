"""The methods that are compared, by name, and how each is called.

This module runs in two environments: the project's, and one that has OpenCV's contributed
modules and no dualstream. So it imports each library inside the function that calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Environment = Literal["opencv-contrib", "dualstream"]

Image = NDArray[np.uint8]
Compute = Callable[[], Any]
"""What is timed: grey images lie ready for OpenCV's methods; dualstream's own take RGB frames, so
that their conversion to grey is within their time."""
Prepare = Callable[[Image, Image], Compute]
"""Two (H, W, 3) RGB images -> the call to time."""

REFERENCE = "opencv-tvl1"


@dataclass(frozen=True)
class Contender:
    """One method with its settings."""

    label: str
    environment: Environment
    start: Callable[[], Prepare]
    """Builds the method once. ImportError, LookupError, TypeError (a setting that this version has
    not) and FileNotFoundError mean that it is not to be had here."""
    is_ours: bool = False


def opencv_tvl1() -> Prepare:
    """OpenCV's `DualTVL1OpticalFlow` with its defaults: 10 rounds of 5x5 median, 30 iterations."""
    return _opencv_tvl1(rounds=10, iterations=30, median_size=5)


def opencv_tvl1_of_tsn() -> Prepare:
    """The defaults of OpenCV's GPU version, which TSN's dense_flow ran: 300 iterations at once."""
    return _opencv_tvl1(rounds=1, iterations=300, median_size=1)


def _opencv_tvl1(*, rounds: int, iterations: int, median_size: int) -> Prepare:
    import cv2

    if not hasattr(cv2, "optflow"):
        raise ImportError("this OpenCV has no contributed modules")
    solver = cv2.optflow.DualTVL1OpticalFlow.create()
    solver.setOuterIterations(rounds)
    solver.setInnerIterations(iterations)
    solver.setMedianFiltering(median_size)
    return _grey_pair(lambda first, second: solver.calc(first, second, None))


def opencv_farneback() -> Prepare:
    """Farneback's method with the settings of flow.params.FarnebackParams."""
    import cv2

    return _grey_pair(
        lambda first, second: cv2.calcOpticalFlowFarneback(
            first, second, None, 0.5, 5, 15, 3, 5, 1.2, 0
        )
    )


def opencv_dis(preset: str) -> Prepare:
    """Dense inverse search with one of OpenCV's presets."""
    import cv2

    solver = cv2.DISOpticalFlow.create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset}"))
    return _grey_pair(lambda first, second: solver.calc(first, second, None))


def dualstream_flow(method: str, **settings: Any) -> Prepare:
    """`dualstream.flow.optical_flow` of two frames; KeyError where it has no such method."""
    from dualstream.flow import optical_flow
    from dualstream.flow.methods.lookup import METHODS

    params: Any = METHODS[method].params(**settings)
    return _frame_pair(lambda frames: optical_flow(frames, method=method, params=params).data)


def dualstream_raft(size: Literal["small", "large"]) -> Prepare:
    """RAFT, where its weights lie already: a benchmark fetches none."""
    from dualstream.flow.methods.raft import weights_path

    if not weights_path(size).is_file():
        raise FileNotFoundError(f"RAFT's weights are not at {weights_path(size)}")
    return dualstream_flow("raft", size=size)


def torch_tvl1() -> Prepare:
    """TV-L1 as tensors, which serves where there is no compiled kernel."""
    from dualstream.flow.methods.params import TVL1Params
    from dualstream.flow.on_torch.tvl1 import tvl1_flow

    params = TVL1Params()
    return _grey_pair(lambda first, second: tvl1_flow(np.stack([first, second]), params=params)[0])


CONTENDERS: dict[str, Contender] = {
    REFERENCE: Contender("OpenCV TV-L1, defaults", "opencv-contrib", opencv_tvl1),
    "opencv-tvl1-tsn": Contender(
        "OpenCV TV-L1, as TSN used it (300 iterations, no median)",
        "opencv-contrib",
        opencv_tvl1_of_tsn,
    ),
    "farneback": Contender("Farneback (OpenCV)", "dualstream", opencv_farneback),
    "dis-ultrafast": Contender(
        "DIS ultrafast (OpenCV)", "dualstream", lambda: opencv_dis("ULTRAFAST")
    ),
    "dis-fast": Contender("DIS fast (OpenCV)", "dualstream", lambda: opencv_dis("FAST")),
    "dis-medium": Contender("DIS medium (OpenCV)", "dualstream", lambda: opencv_dis("MEDIUM")),
    "tvl1": Contender("tvl1", "dualstream", lambda: dualstream_flow("tvl1"), True),
    "tvl1-approximate": Contender(
        "tvl1, approximate arithmetic",
        "dualstream",
        lambda: dualstream_flow("tvl1", arithmetic="approximate"),
        True,
    ),
    "tvl1-fast": Contender("tvl1-fast", "dualstream", lambda: dualstream_flow("tvl1-fast"), True),
    "tvl1-torch": Contender("tvl1 by torch", "dualstream", torch_tvl1, True),
    "raft-small": Contender("RAFT small", "dualstream", lambda: dualstream_raft("small"), True),
    "raft-large": Contender("RAFT large", "dualstream", lambda: dualstream_raft("large"), True),
}


def planes(result: Any) -> NDArray[np.float32]:
    """What a call gave, (H, W, 2), (2, H, W) or (1, 2, H, W), as (2, H, W) float32."""
    flow = np.asarray(result)
    if flow.ndim == 4:
        flow = flow[0]
    if flow.shape[0] != 2:
        flow = flow.transpose(2, 0, 1)  # (H, W, 2) -> (2, H, W)
    return np.ascontiguousarray(flow, np.float32)


def _grey_pair(call: Callable[[Image, Image], Any]) -> Prepare:
    import cv2

    def prepare(first: Image, second: Image) -> Compute:
        a, b = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second))
        return lambda: call(a, b)

    return prepare


def _frame_pair(call: Callable[[Any], Any]) -> Prepare:
    from dualstream.types import Frames

    def prepare(first: Image, second: Image) -> Compute:
        frames = Frames(np.stack([first, second]), np.arange(2.0))
        return lambda: call(frames)

    return prepare
