"""Parameters of a network that are trained, and how much they decay."""

from __future__ import annotations

from typing import Any

from torch import nn

from dualstream.errors import InputError, UnknownNameError, check_least
from dualstream.models.network import Network, Trainable


def set_trainable(model: Network, which: Trainable) -> None:
    """Choose the parameters that are trained.

    With last_layer everything but the head (the classifier, and a consensus that has parameters)
    is frozen, statistics of batch norms included; one of the settings of Simonyan & Zisserman
    2014 for the spatial stream. With a number, the head and that many last `stages()` are trained.
    Frozen stages stay in evaluation mode, so they drop out nothing.
    Batch norms that the network was made to freeze stay frozen in any case.

    Raises:
        UnknownNameError: `which` is none of the names.
        InputError: a number of stages that the network does not have.
    """
    if isinstance(which, int) and not isinstance(which, bool):
        count = len(model.stages())
        if not 1 <= which <= count:
            raise InputError(
                f"{model.name} has {count} stages to train besides its head, got {which}."
            )
    elif which not in ("all", "last_layer"):
        raise UnknownNameError("trainable part", which, ("all", "last_layer", "a number of stages"))
    model.trainable = which
    model.apply_freezing()


def parameter_groups(model: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters as optimiser groups: weights decay, biases and norms do not.

    What has one dimension or none (biases, gains, weights of a linear consensus) is in the
    second group.

    Args:
        weight_decay: decay of the first group, at least 0.

    Returns:
        Groups for a torch optimiser; a group without parameters is left out.

    Source:
        Decay policy of TSN's reference code (`get_optim_policies`: decay 0 for biases and batch
        norms); its doubled learning rate of biases is left out.
    """
    check_least(0, weight_decay=weight_decay)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
