"""RAFT optical flow with torchvision's networks and published weights."""

from __future__ import annotations

import functools
import pickle
import urllib.error
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.optical_flow import (
    Raft_Large_Weights,
    Raft_Small_Weights,
    raft_large,
    raft_small,
)

from dualstream.errors import WeightsError
from dualstream.flow.methods.params import RAFTParams, RAFTSize

_STRIDE_PX = 8
_SMALLEST_SIDE_PX = 128
_GPU_PIXELS = 2**20

_NETWORKS = {
    "small": (raft_small, Raft_Small_Weights.C_T_V2.url),
    "large": (raft_large, Raft_Large_Weights.C_T_SKHT_V2.url),
}
"""Trained on FlyingChairs and FlyingThings3D (small), and on Sintel, KITTI, HD1K (large) too."""


def raft_flow(
    first: NDArray[np.uint8], second: NDArray[np.uint8], *, params: RAFTParams, device: str = "cpu"
) -> NDArray[np.float32]:
    """Flow from each image of `first` to its partner in `second`.

    Args:
        first: (N, H, W, 3) RGB; sides are padded to multiples of 8 and to 128 by repeating
            edges, and the flow is cut back.
        second: (N, H, W, 3).
        params: network and number of updates.
        device: torch device.

    Returns:
        (N, 2, H, W) pixels.

    Raises:
        WeightsError: the weights are not in torch's hub cache and cannot be fetched.

    Source:
        Teed & Deng 2020; torchvision.models.optical_flow.
    """
    network = _load(params.size, device, weights_path(params.size))
    height, width = first.shape[1:3]
    batch = 1 if device == "cpu" else max(1, _GPU_PIXELS // (height * width))
    left, right, top, bottom = padding(height, width)
    out = np.empty((len(first), 2, height, width), np.float32)
    with torch.inference_mode():
        for start in range(0, len(first), batch):
            part = slice(start, start + batch)
            images = [
                F.pad(_to_input(image[part], device), (left, right, top, bottom), mode="replicate")
                for image in (first, second)
            ]
            flow = network(*images, num_flow_updates=params.updates)[-1]
            out[part] = flow[:, :, top : top + height, left : left + width].cpu().numpy()
    return out


def padding(height: int, width: int) -> tuple[int, int, int, int]:
    """Pixels to add (left, right, top, bottom): 240x322 -> (3, 3, 0, 0); 100x100 -> all 14."""
    extra_x, extra_y = (
        max(-(-side // _STRIDE_PX) * _STRIDE_PX, _SMALLEST_SIDE_PX) - side
        for side in (width, height)
    )
    return extra_x // 2, extra_x - extra_x // 2, extra_y // 2, extra_y - extra_y // 2


def weights_path(size: RAFTSize) -> Path:
    """Path of the weights, which may be put there by hand: torch's hub cache ($TORCH_HOME)."""
    return Path(torch.hub.get_dir(), "checkpoints", _NETWORKS[size][1].rsplit("/", 1)[-1])


@functools.lru_cache(maxsize=2)
def _load(size: RAFTSize, device: str, path: Path) -> nn.Module:
    """RAFT with its published weights, in evaluation mode."""
    builder, url = _NETWORKS[size]
    if not path.is_file():
        digits = path.stem.rsplit("-", 1)[-1]  # raft_small_C_T_V2-01064c6d: start of the SHA-256
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digits, progress=False)
        except (urllib.error.URLError, OSError, RuntimeError) as error:
            raise WeightsError(
                f"RAFT's weights are not at {path} and {url} cannot be fetched ({error}). On a "
                "machine without a network, put that file there by hand, or choose another flow "
                "method."
            ) from error
    network: nn.Module = builder(weights=None, progress=False)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, pickle.UnpicklingError, EOFError, TypeError, AttributeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise WeightsError(
            f"{path} does not hold the weights of RAFT {size} ({reason}). Remove it and run again, "
            f"or put {url} there."
        ) from error
    return network.eval().to(device)


def _to_input(images: NDArray[np.uint8], device: str) -> Tensor:
    """(N, H, W, 3) bytes -> (N, 3, H, W) in -1..1."""
    batch = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    return batch.permute(0, 3, 1, 2).float() / 127.5 - 1
