"""Grad-CAM: where, and when, a network saw what it took for a class (Selvaraju et al. 2017)."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

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
    scale: bool = True,
) -> Tensor:
    """Map what speaks for a class, from the features of one layer or several.

    Each channel of a layer weighs as much as the mean, over the places of the map, of the class
    logit's gradient. The weighted sum of the channels goes through ReLU and is brought to the size
    of the clip, bilinearly (linearly over time too where the features have time). Of several layers
    the mean of their maps is taken, each divided by its maximum. The map of a clip is divided by
    its maximum; where nothing speaks for the class it is zero everywhere.

    A 2D network that stacks its frames as channels has one map for all frames of a clip, one that
    sees them one by one has a map for each. Features over time are taken as evenly spread over it;
    behind a layer that joins the segments of a sample over time, over that of all of them. The
    network is in evaluation mode meanwhile, its
    weights get no gradient.

    Args:
        model: any network whose layers have channels first.
        x: as of its `forward`.
        layers: names of modules that run once a clip, as `dualstream inspect` shows them
            (`backbone.layer4`).
        labels: (N,) the class of each sample; None takes the class that the network finds.
        stream: of several inputs, the one whose frames and size the map gets.
        scale: divide by the maximum. Without, maps of one layer in several calls can be compared.

    Returns:
        (N, T, H, W), (N, S, T, H, W) for segments; in 0..1 with `scale`, else from 0 on.

    Raises:
        UnknownNameError: no such layer, or it has no map or runs several times; lists the outermost
            of those that serve, the nearest first.
        InputError: no layer, no such stream, several layers without `scale`, or labels that are no
            classes.
        ShapeError: the network does not take the clips, or another number of labels.

    Source:
        Selvaraju et al. 2017, equations 1 and 2; several layers as in Park 2019, section 3.1, which
        leaves open how they are joined and scaled.
    """
    clips = x if isinstance(x, Tensor) else _of_stream(model, x, stream)
    if not scale and len(layers) > 1:
        raise InputError(f"Maps of several layers are joined by scale: give one, got {layers}.")
    found = _run(model, x, layers)
    if found is None:
        known = feature_maps(model, x)
        for layer in layers:
            if layer not in known:
                raise no_such_layer(model.name, layer, known)
        raise InputError(f"Grad-CAM needs a layer, one of: {', '.join(_outermost(known))}.")
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
        resized = _resized(seen, samples=len(clips), count=count, size=size)
        maps.append(scaled(resized) if scale else resized)
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
    traced, _ = _trace(model, x, within=within)
    return {name: shape for name, (shape, _) in traced.items() if len(shape) in AXES_OF_MAP}


def last_maps(
    model: Network, x: Tensor | Mapping[str, Tensor], *, within: str = ""
) -> tuple[str, ...]:
    """Return the layers whose maps the logits are made of: the last with several places.

    Most networks have one such layer. Where several ways lead to the logits, each has its own:
    both pathways of SlowFast, or the own head of a tower beside what is joined with another tower.
    They are found by following the logits back through the operations of a run, not by names; of
    modules with the same output the outermost is taken.

    Args:
        x: see `feature_maps`.
        within: see `feature_maps`.

    Raises:
        InputError: no layer has a map of several places.
    """
    traced, logits = _trace(model, x, within=within)
    stops: dict[_Edge, str] = {}
    for name, (shape, edge) in traced.items():
        has_places = len(shape) in AXES_OF_MAP and max(shape[-2:]) > 1 and edge[0] is not None
        # A container comes after its parts and has the output of the last one.
        if has_places and (edge not in stops or stops[edge].startswith(f"{name}.")):
            stops[edge] = name
    found: set[str] = set()
    passed: set[object] = set()
    ways = [_edge(logits)]
    while ways:
        edge = ways.pop()
        if edge in stops:
            found.add(stops[edge])
        elif edge[0] is not None and edge[0] not in passed:
            passed.add(edge[0])
            ways += edge[0].next_functions
    if not found:
        where = f" in {within.rstrip('.')}" if within else ""
        raise InputError(
            f"{model.name} has no layer{where} with a map of several places to look at, for clips "
            "of this size: there is nothing that Grad-CAM could draw."
        )
    return tuple(name for name in traced if name in found)


def tower_prefix(model: Network, stream: str) -> str:
    """Return the start of the names of layers that see a stream alone: `tower.rgb.`; "" for most
    networks, which have no towers, or none for this stream."""
    tower = model.towers().get(stream)
    return next((f"{name}." for name, module in model.named_modules() if module is tower), "")


def no_such_layer(model: str, layer: str, known: Iterable[str]) -> UnknownNameError:
    """Return the error of a layer that has no map.

    Args:
        model: name of the network.
        layer: the wrong name.
        known: layers that have one; the outermost are listed, the nearest names first.
    """
    names = list(known)
    near = difflib.get_close_matches(layer, names, n=3)
    outermost = _outermost(names)
    by_nearness = difflib.get_close_matches(layer, outermost, n=len(outermost) or 1, cutoff=0)
    return UnknownNameError(
        f"layer of {model} with a map", layer, dict.fromkeys((*near, *by_nearness))
    )


def _outermost(names: Iterable[str]) -> list[str]:
    """The names of layers that are in no other layer of the list."""
    known = list(names)
    return [name for name in known if name.rpartition(".")[0] not in known]


_Edge = tuple[Any, int]
"""A tensor as autograd knows it: the operation that made it, and which of its results it is."""


def _edge(tensor: Tensor) -> _Edge:
    return tensor.grad_fn, tensor.output_nr


def _trace(
    model: Network, x: Tensor | Mapping[str, Tensor], *, within: str
) -> tuple[dict[str, tuple[tuple[int, ...], _Edge]], Tensor]:
    """Run a network on the meta device.

    Returns:
        Layer -> shape and origin of its output, of layers that run once; the logits.
    """
    found: dict[str, list[tuple[tuple[int, ...], _Edge]]] = {}

    def keep(name: str, output: object) -> None:
        one: tuple[tuple[int, ...], _Edge] = ((), (None, 0))
        if isinstance(output, Tensor):
            one = (tuple(output.shape), _edge(output))
        found.setdefault(name, []).append(one)

    def on_meta(tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor, device="meta", requires_grad=False)

    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
        for name, module in model.named_modules()
        if name and name.startswith(within)
    ]
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            tensors = (*model.named_parameters(), *model.named_buffers())
            state = {name: on_meta(value) for name, value in tensors}
            # A copy of what has the gradient, as a network may change its input in place.
            clips: Tensor | dict[str, Tensor] = (
                on_meta(x).requires_grad_().clone()
                if isinstance(x, Tensor)
                else {stream: on_meta(one).requires_grad_().clone() for stream, one in x.items()}
            )
            logits = torch.func.functional_call(model, state, (clips,))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return {name: outputs[0] for name, outputs in found.items() if len(outputs) == 1}, logits


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
        with torch.inference_mode(False), torch.no_grad(), _recurrence_with_gradients(model):
            logits = model(_outside_inference(x))
    finally:
        model.train(was_training)
        for one in hooks:
            one.remove()
    if any([maps.ndim in AXES_OF_MAP for maps in kept] != [True] for kept in found.values()):
        return None
    return [found[name][0] for name in layers], logits


def _recurrence_with_gradients(model: nn.Module) -> AbstractContextManager[None]:
    """cuDNN's recurrent layers have no gradients in evaluation mode; torch's own have."""
    if any(isinstance(module, nn.RNNBase) for module in model.modules()):
        return torch.backends.cudnn.flags(enabled=False)
    return nullcontext()


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


def _resized(maps: Tensor, *, samples: int, count: int, size: tuple[int, ...]) -> Tensor:
    """(N', H', W') or (N', T', H', W') of `count` clips, the segments of N samples
    -> (count, T, H, W).

    N' may be more than the clips (of each frame), or less (segments joined over time).
    """
    rows = count if len(maps) % count == 0 else samples
    maps = maps.reshape(rows, -1, *maps.shape[-2:])  # (clips or N, steps, H', W')
    length = size[0] * (count // rows)
    resized = F.interpolate(
        maps[:, None], size=(length, *size[1:]), mode="trilinear", align_corners=False
    )
    return resized.reshape(count, *size)


def correlations(maps: Tensor, others: Tensor) -> Tensor:
    """Correlation of each map with its partner over their places, (N, ...) -> (N,) in -1..1.

    It is 0 where a map is the same everywhere.
    """
    one, other = (m.flatten(1) - m.flatten(1).mean(dim=1, keepdim=True) for m in (maps, others))
    lengths = one.norm(dim=1) * other.norm(dim=1)
    return (one * other).sum(dim=1) / torch.where(lengths > 1e-6, lengths, torch.inf)
