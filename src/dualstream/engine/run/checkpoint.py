"""Trained networks: made by their recipe, with the weights of a run folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dualstream.engine.recipe import Recipe
from dualstream.engine.run.info import COPY_AGAIN, RunInfo, read_run
from dualstream.errors import CheckpointError, InputError, RecipeError, UnknownNameError
from dualstream.files import replacing
from dualstream.flow.methods.lookup import params_from_values
from dualstream.flow.methods.params import FlowParams
from dualstream.models import create_model, list_weights
from dualstream.models.create import fixed_options
from dualstream.models.network import Network
from dualstream.models.weights.loading import list_problems
from dualstream.types import ClipSpec


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained network with everything needed to use it."""

    folder: Path
    model: Network
    recipe: Recipe
    classes: tuple[str, ...]
    info: RunInfo

    @property
    def spec(self) -> ClipSpec:
        """Input of the network in a test and in prediction."""
        return self.recipe.test_spec()

    @property
    def flow_params(self) -> dict[str, FlowParams]:
        """Stream -> settings that its flow must be computed with, for the streams that read it."""
        found = {}
        for name, stream in self.spec.flow_streams.items():
            origin = self.info.flow.get(name)
            params = params_from_values(stream.flow_method, origin.params if origin else None)
            if params is not None:
                found[name] = params
        return found


_STARTS = ("pretrained", "temporal_weights")
"""Options of networks that say where weights start."""


def build_model(recipe: Recipe, num_classes: int, *, with_weights: bool) -> Network:
    """The network of a recipe.

    Args:
        with_weights: start from the recipe's pretrained weights, or from those of the run that
            `model.weights` names; False where trained ones are loaded next.

    Raises:
        UnknownNameError: `model.weights` is neither a name of weights nor a folder.
        CheckpointError: it is a folder, and not of a run of this network (`start_from_run`).
        RecipeError: the network takes one length or size only, and the test has another.
    """
    spec = recipe.clip_spec()
    options = dict(recipe.model.options)
    run = starting_run(recipe) if with_weights else None
    if not with_weights or (run and read_run(run)[0].model.name == recipe.model.name):
        options = {name: value for name, value in options.items() if name not in _STARTS}
    options |= _fixed_sizes(recipe)
    model = create_model(
        recipe.model.name,
        weights=recipe.model.weights if with_weights and run is None else None,
        num_classes=num_classes,
        in_channels=_by_stream({n: stream.channels for n, stream in spec.streams.items()}),
        **options,
    )
    if run is not None:
        start_from_run(model, run, recipe)
    if model.conv_dims == 3:
        return model
    # 2D convolutions run 1.5 times as fast with channels last (EfficientNet-Lite0 on two cores).
    return model.to(memory_format=torch.channels_last)


def check_streams(model: Network, spec: ClipSpec) -> None:
    """Check that a network takes what it is fed.

    Raises:
        RecipeError: the streams are not those of the network.
        ShapeError: clips that are smaller or shorter than it takes.
    """
    if len(spec.streams) > 1 and set(spec.streams) != set(model.inputs):
        raise RecipeError(
            f"{model.name} sees the streams {', '.join(model.inputs)}, the recipe's inputs are "
            f"{', '.join(spec.streams)}. Name them alike."
        )
    model.check(
        {
            name: (1, stream.channels, stream.num_frames, spec.crop_size, spec.crop_size)
            for name, stream in spec.streams.items()
        }
    )


def check_losses(model: Network, recipe: Recipe) -> None:
    """Check that a network has the losses that the recipe has weights for.

    Raises:
        UnknownNameError: it has not, or not the parts of `lr_factors`; lists those that it has.
        RecipeError: what they are for is frozen.
    """
    parts = dict(model.named_children())
    for name in recipe.train.optimizer.lr_factors:
        if name not in parts:
            raise UnknownNameError(f"part of {model.name} in lr_factors", name, tuple(parts))
    losses, known = recipe.train.losses, (*model.heads, *model.own_losses)
    for name in losses:
        if name not in known:
            raise UnknownNameError(f"loss of {model.name} in train.losses", name, known)
    if "motion" not in losses:
        return
    if recipe.model.trainable != "all":
        raise RecipeError(
            f"model.trainable={recipe.model.trainable} freezes MotionNet, which the loss motion of "
            "train.losses is for: set model.trainable=all, or leave that loss out."
        )
    if recipe.data.frozen_views:
        raise RecipeError("The loss motion needs new views each epoch: set data.frozen_views=0.")


def learns_classes(recipe: Recipe) -> bool:
    """Whether a recipe's losses look at labels."""
    return recipe.train.losses.keys() != {"motion"}


def _by_stream(values: dict[str, int]) -> int | dict[str, int]:
    """Return the value of a single stream, or those of several, as networks take them."""
    return values if len(values) > 1 else next(iter(values.values()))


def _fixed_sizes(recipe: Recipe) -> dict[str, Any]:
    """Options of the network that its inputs decide: the length and image_size it fixes."""
    specs = recipe.clip_spec(), recipe.test_spec()
    lengths = [_by_stream({n: s.num_frames for n, s in spec.streams.items()}) for spec in specs]
    known = {
        "length": (*lengths, "test.num_frames"),
        "image_size": (*(spec.crop_size for spec in specs), "test.whole_side"),
    }
    sizes: dict[str, Any] = {}
    for option in fixed_options(recipe.model.name):
        size, test_size, key = known[option]
        if size != test_size:
            raise RecipeError(
                f"{recipe.model.name} takes one {option} only, {size} in training and "
                f"{test_size} in the test: leave {key} out."
            )
        given = recipe.model.options.get(option, size)
        if given != size:
            raise RecipeError(
                f"model.options.{option}={given} is not what the inputs are, {size}. Leave it "
                "out, the inputs decide it."
            )
        sizes[option] = size
    return sizes


