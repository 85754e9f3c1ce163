"""Run folders: what training leaves behind and everything else starts from.

RUN/model.safetensors   weights
RUN/recipe.yaml         the resolved recipe
RUN/classes.txt         one class name a line
RUN/run.json            package version, git commit, seed, manifest and flow folders
RUN/metrics.json        loss and accuracies
RUN/trainer.ckpt        optimiser, schedule and averages, for `train --resume`
RUN/log.csv             one row an epoch
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dualstream import __version__
from dualstream.atomic import replacing, write_text
from dualstream.engine.devices import check_device
from dualstream.engine.recipe import Recipe, dump_recipe, load_recipe
from dualstream.errors import CheckpointError, RecipeError, UnknownNameError
from dualstream.flow.methods.lookup import params_from_values
from dualstream.flow.methods.params import FlowParams
from dualstream.models import create_model, list_weights, model_function
from dualstream.models.network import Network
from dualstream.models.weights.loading import list_problems
from dualstream.types import InputSpec


@dataclass(frozen=True)
class RunInfo:
    """Where a run came from; written before training starts."""

    manifest: str
    """Folder of the manifest, absolute."""
    manifest_sha256: str
    """Of manifest.csv when the run started."""
    flow_store: str | None
    """Root of the flow store, absolute; None for runs that see no flow."""
    backward_store: str | None = None
    """Root of the store of backward flow, for bi-directional stacking."""
    flow_params: dict[str, Any] | None = None
    """Settings of the flow method that the store was written with; None for its defaults."""
    teacher: str | None = None
    """Network that supervision was transferred from; None for ordinary training."""
    version: str = __version__
    git_commit: str | None = None
    """Commit of the folder that the command ran in, when it is a git checkout."""
    seed: int = 0
    limit: int | None = None
    """Batches an epoch was cut to, for trials."""
    torch_version: str = torch.__version__


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained network with everything needed to use it."""

    folder: Path
    model: Network
    recipe: Recipe
    classes: tuple[str, ...]
    info: RunInfo

    @property
    def spec(self) -> InputSpec:
        """What the network wants to see."""
        return self.recipe.input.spec()

    @property
    def flow_params(self) -> FlowParams | None:
        """Settings that flow must be computed with; None where the network sees no flow."""
        if self.spec.modality != "flow":
            return None
        return params_from_values(self.spec.flow_method, self.info.flow_params)


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
    spec = recipe.input.spec()
    options = dict(recipe.model.options)
    run = starting_run(recipe) if with_weights else None
    if run is not None or not with_weights:
        options.pop("pretrained", None)
    options |= _sizes_of_full_layers(recipe)
    model = create_model(
        recipe.model.name,
        weights=recipe.model.weights if with_weights and run is None else None,
        num_classes=num_classes,
        in_channels=spec.channels,
        **options,
    )
    if run is not None:
        start_from_run(model, run, recipe)
    if any(parameter.ndim == 5 for parameter in model.parameters()):
        return model
    # 2D convolutions run 1.5 times as fast with channels last (EfficientNet-Lite0 on two cores).
    return model.to(memory_format=torch.channels_last)


def _sizes_of_full_layers(recipe: Recipe) -> dict[str, int]:
    """Options of the network that its input decides: those of length and image_size it has."""
    trained, tested = recipe.input.spec(), recipe.test_spec()
    options = inspect.signature(model_function(recipe.model.name)).parameters
    sizes = {}
    for option, size, test_size, key in (
        ("length", trained.num_frames, tested.num_frames, "test.num_frames"),
        ("image_size", trained.crop_size, tested.crop_size, "test.whole_side"),
    ):
        if option not in options:
            continue  # it takes any
        if size != test_size:
            raise RecipeError(
                f"{recipe.model.name} takes one {option} only, {size} in training and "
                f"{test_size} in the test: leave {key} out."
            )
        given = recipe.model.options.get(option, size)
        if given != size:
            raise RecipeError(
                f"model.options.{option}={given} is not what the input is, {size}. Leave it out, "
                f"the input decides it."
            )
        sizes[option] = size
    return sizes


