"""Networks: tensors of clips in, logits out.

Importing this package is cheap: the file of a network, and torch with it, is loaded when the
network is first made.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from inspect import signature
from types import NoneType
from typing import TYPE_CHECKING, Any

from dualstream.errors import InputError, UnknownNameError
from dualstream.models.weights import fetch, list_weights, load_weights, weights_entry
from dualstream.models.weights.catalogue import WEIGHTS, WeightsEntry

if TYPE_CHECKING:
    from dualstream.models.network import Network, parameter_groups, set_trainable
    from dualstream.models.weights.loading import load_state_file

__all__ = [
    "MODELS",
    "WEIGHTS",
    "Network",
    "WeightsEntry",
    "create_model",
    "fetch",
    "list_models",
    "list_weights",
    "load_state_file",
    "load_weights",
    "model_function",
    "parameter_groups",
    "set_trainable",
]

MODELS: dict[str, str] = {
    "c2d_r50": "dualstream.models.resnet_video",
    "c3d": "dualstream.models.c3d",
    "cnn_lstm": "dualstream.models.frame_models",
    "cnn_m_2048": "dualstream.models.cnn_m",
    "early_fusion": "dualstream.models.time_fusion",
    "i3d": "dualstream.models.i3d",
    "i3d_r50": "dualstream.models.resnet_video",
    "inception_v1": "dualstream.models.i3d",
    "inflated_2d": "dualstream.models.inflate",
    "late_fusion": "dualstream.models.time_fusion",
    "lecture_3d_cnn": "dualstream.models.lecture",
    "lecture_early_fusion": "dualstream.models.lecture",
    "lecture_late_fusion": "dualstream.models.lecture",
    "mc3_18": "dualstream.models.resnet3d",
    "r2plus1d_18": "dualstream.models.resnet3d",
    "r2plus1d_34": "dualstream.models.resnet3d",
    "r2plus1d_r50": "dualstream.models.resnet_video",
    "r3d_18": "dualstream.models.resnet3d",
    "r3d_34": "dualstream.models.resnet3d",
    "recurrent_conv": "dualstream.models.recurrent_conv",
    "rmc3_18": "dualstream.models.resnet3d",
    "s3d": "dualstream.models.s3d",
    "s3d_g": "dualstream.models.s3d",
    "single_frame": "dualstream.models.time_fusion",
    "slow_fusion": "dualstream.models.time_fusion",
    "slow_r50": "dualstream.models.resnet_video",
    "slowfast_r101_16x8": "dualstream.models.slowfast",
    "slowfast_r101_8x8": "dualstream.models.slowfast",
    "slowfast_r50_4x16": "dualstream.models.slowfast",
    "slowfast_r50_8x8": "dualstream.models.slowfast",
    "t3d_121": "dualstream.models.t3d",
    "t3d_169": "dualstream.models.t3d",
    "temporal_attention": "dualstream.models.frame_models",
    "temporal_conv": "dualstream.models.frame_models",
    "tsn": "dualstream.models.tsn",
    "x3d": "dualstream.models.x3d",
    "x3d_l": "dualstream.models.x3d",
    "x3d_m": "dualstream.models.x3d",
    "x3d_s": "dualstream.models.x3d",
    "x3d_xl": "dualstream.models.x3d",
    "x3d_xs": "dualstream.models.x3d",
}
"""Name of a network -> the module whose function of that name makes it."""


def list_models() -> tuple[str, ...]:
    """Names that `create_model` knows, in alphabetical order."""
    return tuple(sorted(MODELS))


def model_function(name: str) -> Callable[..., Network]:
    """Function that makes the network `name`; its keyword arguments are the network's options.

    Raises:
        UnknownNameError: `name` is not in `MODELS`.
    """
    if name not in MODELS:
        raise UnknownNameError("model", name, list_models())
    function: Callable[..., Network] = getattr(importlib.import_module(MODELS[name]), name)
    return function


def create_model(name: str, *, weights: str | None = None, **options: Any) -> Network:
    """Make a network, with pretrained weights if asked for.

    With `weights`, options that are not given are those of the weights. Two of them may differ,
    because the difference is then bridged in the documented way: another `num_classes` gets a
    fresh classifier, and other input channels (`in_channels` x `length`) get the
    cross-modality start (`cross_modality.cross_modality_start`).

    Args:
        name: one of `list_models()`.
        weights: one of `list_weights()`, downloaded if it is not in the cache yet.
        options: keyword arguments of the network's function, for instance `num_classes`.

    Returns:
        The network in training mode. Its `spec` and `classes` are those of the weights; they are
        None and () without weights, `spec` also when the input channels differ and `classes`
        also when the classifier is fresh.

    Raises:
        UnknownNameError: the network, the weights, an option or the value of a choice is unknown.
        InputError: a necessary option is missing.
        WeightsError: the weights cannot be had, or are those of another network.
    """
    function = model_function(name)
    if weights is None:
        _check_options(name, function, options)
        return _named(function(**options), name)
    entry = weights_entry(weights)
    entry.check_fits(name, options)
    options = {**entry.options, **options}
    _check_options(name, function, options)
    if options.get("pretrained"):
        raise InputError("Give either weights or pretrained=True, not both.")
    model = _named(function(**options), name)
    load_weights(model, weights)
    return model


def _named(model: Network, name: str) -> Network:
    model.name = name
    return model


def __getattr__(name: str) -> Any:
    """Names of `network` and `loading` that are looked up here; loads torch."""
    if name == "load_state_file":
        return importlib.import_module("dualstream.models.weights.loading").load_state_file
    if name in ("Network", "parameter_groups", "set_trainable"):
        return getattr(importlib.import_module("dualstream.models.network"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_SIMPLE: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "int | None": (int, NoneType),
    "float": (float, int),
    "bool": (bool,),
    "str": (str,),
}
"""Annotation of an option -> what it takes."""


def _check_type(name: str, option: str, value: object, annotation: str) -> None:
    """Raise InputError on a value of another simple type; the functions check the others."""
    types = _SIMPLE.get(annotation)
    mistaken = isinstance(value, bool) and types is not None and bool not in types
    if types is not None and (mistaken or not isinstance(value, types)):
        raise InputError(f"Option {option} of {name} must be {annotation}, got {value!r}.")


def _check_options(name: str, function: Callable[..., Network], options: dict[str, Any]) -> None:
    """Raise on an option that `function` does not have, or lacks."""
    parameters = signature(function).parameters
    for option in options:
        if option not in parameters:
            raise UnknownNameError(f"option of {name}", option, (*parameters, "weights"))
        _check_type(name, option, options[option], str(parameters[option].annotation))
    for option, parameter in parameters.items():
        if parameter.default is parameter.empty and option not in options:
            raise InputError(f"{name} needs the option {option!r}.")
