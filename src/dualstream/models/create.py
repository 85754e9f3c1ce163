"""Networks by name: their modules, their options, and the check of options that are given.

Importing this file is cheap: the file of a network, and torch with it, is loaded when the network
is first made.
"""

from __future__ import annotations

import functools
import importlib
import types
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from dualstream.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from dualstream.models.network import Network


MODELS: dict[str, str] = {
    name: f"dualstream.models.zoo.{family}"
    for family, names in {
        "c3d": ("c3d",),
        "cnn_m": ("cnn_m_2048",),
        "frame_models": ("cnn_lstm", "temporal_attention", "temporal_conv"),
        "hidden_two_stream": ("hidden_two_stream",),
        "i3d": ("i3d", "inception_v1"),
        "inflate": ("inflated_2d",),
        "lecture": ("lecture_3d_cnn", "lecture_early_fusion", "lecture_late_fusion"),
        "motionnet": ("motionnet",),
        "recurrent_conv": ("recurrent_conv",),
        "resnet3d": ("mc3_18", "r2plus1d_18", "r2plus1d_34", "r3d_18", "r3d_34", "rmc3_18"),
        "resnet_video": ("c2d_r50", "i3d_r50", "r2plus1d_r50", "slow_r50"),
        "s3d": ("s3d", "s3d_g"),
        "slowfast": (
            *("slowfast_r50_4x16", "slowfast_r50_8x8"),
            *("slowfast_r101_8x8", "slowfast_r101_16x8"),
        ),
        "t3d": ("t3d_121", "t3d_169"),
        "time_fusion": ("early_fusion", "late_fusion", "single_frame", "slow_fusion"),
        "tsn": ("tsn",),
        "x3d": ("x3d", "x3d_l", "x3d_m", "x3d_s", "x3d_xl", "x3d_xs"),
    }.items()
    for name in names
} | {
    "cross_attention": "dualstream.models.joined.cross_attention",
    "conv_fusion": "dualstream.models.joined.conv_fusion",
    "two_stream": "dualstream.models.joined.two_stream",
}
"""Name of a network -> module whose function (or class) of that name makes it.

Every network takes `num_classes` and `in_channels`; those with a fixed length take `length`, those
with a fixed size `image_size`. A network with one input takes whole numbers there; one with several
takes a mapping from each stream's name to one for `in_channels` and `length`.
"""


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


def new_network(name: str, **options: Any) -> Network:
    """The network `name`, without weights.

    Raises:
        UnknownNameError: the network, an option or the value of a choice is unknown.
        InputError: a necessary option is missing, or a value is of another type or out of range.
    """
    from pydantic import ValidationError

    known = network_options(name)
    try:
        known.model_validate(options)
    except ValidationError as error:
        raise _explained(error, name, known) from None
    network = model_function(name)(**options)
    network.name = name
    return network


def _explained(error: ValidationError, name: str, known: type[BaseModel]) -> InputError:
    """The first mistake in options, an unknown name before a missing one."""
    mistake = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    option, value = str(mistake["loc"][0]), mistake["input"]
    if mistake["type"] == "extra_forbidden":
        return UnknownNameError(f"option of {name}", option, (*known.model_fields, "weights"))
    if mistake["type"] == "missing":
        return InputError(f"{name} needs the option {option!r}.")
    annotation = known.model_fields[option].annotation
    if mistake["type"] == "literal_error":
        return UnknownNameError(option, value, choices(annotation))
    return InputError(f"Option {option} of {name} must be {type_name(annotation)}, got {value!r}.")


def choices(annotation: Any) -> tuple[str, ...]:
    """Names that an option takes where it is a choice among some, otherwise ()."""
    inside = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        return inside
    return tuple(name for part in inside for name in choices(part))


def type_name(annotation: Any) -> str:
    """Type of an option for a reader: 'int | None', 'full | top_heavy | bottom_heavy'."""
    if typing.get_origin(annotation) is Literal:
        return " | ".join(choices(annotation))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " | ".join(type_name(part) for part in typing.get_args(annotation))
    if annotation is types.NoneType:
        return "None"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("collections.abc.", "")


@functools.cache
def network_options(name: str) -> type[BaseModel]:
    """Options of a network as a pydantic model, whose fields have their types and defaults.

    They are the keyword arguments of the function that makes it. Where that passes on a whole
    `TypedDict` of options, their defaults are those of the class that it makes.
    """
    from pydantic import ConfigDict, create_model

    function = model_function(name)
    made_by = getattr(function, "__init__", None) if isinstance(function, type) else function
    hints = typing.get_type_hints(made_by, include_extras=True)
    made = hints.pop("return", None)
    options: dict[str, Any] = {}
    defaults: dict[str, Any] = dict(getattr(made_by, "__kwdefaults__", None) or {})
    for option, hint in hints.items():
        if typing.get_origin(hint) is not typing.Unpack:
            options[option] = hint
            continue
        options |= typing.get_type_hints(typing.get_args(hint)[0])
        defaults = made.__init__.__kwdefaults__ | defaults
    fields: dict[str, Any] = {
        option: (hint, defaults.get(option, ...)) for option, hint in options.items()
    }
    config = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)
    known: type[BaseModel] = create_model(function.__name__, __config__=config, **fields)
    return known


def fixed_options(name: str) -> tuple[str, ...]:
    """Options of a network that its input decides: T where frames are stacked as channels or
    demanded by fully connected layers (`length`), H = W where these fix it (`image_size`)."""
    options = network_options(name).model_fields
    return tuple(option for option in ("length", "image_size") if option in options)
