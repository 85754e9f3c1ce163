"""Which parameters of a network are trained, and how the optimiser groups them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from dualstream.errors import InputError, UnknownNameError, check_least
from dualstream.models.network import Network, Trainable


def set_trainable(model: Network, which: Trainable | Mapping[str, Trainable]) -> None:
    """Choose the parameters that are trained.

    With last_layer only the head is trained (the classifier, and a consensus that has parameters),
    one of the settings of Simonyan & Zisserman 2014 for the spatial stream; with a number, the head
    and that many last `stages()`. What is frozen stays in evaluation mode, its batch norms too, as
    do batch norms that the network was made to freeze.

    Args:
        which: of a network with towers also stream -> one, where none freezes a tower; towers that
            are not named are trained. What joins the towers is trained always.

    Raises:
        UnknownNameError: `which` is none of the names, or names a tower that there is not.
        InputError: a number of stages that the network does not have, or nothing to train.
    """
    by_stream = which if isinstance(which, Mapping) else {}
    for stream, part in by_stream.items():
        _check_trainable(model.tower_of(stream), part, allowed=("all", "last_layer", "none"))
    if not isinstance(which, Mapping):
        _check_trainable(model, which, allowed=("all", "last_layer"))
    model.trainable = which
    model.apply_freezing()
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(f"Nothing of {model.name} is left to train: {which}.")


def _check_trainable(model: Network, which: Trainable, *, allowed: tuple[str, ...]) -> None:
    if isinstance(which, int) and not isinstance(which, bool):
        count = len(model.stages())
        if not 1 <= which <= count:
            raise InputError(
                f"{model.name} has {count} stages to train besides its head, got {which}."
            )
    elif which not in allowed:
        raise UnknownNameError("trainable part", which, (*allowed, "a number of stages"))


def parameter_groups(
    model: nn.Module,
    *,
    weight_decay: float,
    lr: float | None = None,
    lr_factors: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Trainable parameters as optimiser groups: weights decay, biases and norms do not.

    Args:
        weight_decay: of what has two dimensions or more, at least 0; biases, gains and the weights
            of a linear consensus have fewer.
        lr: learning rate of the groups; None leaves it to the optimiser.
        lr_factors: name of a part of the model -> factor of `lr` for its parameters.

    Returns:
        Groups for a torch optimiser; one without parameters is left out.

    Source:
        Decay policy of TSN's reference code (`get_optim_policies`: decay 0 for biases and batch
        norms); its doubled learning rate of biases is left out.
    """
    check_least(0, weight_decay=weight_decay)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    parts = {part: [n for n in trained if n.startswith(f"{part}.")] for part in lr_factors or {}}
    rest = [name for name in trained if not any(name in names for names in parts.values())]
    groups: list[dict[str, Any]] = []
    for part, names in {"": rest, **parts}.items():
        rate = {} if lr is None else {"lr": lr * (lr_factors or {}).get(part, 1.0)}
        found = [trained[name] for name in names]
        groups += [
            {"params": [p for p in found if p.ndim > 1], "weight_decay": weight_decay, **rate},
            {"params": [p for p in found if p.ndim <= 1], "weight_decay": 0.0, **rate},
        ]
    return [group for group in groups if group["params"]]
