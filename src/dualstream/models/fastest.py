"""Fast inference: the form of a network that runs fastest here, found by measuring.

The forms are the network as it is, with its batch norms folded into the convolutions, with channels
last in memory, and compiled by `torch.compile` with its weights frozen into the code.
"""

from __future__ import annotations

import copy
import logging
import math
import os
import subprocess
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dualstream.errors import InputError, check_choice
from dualstream.models.layers.conv import ConvUnit
from dualstream.models.weights import cache_folder

FormName = Literal["plain", "folded", "channels_last", "compiled", "half", "half_compiled"]

Input = torch.Tensor | Mapping[str, torch.Tensor]
"""Input of a network: one tensor, or stream -> tensor."""

Shape = tuple[Any, ...]
"""Of a tensor, or of each stream's."""

Run = Callable[[Any], torch.Tensor]
"""From an `Input` to logits."""

TOLERANCE = 1e-3
"""Largest difference of an output allowed, as a part of the largest."""

HALF_TOLERANCE = 2e-2
"""The same for half precision, which has 11 bits."""

ROUNDS = 5
"""Times that each form is timed, in turns."""

MOST_SHAPES = 4
"""Shapes of input that forms are measured and compiled for; further ones run uncompiled."""

_ANY_SHAPE: tuple[FormName, ...] = ("plain", "folded", "channels_last", "half")

_CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Form:
    """Time and error of one form of a module for one shape of input."""

    name: FormName
    seconds: float
    """Of a forward pass, the fastest of `ROUNDS`."""
    difference: float
    """Largest difference of an output from the plain one's, as a part of the largest."""


class FastestForm:
    """A module from an input to one tensor, in the form that is fastest for each shape of input.

    The first input of a shape is run through every form; those that fail (no compiler) or change
    the output by more than `TOLERANCE` (half precision: `HALF_TOLERANCE`) are dropped, and the
    fastest of the others serves from then on. Shapes beyond `MOST_SHAPES` get the form that was
    the fastest uncompiled one for the first. Compiling takes up to a minute the first time and
    seconds later on: what was compiled lies in the cache folder, `compiled` beside the weights.

    Args:
        module: in evaluation mode, on the device where it shall run; it must not change later.
        name: for the log.
    """

    def __init__(self, module: nn.Module, *, name: str) -> None:
        self.module = module
        self.name = name
        self.forms: dict[Shape, tuple[Form, ...]] = {}
        """Shape of input -> the forms that were measured for it, the fastest first."""
        self._kept: dict[FormName, Run] = {"plain": module}
        """The forms that serve a shape, each with a copy of the weights."""
        self._fixed: FormName | None = None

    def __call__(self, x: Input) -> torch.Tensor:
        """Return the module's output, without gradients; a mapping of one entry is that entry."""
        if isinstance(x, Mapping) and len(x) == 1:
            (x,) = x.values()
        # Out of inference mode, whose tensors torch.compile does not freeze.
        with torch.inference_mode(False), torch.no_grad():
            return self._kept[self._serving(x)](x)

    def serving(self, x: Input) -> FormName:
        """Return the name of the form that serves inputs as this one, measured if need be."""
        with torch.inference_mode(False), torch.no_grad():
            return self._serving(x)

    def fix(self, form: str, x: Input) -> None:
        """Serve inputs of every shape in one form from now on, unmeasured.

        Args:
            x: an input to try it with.

        Raises:
            UnknownNameError: there is no form of that name.
            InputError: it cannot run here.
        """
        check_choice("form", form, FormName)
        name = cast("FormName", form)
        with torch.inference_mode(False), torch.no_grad():
            is_known = name in self._kept or name in _forms(self.module, _device(x))
            found = self._tried(name, x) if is_known else None
        if found is None:
            raise InputError(f"{self.name} cannot run here in the form {form}.")
        self._kept[name], self._fixed = found[0], name

    def _serving(self, x: Input) -> FormName:
        """Name of the form, one of those kept, that serves inputs as this one."""
        if self._fixed is not None:
            return self._fixed
        shape = _shape(x)
        if shape not in self.forms and len(self.forms) < MOST_SHAPES:
            self._measure(x)
        if shape in self.forms:
            return self.forms[shape][0].name
        forms = next(iter(self.forms.values()))
        name = next(form.name for form in forms if form.name in _ANY_SHAPE)
        self._kept[name] = self._run(name, x)
        return name

    def _measure(self, x: Input) -> None:
        """Time the forms that give what the plain one gives, and keep the fastest."""
        expected = self.module(x)
        right: dict[FormName, tuple[Run, float]] = {"plain": (self.module, 0.0)}
        for name in _forms(self.module, _device(x)):
            if (found := self._tried(name, x)) is None:
                continue
            run, output = found
            largest = expected.abs().max().clamp(min=1e-30)
            difference = float(((output - expected).abs().max() / largest).nan_to_num(nan=math.inf))
            if difference <= (HALF_TOLERANCE if name.startswith("half") else TOLERANCE):
                right[name] = (run, difference)
            else:
                _log.warning("%s: form %s is off by %.1e, not used", self.name, name, difference)
        seconds = _least_seconds({name: run for name, (run, _) in right.items()}, x)
        order = sorted(right, key=lambda name: seconds[name])
        self.forms[_shape(x)] = tuple(Form(name, seconds[name], right[name][1]) for name in order)
        self._kept[order[0]] = right[order[0]][0]

    def _run(self, name: FormName, x: Input) -> Run:
        """The form of that name for the device of an input: the one that serves, or a new one."""
        return self._kept.get(name) or _forms(self.module, _device(x))[name]()

    def _tried(self, name: FormName, x: Input) -> tuple[Run, torch.Tensor] | None:
        """A form and its first output, or None with a line in the log where it cannot run here."""
        try:
            with warnings.catch_warnings():  # advice on settings that are not ours to change
                warnings.simplefilter("ignore")
                # It tells at the level of warnings that there is no CUDA.
                logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
                run = self._run(name, x)
                return run, run(x)
        except (RuntimeError, ImportError, OSError, subprocess.SubprocessError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            _log.info("form %s cannot be used here: %s", name, reason)
            return None


def fastest(model: nn.Module, *, name: str = "network") -> FastestForm:
    """Return a network for prediction only, as fast as this machine runs it.

    Args:
        model: on the device where it shall run; a copy is taken, in evaluation mode.
        name: for the log.
    """
    return FastestForm(copy.deepcopy(model).eval().requires_grad_(False), name=name)


def fold_batch_norms(model: nn.Module) -> None:
    """Merge the batch norm of every `ConvUnit` into its convolution, in place.

    Args:
        model: in evaluation mode; its logits stay what they are up to rounding.

    Raises:
        InputError: `model` is in training mode, where batch norms are no fixed scale and shift.
    """
    if model.training:
        raise InputError("Batch norms can be folded in evaluation mode only: call eval() first.")
    for unit in model.modules():
        if isinstance(unit, ConvUnit) and isinstance(unit.norm, nn.BatchNorm3d):
            unit.conv = fuse_conv_bn_eval(unit.conv, unit.norm)
            unit.norm = nn.Identity()


def channels_last(model: nn.Module) -> None:
    """Lay out the weights of 2D and 3D convolutions with channels last, in place.

    The convolutions then take and give activations with channels last too.
    """
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in model.parameters():
        if parameter.ndim in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])


