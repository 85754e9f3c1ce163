"""Grad-CAM: where, and when, a network saw what it took for a class (Selvaraju et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualstream.errors import InputError, ShapeError, UnknownNameError
from dualstream.models.network import Network, fold_segments

AXES_OF_MAP = (4, 5)
"""Dimensions of what has places: (N, C, H, W) of 2D networks and (N, C, T, H, W) of 3D ones."""


def grad_cam(
    model: Network,
    x: Tensor | Mapping[str, Tensor],
    *,
    layers: Sequence[str],
    labels: Tensor | None = None,
    stream: str | None = None,
) -> Tensor:
    """Map what speaks for a class, from the features of one layer or several.

    Each channel of a layer weighs as much as the mean, over the places of the map, of the class
    logit's gradient. The weighted sum of the channels goes through ReLU and is brought to the size
    of the clip, bilinearly (linearly over time too where the features have time). Of several layers
    the mean of their maps is taken, each divided by its maximum. The map of a clip is divided by
    its maximum; where nothing speaks for the class it is zero everywhere.

    A 2D network that stacks its frames as channels has one map for all frames of a clip, one that
    sees them one by one has a map for each. The network is in evaluation mode meanwhile, its
    weights get no gradient.

    Args:
        model: any network whose layers have channels first.
        x: as of its `forward`.
        layers: names of modules that run once a clip, as `dualstream inspect` shows them
            (`backbone.layer4`).
        labels: (N,) the class of each sample; None takes the class that the network finds.
        stream: of several inputs, the one whose frames and size the map gets.

    Returns:
        (N, T, H, W) in 0..1; (N, S, T, H, W) for segments.

    Raises:
        UnknownNameError: no such layer, or it has no map or runs several times; lists the outermost
            of those that serve.
        InputError: no layer, no such stream, or labels that are no classes.
        ShapeError: the network does not take the clips, or another number of labels.

    Source:
        Selvaraju et al. 2017, equations 1 and 2; several layers as in Park 2019, section 3.1, which
        leaves open how they are joined and scaled.
    """
    clips = x if isinstance(x, Tensor) else _of_stream(model, x, stream)
    found = _run(model, x, layers)
    if found is None:
        known = feature_maps(model, x)
        names = [name for name in known if name.rpartition(".")[0] not in known]
        for layer in layers:
            if layer not in known:
                raise UnknownNameError(f"layer of {model.name} with a map", layer, names)
        raise InputError(f"Grad-CAM needs a layer, one of: {', '.join(names)}.")
    features, logits = found
    with torch.inference_mode(False), torch.enable_grad():
        rows = _check_labels(labels, logits).clone()  # autograd keeps no tensor of inference mode
        gradients = torch.autograd.grad(logits.gather(1, rows[:, None]).sum(), features)
    folded = fold_segments(clips)
    count, size = len(folded), tuple(folded.shape[-3:])  # (N*S, C, T, H, W)
    maps = []
    for values, gradient in zip(features, gradients, strict=True):
        weights = gradient.flatten(2).mean(dim=2)  # (N', C)
        seen = torch.einsum("nc,nc...->n...", weights, values.detach()).relu()
        maps.append(scaled(_resized(seen, count, size)))
    joined = scaled(torch.stack(maps).mean(dim=0)) if len(maps) > 1 else maps[0]
    return joined.reshape(*clips.shape[:-4], *size)


def feature_maps(
    model: Network, x: Tensor | Mapping[str, Tensor], *, within: str = ""
) -> dict[str, tuple[int, ...]]:
    """Return the layers of a network that have maps for clips like `x`, from input to output.

    Only the shapes are worked out, on the meta device.

    Args:
        x: as of the network's `forward`; only its shape matters.
        within: only layers whose name starts so, for instance `tower.flow.`.

    Returns:
        Layer -> shape of its output, (N', C, H, W) or (N', C, T, H, W), of those that run once.
    """
    shapes: dict[str, list[tuple[int, ...]]] = {}

    def keep(name: str, output: object) -> None:
        shapes.setdefault(name, []).append(
            tuple(output.shape) if isinstance(output, Tensor) else ()
        )

    tensors = (*model.named_parameters(), *model.named_buffers())
    on_meta = {name: value.to("meta") for name, value in tensors}
    clips: Tensor | dict[str, Tensor] = (
        x.to("meta") if isinstance(x, Tensor) else {s: clip.to("meta") for s, clip in x.items()}
    )
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
        for name, module in model.named_modules()
        if name and name.startswith(within)
    ]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            torch.func.functional_call(model, on_meta, (clips,))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return {
        name: found[0]
        for name, found in shapes.items()
        if len(found) == 1 and len(found[0]) in AXES_OF_MAP
    }


def scaled(maps: Tensor) -> Tensor:
    """Divide each map (N, ...) of numbers from 0 on by its maximum; zeros stay zeros."""
    most = maps.flatten(1).amax(dim=1).reshape(-1, *[1] * (maps.ndim - 1))
    return maps / torch.where(most > 0, most, 1)


def _of_stream(model: Network, x: Mapping[str, Tensor], stream: str | None) -> Tensor:
    """Clips of the stream that is looked at; the only one where none is named."""
    if stream is None and len(x) == 1:
        return next(iter(x.values()))
    if stream is None or stream not in x:
        raise InputError(f"{model.name} sees {', '.join(x)}: say which stream, got {stream!r}.")
    return x[stream]


def _run(
    model: Network, x: Tensor | Mapping[str, Tensor], layers: Sequence[str]
) -> tuple[list[Tensor], Tensor] | None:
    """Features of the layers and logits (N, K) computed from them; None where a layer has none."""
    found: dict[str, list[Tensor]] = {name: [] for name in layers}

    def hook(name: str) -> Callable[..., object]:
        def keep(module: nn.Module, inputs: object, output: object) -> object:
            if not isinstance(output, Tensor):
                return output
            # Nothing is kept of what lies before the first of the layers.
            torch.set_grad_enabled(True)
            found[name].append(output if output.requires_grad else output.detach().requires_grad_())
            return found[name][-1].clone()  # a later layer may change its input in place

        return keep

    modules = dict(model.named_modules())
    if not layers or any(name not in modules for name in layers):
        return None
    was_training = model.training
    model.eval()
    hooks = [modules[name].register_forward_hook(hook(name)) for name in layers]
    try:
        with torch.inference_mode(False), torch.no_grad():
            logits = model(_outside_inference(x))
    finally:
        model.train(was_training)
        for one in hooks:
            one.remove()
    if any([maps.ndim in AXES_OF_MAP for maps in kept] != [True] for kept in found.values()):
        return None
    return [found[name][0] for name in layers], logits


def _outside_inference(x: Tensor | Mapping[str, Tensor]) -> Tensor | dict[str, Tensor]:
    """Clips that gradients can be taken of, copied where they were made in inference mode."""
    if isinstance(x, Tensor):
        return x.clone() if x.is_inference() else x
    return {name: clips.clone() if clips.is_inference() else clips for name, clips in x.items()}


def _check_labels(labels: Tensor | None, logits: Tensor) -> Tensor:
    if labels is None:
        return logits.detach().argmax(dim=1)
    count, classes = logits.shape
    if labels.shape != (count,):
        raise ShapeError(f"labels must be ({count},), a class a sample, got {tuple(labels.shape)}.")
    if count and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise InputError(f"labels must lie in 0..{classes - 1}, got {labels.tolist()}.")
    return labels


def _resized(maps: Tensor, count: int, size: tuple[int, ...]) -> Tensor:
    """(N', H', W') or (N', T', H', W') of `count` clips -> (count, T, H, W)."""
    if maps.ndim == 3:  # of each frame, or of all frames of a clip
        maps = maps.reshape(count, -1, *maps.shape[1:])  # (N*S, T or 1, H', W')
    resized = F.interpolate(maps[:, None], size=size, mode="trilinear", align_corners=False)
    return resized[:, 0]


def correlations(maps: Tensor, others: Tensor) -> Tensor:
    """Correlation of each map with its partner over their places, (N, ...) -> (N,) in -1..1.

    It is 0 where a map is the same everywhere.
    """
    one, other = (m.flatten(1) - m.flatten(1).mean(dim=1, keepdim=True) for m in (maps, others))
    lengths = one.norm(dim=1) * other.norm(dim=1)
    return (one * other).sum(dim=1) / torch.where(lengths > 1e-6, lengths, torch.inf)
