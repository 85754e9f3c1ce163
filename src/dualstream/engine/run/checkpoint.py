"""Trained networks: made by their recipe, with the weights of a run folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dualstream.engine.recipe import Recipe
from dualstream.engine.run.hub import hub_address, local_run
from dualstream.engine.run.info import COPY_AGAIN, RunInfo, read_facts, read_run
from dualstream.engine.run.trajectory_model import CLASSIFIER, CODEBOOK
from dualstream.engine.trajectory_recipe import is_trajectory_run
from dualstream.errors import CheckpointError, InputError, RecipeError, UnknownNameError
from dualstream.files import file_sha256, replacing
from dualstream.flow.methods.lookup import params_from_values
from dualstream.flow.methods.params import FlowParams
from dualstream.models import create_model, list_weights, load_weights
from dualstream.models.create import fixed_options
from dualstream.models.layers.conv import cross_modality_start
from dualstream.models.network import Network
from dualstream.models.weights import weights_entry
from dualstream.models.weights.loading import list_problems, without
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


def build_model(recipe: Recipe, num_classes: int, *, with_weights: bool) -> Network:
    """The network of a recipe.

    Args:
        with_weights: start from the recipe's pretrained weights, or from those of the run that
            `model.weights` names; False where trained ones are loaded next.

    Raises:
        UnknownNameError: `model.weights` is neither a name of weights nor a folder, or is given for
            a stream that the network has no tower for.
        CheckpointError: it is a folder, and not of a run of this network (`start_from_run`).
        RecipeError: the network takes one length or size only, and the test has another.
    """
    spec = recipe.clip_spec()
    sources = starting_weights(recipe) if with_weights else {}
    whole = sources.pop("", None)
    options = _with_sizes(recipe)
    goes_on = isinstance(whole, Path) and read_run(whole)[0].model.name == recipe.model.name
    if goes_on or not with_weights:
        options = _without_starts(options)
    model = create_model(
        recipe.model.name,
        weights=whole if isinstance(whole, str) else None,
        num_classes=num_classes,
        in_channels=_by_stream({n: stream.channels for n, stream in spec.streams.items()}),
        **options,
    )
    _check_test_sizes(model, recipe)
    if isinstance(whole, Path):
        start_from_run(model, whole)
    for stream, source in sources.items():
        tower = model.tower_of(stream)
        if isinstance(source, Path):
            start_from_run(tower, source)
        else:
            weights_entry(source).check_fits(tower.name, {})
            load_weights(tower, source)
    for network in model.towers().values() or (model,):
        # 2D convolutions run 1.5 times as fast with channels last (EfficientNet-Lite0, two cores).
        if network.conv_dims == 2:
            network.to(memory_format=torch.channels_last)
    return model


def learns_classes(recipe: Recipe) -> bool:
    """Whether a recipe's losses look at labels."""
    return recipe.train.losses.keys() != {"motion"}


def _by_stream(values: dict[str, int]) -> int | dict[str, int]:
    """Return the value of a single stream, or those of several, as networks take them."""
    return values if len(values) > 1 else next(iter(values.values()))


def _with_sizes(recipe: Recipe) -> dict[str, Any]:
    """Options of the network, with the length and image_size that its inputs decide."""
    spec, options = recipe.clip_spec(), dict(recipe.model.options)
    decided = {
        "length": _by_stream({n: s.num_frames for n, s in spec.streams.items()}),
        "image_size": spec.crop_size,
    }
    for option in fixed_options(recipe.model.name):
        given = options.setdefault(option, decided[option])
        if given != decided[option]:
            raise RecipeError(
                f"model.options.{option}={given} is not what the inputs are, {decided[option]}. "
                "Leave it out, the inputs decide it."
            )
    return options


def _check_test_sizes(model: Network, recipe: Recipe) -> None:
    """Raise RecipeError where a network that takes one length or size only is tested with another.

    Both are those of its training.
    """
    spec = recipe.test_spec()
    for accepts, stream in zip(model.inputs.values(), spec.streams.values(), strict=False):
        fixed = {
            "length": (accepts.length, stream.num_frames, "test.num_frames"),
            "image_size": (accepts.side, spec.crop_size, "test.whole_side"),
        }
        for option, (size, test_size, key) in fixed.items():
            if size not in (None, test_size):
                raise RecipeError(
                    f"{recipe.model.name} takes one {option} only, {size} in training and "
                    f"{test_size} in the test: leave {key} out."
                )


_STARTS = ("pretrained", "temporal_weights")
"""Options of networks that say where weights start."""


