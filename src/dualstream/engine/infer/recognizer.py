"""A network with all that it needs to see a video, from whatever holds it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from dualstream.engine.run.checkpoint import Checkpoint, load_checkpoint
from dualstream.errors import CheckpointError, InputError
from dualstream.flow.methods.params import FlowParams
from dualstream.models.network import Network
from dualstream.types import ClipSpec


@dataclass(frozen=True, eq=False)
class Recognizer:
    """A network, what it is fed and what its logits stand for."""

    name: str
    model: Network
    spec: ClipSpec
    classes: tuple[str, ...]
    flow_params: Mapping[str, FlowParams] = field(default_factory=dict)
    """Stream -> settings of its flow method; the defaults of the method where there are none."""


Model = Recognizer | Checkpoint | Network | str | os.PathLike[str]
"""A recognizer or what one is made of: a trained checkpoint or its run folder, or a network that
brings its input and classes (`create_model(..., weights=...)`)."""


def as_recognizer(model: Model) -> Recognizer:
    """Return the recognizer that a model stands for.

    Raises:
        InputError: a network that does not know its input or its classes.
        CheckpointError: a run folder that cannot be loaded.
    """
    if isinstance(model, Recognizer):
        return model
    if isinstance(model, Network):
        if model.spec is None or not model.classes:
            raise InputError(
                "This network does not know its input or its classes. Use one made with "
                "create_model(weights=...) and its own classes, a run folder, or a Recognizer."
            )
        return Recognizer(model.name, model, model.spec, model.classes)
    checkpoint = model if isinstance(model, Checkpoint) else load_checkpoint(model)
    return Recognizer(
        checkpoint.folder.name,
        checkpoint.model,
        checkpoint.spec,
        checkpoint.classes,
        checkpoint.flow_params,
    )


def as_recognizers(models: Model | Sequence[Model]) -> tuple[Recognizer, ...]:
    """Return one recognizer or several of the same classes, with names that differ.

    Where two share a name they are numbered: rgb, rgb -> rgb, rgb (2). Errors are those of
    `as_recognizer`, and:

    Raises:
        InputError: there is none.
        CheckpointError: different classes.
    """
    several = isinstance(models, Sequence) and not isinstance(models, str)
    found = [as_recognizer(m) for m in cast("Sequence[Model]", models if several else [models])]
    if not found:
        raise InputError("Prediction needs at least one network.")
    for other in found[1:]:
        if other.classes != found[0].classes:
            raise CheckpointError(
                f"{found[0].name} and {other.name} have different classes; they must come from "
                "the same data set."
            )
    names = [one.name for one in found]
    times = [names[: place + 1].count(name) for place, name in enumerate(names)]
    return tuple(
        one if count == 1 else replace(one, name=f"{one.name} ({count})")
        for one, count in zip(found, times, strict=True)
    )