def _forms(plain: nn.Module, device: torch.device) -> dict[FormName, Callable[[], Run]]:
    """Functions that make the other forms of a module, by name."""

    def folded() -> nn.Module:
        model = copy.deepcopy(plain)
        fold_batch_norms(model)
        return model

    def with_channels_last() -> nn.Module:
        model = folded()
        channels_last(model)
        return model

    def half(*, is_compiled: bool) -> Run:
        model = with_channels_last().half()

        def cast_around(x: Input) -> torch.Tensor:
            halves = {n: t.half() for n, t in x.items()} if isinstance(x, Mapping) else x.half()
            output: torch.Tensor = model(halves)
            return output.float()

        run = _compiled(cast_around) if is_compiled else cast_around

        def plain_where_not_finite(x: Input) -> torch.Tensor:
            output = run(x)
            return output if output.isfinite().all() else cast("torch.Tensor", plain(x))

        return plain_where_not_finite

    forms: dict[FormName, Callable[[], Run]] = {
        "folded": folded,
        "channels_last": with_channels_last,
    }
    if device.type == "cuda":
        forms["half"] = partial(half, is_compiled=False)
        forms["half_compiled"] = partial(half, is_compiled=True)
    forms["compiled"] = lambda: _compiled(with_channels_last())
    return forms


def _compiled(run: Run) -> Run:
    from torch._inductor import config as inductor_config  # slow to import
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    # Importing inductor sets the variable to a temporary folder; what the user set stays.
    if os.environ.get(_CACHE_VARIABLE, default_cache_dir()) == default_cache_dir():
        os.environ[_CACHE_VARIABLE] = str(cache_folder().parent / "compiled")
    compiled: Run = torch.compile(run, dynamic=False)

    def call(x: Input) -> torch.Tensor:
        # As an option of `compile` freezing does not reach all of it (r3d_18: 274 ms, not 203).
        with inductor_config.patch(freezing=True):
            return compiled(x)

    return call


def _least_seconds(runs: dict[FormName, Run], x: Input) -> dict[FormName, float]:
    """Least time of each over `ROUNDS`, in turns: what else runs only ever adds to it."""
    device = _device(x)

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    seconds: dict[FormName, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = now()
            run(x)
            seconds[name].append(now() - start)
    return {name: min(values) for name, values in seconds.items()}


def _shape(x: Input) -> Shape:
    if isinstance(x, Mapping):
        return tuple((name, *tensor.shape) for name, tensor in x.items())
    return tuple(x.shape)


def _device(x: Input) -> torch.device:
    return next(iter(x.values())).device if isinstance(x, Mapping) else x.device
