"""Devices by their names, checked before anything is done on them."""

from __future__ import annotations

import torch

from dualstream.errors import InputError


def check_device(name: str) -> torch.device:
    """The device of a name such as cpu, cuda or cuda:1.

    Raises:
        InputError: torch has no such device, or this machine has not.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"There is no device {name!r}: give cpu, cuda or cuda:N.") from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            has = "no GPU that torch can use" if not count else f"GPUs 0 to {count - 1}"
            raise InputError(f"{name!r} cannot be used, this machine has {has}. Give cpu.")
    return device