def _without_starts(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a network, and of its towers, that gets weights otherwise."""
    return {
        name: _without_starts(value) if isinstance(value, Mapping) else value
        for name, value in options.items()
        if name not in _STARTS
    }


def starting_weights(recipe: Recipe) -> dict[str, str | Path]:
    """Return what `model.weights` names: a stream, or "" for the whole network, -> its start.

    Published weights are names, runs are folders or addresses of the Hub (`local_run`).

    Raises:
        UnknownNameError: one is neither a name of weights nor a folder nor an address.
        CheckpointError: an address that cannot be had.
    """
    given = recipe.model.weights
    by_stream = {"": given} if given is None or isinstance(given, str) else given
    found: dict[str, str | Path] = {}
    for stream, weights in by_stream.items():
        if weights in list_weights():
            found[stream] = weights
        elif weights is not None:
            if hub_address(weights) is None and not Path(weights).is_dir():
                kinds = (*list_weights(), "the folder of a run", "hf://OWNER/NAME")
                raise UnknownNameError("weights", weights, kinds)
            found[stream] = local_run(weights)
    return found


def start_from_run(model: Network, folder: Path) -> None:
    """Load the weights of a run of the same network into `model`, in place.

    The classifier is taken over as well, unless the run has another number of classes: then it
    stays as it is. Of a run on other input channels, the first layer is brought to those of `model`
    (`cross_modality_start`); of a network that `model` says it `starts_from`, that part is taken.
    Everything else must match. Runs of `dualstream transfer` serve too, and of one on several data
    sets the folder of any head, or of all where `model` has all heads.

    Args:
        model: the network of a recipe, or one of its towers.

    Raises:
        CheckpointError: no run folder, no weights in it yet, or weights that are not those of
            this network; names the other network, else lists the tensors that are missing, left
            over or of another shape.
    """
    theirs, classes, info = read_run(folder)
    state, own = _read_weights(info.run_folder(folder)), model.state_dict()
    all_heads = sum(info.heads.values())
    if all_heads != model.num_classes:
        state = state_of_head(state, own, info)
    part = model.starts_from.get(theirs.model.name)
    if theirs.model.name == model.name:
        state = cross_modality_start(state, model)
    left_out = without(model)
    same_classes = model.num_classes in (len(classes), all_heads)
    state, own = (
        {
            name: value
            for name, value in tensors.items()
            if (name.startswith(f"{part}.") if part else not name.startswith(left_out))
            and (same_classes or ".classifier." not in f".{name}")
        }
        for tensors in (state, own)
    )
    if not (problems := list_problems(state, own)):
        model.load_state_dict(state, strict=False)
        return
    if theirs.model.name not in (model.name, *model.starts_from):
        raise CheckpointError(
            f"{folder} is a run of {theirs.model.name}, this recipe makes {model.name}, "
            f"whose weights are others. Set model.name={theirs.model.name}, or start from a run of "
            f"{' or '.join((model.name, *model.starts_from))}."
        )
    raise CheckpointError(
        f"The weights of {folder} are not those of {model.name} as this recipe makes it. "
        f"{'; '.join(problems)}."
    )


def save_weights(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Write `model.safetensors` whole or not at all."""
    with replacing(folder / "model.safetensors") as temporary:
        save_file({name: value.contiguous().cpu() for name, value in state.items()}, temporary)


def state_of_head(
    state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], info: RunInfo
) -> dict[str, torch.Tensor]:
    """Weights of the network with one head, out of those of the network with all heads of a run.

    Args:
        state: of the whole run; the classifier has the rows of one head after those of another.
        own: of the same network made for the classes of one head.
        info: of the folder of the head.

    Returns:
        `state` with the head's rows of each tensor that has one row a class.
    """
    total = sum(info.heads.values())
    return {
        name: value[info.rows]
        if name in own and value.shape != own[name].shape and value.shape[:1] == (total,)
        else value
        for name, value in state.items()
    }


def load_checkpoint(
    folder: str | os.PathLike[str], *, device: str = "cpu", with_classes: bool = True
) -> Checkpoint:
    """A trained network, ready to predict.

    Of a run on several data sets the run folder has the head of the first; `RUN/heads/NAME` are
    those of the others.

    Args:
        folder: of the run, or `hf://OWNER/NAME` (see `local_run`).
        device: where the network is to be.
        with_classes: whether it must have learnt its classes; flow needs none.

    Raises:
        CheckpointError: the folder is no run or cannot be had from the Hub, training has written
            no weights yet, the file is broken, its tensors are not those of the recipe's network,
            or the run is a transfer's or one without labels, whose classifier has learnt nothing.
        InputError: no such device.
    """
    root = local_run(folder)
    recipe, classes, info = read_run(root)
    state = _read_weights(info.run_folder(root))
    is_taught = info.teacher is not None
    if with_classes and (is_taught or not learns_classes(recipe)):
        made = "by `dualstream transfer`" if is_taught else "without labels"
        raise CheckpointError(
            f"{root} is a start made {made}; it knows no classes yet. Train from it: "
            f"dualstream train DATA --recipe ... --out ... model.weights={root}"
        )
    model = build_model(recipe, len(classes), with_weights=False)
    state = state_of_head(state, model.state_dict(), info)
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


def run_sha256(folder: str | os.PathLike[str]) -> str:
    """Return one checksum of all that the predictions of a run folder depend on.

    Raises:
        CheckpointError: the folder is no run, or training has written no weights yet.
    """
    root = Path(folder)
    _, info = read_facts(root)
    own = [root / name for name in ("recipe.yaml", "classes.txt", "run.json")]
    weights = [root / name for name in (CODEBOOK, CLASSIFIER)]
    if not is_trajectory_run(root):
        weights = [_weights_file(info.run_folder(root))]
    files = [*own, *weights]
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()


def _weights_file(root: Path) -> Path:
    path = root / "model.safetensors"
    if not path.is_file():
        raise CheckpointError(
            f"{root} has no weights yet: finish it with `dualstream train --resume {root}`."
        )
    return path


def _read_weights(root: Path) -> dict[str, torch.Tensor]:
    """Tensors of a run's `model.safetensors`."""
    path = _weights_file(root)
    try:
        state: dict[str, torch.Tensor] = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is broken ({error}). {COPY_AGAIN}") from error
    return state
