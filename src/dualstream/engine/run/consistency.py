"""Whether a recipe and its network fit together: streams, shapes, losses."""

from __future__ import annotations

import torch

from dualstream.engine.recipe import Recipe
from dualstream.errors import RecipeError, UnknownNameError
from dualstream.models.network import Network
from dualstream.types import ClipSpec


def check_streams(model: Network, recipe: Recipe) -> None:
    """Check that a network takes what it is fed in training, and of several streams in a test too.

    Args:
        model: on the meta device, where nothing is computed.

    Raises:
        RecipeError: the streams are not those of the network.
        ShapeError: clips that are smaller or shorter than it takes, or of several streams such as
            it cannot join.
    """
    spec = recipe.clip_spec()
    if len(spec.streams) > 1 and set(spec.streams) != set(model.inputs):
        raise RecipeError(
            f"{model.name} sees the streams {', '.join(model.inputs)}, the recipe's inputs are "
            f"{', '.join(spec.streams)}. Name them alike."
        )
    if len(spec.streams) == 1:
        model.check(_shapes(spec, segments=1))
        return
    seen = (spec, recipe.train.segments), (recipe.test_spec(), recipe.test.segments)
    if model.exchanges_maps:  # the segments run one by one, each like the others
        seen = (spec, 1), (recipe.test_spec(), 1)
    model.eval()
    for part, segments in seen:
        shapes = _shapes(part, segments=segments)
        model({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})


def _shapes(spec: ClipSpec, *, segments: int) -> dict[str, tuple[int, ...]]:
    """Stream -> shape of one sample of the network's input."""
    side = spec.crop_size
    return {
        name: (1, segments, stream.channels, stream.num_frames, side, side)
        for name, stream in spec.streams.items()
    }


def check_losses(model: Network, recipe: Recipe) -> None:
    """Check that a network has the losses of `train.losses`, and that these train all of it.

    Args:
        model: on the meta device, with what is frozen.

    Raises:
        UnknownNameError: it has no such head, loss or part of `lr_factors`; lists those it has.
        RecipeError: a part that is to be trained has no part in any of these losses, or what a
            loss is for is frozen.
    """
    parts = dict(model.named_children())
    for name in recipe.train.optimizer.lr_factors:
        if name not in parts:
            raise UnknownNameError(f"part of {model.name} in lr_factors", name, tuple(parts))
    losses, known = recipe.train.losses, (*model.heads, *model.own_losses)
    for name in losses:
        if name not in known:
            raise UnknownNameError(f"loss of {model.name} in train.losses", name, known)
    if "motion" in losses:
        _check_motion(recipe)
    elif losses:
        _check_all_is_trained(model, recipe)


def _check_motion(recipe: Recipe) -> None:
    """Raise RecipeError where the loss motion trains nothing or the same views again."""
    if recipe.model.trainable != "all":
        raise RecipeError(
            f"model.trainable={recipe.model.trainable} freezes MotionNet, which the loss motion of "
            "train.losses is for: set model.trainable=all, or leave that loss out."
        )
    if recipe.data.frozen_views:
        raise RecipeError("The loss motion needs new views each epoch: set data.frozen_views=0.")


def _check_all_is_trained(model: Network, recipe: Recipe) -> None:
    """Raise RecipeError where a part that is to be trained has no part in any of the losses."""
    losses = recipe.train.losses
    shapes = _shapes(recipe.clip_spec(), segments=recipe.train.segments)
    clips = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    outputs = model.eval().outputs(clips)
    total = torch.stack([outputs[head].sum() for head in losses]).sum()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    slopes: tuple[torch.Tensor | None, ...] = (None,) * len(trained)
    if total.requires_grad:
        slopes = torch.autograd.grad(total, list(trained.values()), allow_unused=True)
    idle = [name for name, slope in zip(trained, slopes, strict=True) if slope is None]
    if idle:
        raise RecipeError(
            f"train.losses ({', '.join(losses)}) trains nothing of {idle[0]} and "
            f"{len(idle) - 1} more parameters. Weigh their head too (of {', '.join(model.heads)}), "
            "or freeze them (model.trainable)."
        )