def starting_run(recipe: Recipe) -> Path | None:
    """Folder of the run that `model.weights` names; None where it names published weights.

    Raises:
        UnknownNameError: it is neither a name of weights nor a folder.
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
    stays as it is. Everything else must match. Runs of `dualstream transfer` serve too.

    Args:
        recipe: what `model` was made by.

    Raises:
        CheckpointError: no run folder, no weights in it yet, or weights that are not those of
            this network; names the other network or modality, else lists the tensors that are
            missing, left over or of another shape.
    """
    theirs, classes, _ = read_run(folder)
    state = _read_weights(folder)
    own = model.state_dict()
    if len(classes) != model.num_classes:
        state, own = (
            {name: value for name, value in tensors.items() if not name.startswith("classifier.")}
            for tensors in (state, own)
        )
    problems = list_problems(state, own)
    if problems:
        raise CheckpointError(
            _other_recipe(folder, theirs, recipe)
            or f"The weights of {folder} are not those of {model.name} as this recipe makes it. "
            f"{'; '.join(problems)}."
        )
    model.load_state_dict(state, strict=False)


def _other_recipe(folder: Path, theirs: Recipe, ours: Recipe) -> str | None:
    """Why the weights of a run cannot fit, where its recipe tells: x3d_s and x3d_l."""
    if theirs.model.name != ours.model.name:
        return (
            f"{folder} is a run of {theirs.model.name}, this recipe makes {ours.model.name}, whose "
            f"weights are others. Set model.name={theirs.model.name}, or start from a run of "
            f"{ours.model.name}."
        )
    if theirs.input.spec().channels != ours.input.spec().channels:
        return (
            f"{folder} is a run on {theirs.input.modality}, this recipe's input.modality is "
            f"{ours.input.modality}, which has another number of channels. Start from a run on "
            f"{ours.input.modality}, or from published weights, which are brought to any."
        )
    return None


def start_run(folder: Path, recipe: Recipe, classes: tuple[str, ...], info: RunInfo) -> None:
    """Write what is known before training: recipe, classes, origin."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "classes.txt", "".join(f"{name}\n" for name in classes))
    write_text(folder / "run.json", json.dumps(dataclasses.asdict(info), indent=2) + "\n")
    write_text(folder / "recipe.yaml", dump_recipe(recipe))


def save_weights(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Write `model.safetensors` whole or not at all."""
    with replacing(folder / "model.safetensors") as temporary:
        save_file({name: value.contiguous().cpu() for name, value in state.items()}, temporary)


def save_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    """Add entries to `metrics.json`; earlier ones of other names stay.

    Raises:
        CheckpointError: the file is broken.
    """
    text = json.dumps({**read_metrics(folder), **metrics}, indent=2)
    write_text(folder / "metrics.json", text + "\n")


def read_metrics(folder: Path) -> dict[str, Any]:
    """What `metrics.json` of a run folder says; nothing where there is none yet.

    Raises:
        CheckpointError: the file is broken.
    """
    path = folder / "metrics.json"
    return read_object(path) if path.is_file() else {}


def read_run(folder: Path) -> tuple[Recipe, tuple[str, ...], RunInfo]:
    """Recipe, classes and origin of a run folder.

    Raises:
        CheckpointError: not a run folder, or a broken one.
    """
    for name in ("recipe.yaml", "classes.txt", "run.json"):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder} is not a run folder: {name} is missing. "
                "`dualstream train` writes run folders."
            )
    try:
        recipe = load_recipe(folder / "recipe.yaml")
    except RecipeError as error:
        raise CheckpointError(f"{error} {_COPY_AGAIN}") from error
    classes = tuple(_read_text(folder / "classes.txt").splitlines())
    return recipe, classes, _read_info(folder / "run.json")


