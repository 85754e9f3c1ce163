"""Networks: tensors of clips in, logits out.

Importing this package is cheap: the file of a network, and torch with it, is loaded when the
network is first made.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dualstream.errors import InputError
from dualstream.models.create import MODELS, list_models, model_function, new_network
from dualstream.models.weights import fetch, list_weights, load_weights, weights_entry
from dualstream.models.weights.catalogue import WEIGHTS, WeightsEntry

if TYPE_CHECKING:
    from dualstream.models.accepts import Accepts
    from dualstream.models.network import Network
    from dualstream.models.trainable import parameter_groups, set_trainable
    from dualstream.models.weights.loading import load_state_file

__all__ = [
    "MODELS",
    "WEIGHTS",
    "Accepts",
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


def create_model(
    name: str, *, weights: str | Mapping[str, str] | None = None, **options: Any
) -> Network:
    """Make a network, with pretrained weights if asked for.

    With `weights`, options that are not given are those of the weights. Two of them may differ,
    because the difference is then bridged in the documented way: another `num_classes` gets a
    fresh classifier, and other input channels (`in_channels` x `length`) get the
    cross-modality start (`layers.conv.cross_modality_start`).

    Args:
        name: one of `list_models()`.
        weights: one of `list_weights()`, downloaded if it is not in the cache yet; of a network
            with towers stream -> one.
        options: keyword arguments of the network's function, for instance `num_classes`.

    Returns:
        The network in training mode. Its `spec` and `classes` are those of the weights; they are
        None and () without weights, `spec` also when the input channels differ and `classes`
        also when the classifier is fresh; of a network with towers those are each tower's.

    Raises:
        UnknownNameError: the network, the weights, an option or the value of a choice is unknown.
        InputError: a necessary option is missing.
        WeightsError: the weights cannot be had, or are those of another network.
    """
    if weights is None:
        return new_network(name, **options)
    if isinstance(weights, Mapping):
        model = new_network(name, **options)
        for stream, source in weights.items():
            tower = model.tower_of(stream)
            weights_entry(source).check_fits(tower.name, {})
            load_weights(tower, source)
        return model
    model_function(name)  # first: an unknown network is the larger mistake
    entry = weights_entry(weights)
    entry.check_fits(name, options)
    options = {**entry.options, **options}
    if options.get("pretrained"):
        raise InputError("Give either weights or pretrained=True, not both.")
    model = new_network(name, **options)
    load_weights(model, weights)
    return model


def __getattr__(name: str) -> Any:
    """Names whose modules load torch."""
    for module, names in (
        ("accepts", ("Accepts",)),
        ("network", ("Network",)),
        ("trainable", ("parameter_groups", "set_trainable")),
        ("weights.loading", ("load_state_file",)),
    ):
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