def starting_run(recipe: Recipe) -> Path | None:
    """Return the folder of the run that `model.weights` names; None for published weights.

    UnknownNameError where it is neither a name of weights nor a folder.
    """
    weights = recipe.model.weights
    if weights is None or weights in list_weights():
        return None
    if not Path(weights).is_dir():
        raise UnknownNameError("weights", weights, (*list_weights(), "the folder of a run"))
    return Path(weights)


def start_from_run(model: Network, folder: Path, recipe: Recipe) -> None:
    """Load the weights of a run of the same network into `model`, in place.

    The classifier is taken over as well, unless the run has another number of classes: then it
    stays as it is. Everything else must match. Runs of `dualstream transfer` serve too, and of a
    network that the model says it `starts_from` those parts.

    Args:
        recipe: what `model` was made by.

    Raises:
        CheckpointError: no run folder, no weights in it yet, or weights that are not those of
            this network; names the other network or modality, else lists the tensors that are
            missing, left over or of another shape.
    """
    theirs, classes, _ = read_run(folder)
    state, own = _read_weights(folder), model.state_dict()
    if part := model.starts_from.get(theirs.model.name):
        state, own = (
            {name: value for name, value in tensors.items() if name.startswith(f"{part}.")}
            for tensors in (state, own)
        )
    elif len(classes) != model.num_classes:
        state, own = (
            {name: value for name, value in tensors.items() if not name.startswith("classifier.")}
            for tensors in (state, own)
        )
    if not (problems := list_problems(state, own)):
        model.load_state_dict(state, strict=False)
        return
    before, now = ({n: s.modality for n, s in one.inputs.items()} for one in (theirs, recipe))
    if theirs.model.name not in (recipe.model.name, *model.starts_from):
        reason = (
            f"{folder} is a run of {theirs.model.name}, this recipe makes {recipe.model.name}, "
            f"whose weights are others. Set model.name={theirs.model.name}, or start from a run of "
            f"{' or '.join((recipe.model.name, *model.starts_from))}."
        )
    elif before != now:
        reason = (
            f"{folder} is a run on {', '.join(before.values())}, this recipe's inputs are "
            f"{', '.join(now.values())}. Start from a run on the same, or from published weights, "
            "which are brought to any number of channels."
        )
    else:
        reason = (
            f"The weights of {folder} are not those of {model.name} as this recipe makes it. "
            f"{'; '.join(problems)}."
        )
    raise CheckpointError(reason)


def save_weights(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Write `model.safetensors` whole or not at all."""
    with replacing(folder / "model.safetensors") as temporary:
        save_file({name: value.contiguous().cpu() for name, value in state.items()}, temporary)


def load_checkpoint(
    folder: str | os.PathLike[str], *, device: str = "cpu", with_classes: bool = True
) -> Checkpoint:
    """A trained network, ready to predict.

    Args:
        folder: of the run.
        device: where the network is to be.
        with_classes: whether it must have learnt its classes; flow needs none.

    Raises:
        CheckpointError: the folder is no run, training has written no weights yet, the file
            is broken, its tensors are not those of the recipe's network, or the run is a
            transfer's or one without labels, whose classifier has learnt nothing.
        InputError: no such device.
    """
    root = Path(folder)
    recipe, classes, info = read_run(root)
    state = _read_weights(root)
    is_taught = info.teacher is not None
    if with_classes and (is_taught or not learns_classes(recipe)):
        made = "by `dualstream transfer`" if is_taught else "without labels"
        raise CheckpointError(
            f"{root} is a start made {made}; it knows no classes yet. Train from it: "
            f"dualstream train DATA --recipe ... --out ... model.weights={root}"
        )
    model = build_model(recipe, len(classes), with_weights=False)
    if problems := list_problems(state, model.state_dict()):
        raise CheckpointError(
            f"{root / 'model.safetensors'} does not hold the weights of {recipe.model.name} with "
            f"{len(classes)} classes. {'; '.join(problems)}."
        )
    model.load_state_dict(state)
    return Checkpoint(root, model.eval().to(check_device(device)), recipe, classes, info)


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


def _read_weights(root: Path) -> dict[str, torch.Tensor]:
    """Tensors of a run's `model.safetensors`."""
    path = root / "model.safetensors"
    if not path.is_file():
        raise CheckpointError(
            f"{root} has no weights yet: finish it with `dualstream train --resume {root}`."
        )
    try:
        state: dict[str, torch.Tensor] = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is broken ({error}). {COPY_AGAIN}") from error
    return state


def check_classes(checkpoint: Checkpoint, classes: tuple[str, ...], where: str) -> None:
    """Refuse data whose classes are not the checkpoint's, in its order.

    Raises:
        CheckpointError: names the first class that differs.
    """
    if checkpoint.classes == classes:
        return
    pairs = enumerate(zip(checkpoint.classes, classes, strict=False))
    details = (f"class {i} is {a!r} there and {b!r} here" for i, (a, b) in pairs if a != b)
    detail = next(details, f"{len(checkpoint.classes)} classes there, {len(classes)} here")
    raise CheckpointError(
        f"The classes of {checkpoint.folder} are not those of {where}: {detail}. "
        "Test with the data set that the network was trained on, or train again."
    )