_COPY_AGAIN = "Copy the file again from its origin, or train again."


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is broken: it is not UTF-8 text. {_COPY_AGAIN}") from error


def read_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file that a run wrote.

    Raises:
        CheckpointError: it holds anything else.
    """
    try:
        values = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is broken: {error}. {_COPY_AGAIN}") from error
    if not isinstance(values, dict):
        raise CheckpointError(
            f"{path} is broken: it must hold one object with keys, got "
            f"{type(values).__name__}. {_COPY_AGAIN}"
        )
    return values


def _read_info(path: Path) -> RunInfo:
    values = read_object(path)
    known = {field.name: field for field in dataclasses.fields(RunInfo)}
    necessary = {name for name, field in known.items() if field.default is dataclasses.MISSING}
    if missing := sorted(necessary - values.keys()):
        raise CheckpointError(f"{path} is broken: it lacks {', '.join(missing)}. {_COPY_AGAIN}")
    if unknown := sorted(values.keys() - known.keys()):
        raise CheckpointError(
            f"{path} says {', '.join(unknown)}, which this version ({__version__}) does not know. "
            "Use the version of dualstream that wrote it, or train again."
        )
    return RunInfo(**values)


def load_checkpoint(folder: str | os.PathLike[str], *, device: str = "cpu") -> Checkpoint:
    """A trained network, ready to predict.

    Raises:
        CheckpointError: the folder is no run, training has written no weights yet, the file
            is broken, its tensors are not those of the recipe's network, or the run is a
            transfer's, whose classifier has learnt nothing.
        InputError: no such device.
    """
    root = Path(folder)
    recipe, classes, info = read_run(root)
    path = root / "model.safetensors"
    state = _read_weights(root)
    if info.teacher is not None:
        raise CheckpointError(
            f"{root} is a start made by `dualstream transfer`; it knows no classes yet. Train from "
            f"it: dualstream train DATA --recipe ... --out ... model.weights={root}"
        )
    model = build_model(recipe, len(classes), with_weights=False)
    problems = list_problems(state, model.state_dict())
    if problems:
        raise CheckpointError(
            f"{path} does not hold the weights of {recipe.model.name} with {len(classes)} classes. "
            f"{'; '.join(problems)}."
        )
    model.load_state_dict(state)
    return Checkpoint(root, model.eval().to(check_device(device)), recipe, classes, info)


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
        raise CheckpointError(f"{path} is broken ({error}). {_COPY_AGAIN}") from error
    return state


def check_classes(checkpoint: Checkpoint, classes: tuple[str, ...], where: str) -> None:
    """Refuse data whose classes are not the checkpoint's, in its order.

    Raises:
        CheckpointError: names the first class that differs.
    """
    if checkpoint.classes == classes:
        return
    pairs = zip(checkpoint.classes, classes, strict=False)
    first = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
    detail = (
        f"class {first} is {checkpoint.classes[first]!r} there and {classes[first]!r} here"
        if first is not None
        else f"{len(checkpoint.classes)} classes there, {len(classes)} here"
    )
    raise CheckpointError(
        f"The classes of {checkpoint.folder} are not those of {where}: {detail}. "
        "Test with the data set that the network was trained on, or train again."
    )


def with_test_views(
    checkpoint: Checkpoint,
    *,
    segments: int | None = None,
    crops: Literal["center", "three", "ten"] | None = None,
) -> Checkpoint:
    """The same checkpoint, tested through other views; None keeps the recipe's."""
    test = checkpoint.recipe.test
    changed = test.model_copy(
        update={"segments": segments or test.segments, "crops": crops or test.crops}
    )
    recipe = checkpoint.recipe.model_copy(update={"test": changed})
    return dataclasses.replace(checkpoint, recipe=recipe)


def git_commit() -> str | None:
    """Commit of the current folder's checkout, None outside of one."""
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
