"""Functions of tensors that a GPU runs as one or two kernels instead of dozens."""

from __future__ import annotations

import logging
import subprocess
import warnings
from collections.abc import Callable, Collection
from typing import Any, Generic, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

_P = ParamSpec("_P")
_R = TypeVar("_R")

_log = logging.getLogger(__name__)


class Fused(Generic[_P, _R]):
    """A function that `torch.compile` compiles where its first argument lies on a GPU.

    It is compiled for all sizes at once, in the first call. Elsewhere, and where it cannot be
    compiled (no Triton, no C compiler), it runs as it is written.
    """

    def __init__(
        self,
        function: Callable[_P, _R],
        *,
        example: Callable[[torch.device], tuple[Any, ...]],
        device_types: Collection[str] = ("cuda",),
    ) -> None:
        """
        Args:
            function: takes a tensor first, and changes none of its arguments.
            example: small arguments on a device, to compile with. Sizes that are equal by chance
                are taken to be equal always, and the function is compiled anew when they are
                not; so they should differ.
            device_types: where it is worth compiling.
        """
        self.function = function
        self._example = example
        self._device_types = device_types
        self._chosen: Callable[_P, _R] | None = None

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        device = cast(Tensor, args[0]).device
        if device.type not in self._device_types:
            return self.function(*args, **kwargs)
        if self._chosen is None:
            self._chosen = self._compile(device)
        return self._chosen(*args, **kwargs)

    def _compile(self, device: torch.device) -> Callable[_P, _R]:
        """The compiled function, or the plain one with a line in the debug log."""
        compiled = torch.compile(self.function, dynamic=True)
        try:
            with warnings.catch_warnings():  # advice on settings that are not ours to change
                warnings.simplefilter("ignore")
                cast(Callable[..., _R], compiled)(*self._example(device))
        except (RuntimeError, ImportError, OSError, subprocess.SubprocessError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            _log.debug("%s runs uncompiled: %s", self.function.__name__, reason)
            return self.function
        return compiled
