"""Feature maps of towers: which layers have them, how two become one, over time too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dualstream.errors import DualstreamError, InputError, ShapeError, check_choice
from dualstream.models.layers.conv import half
from dualstream.models.layers.pooling import global_mean
from dualstream.models.network import Network

FusionName = Literal["sum", "max", "concatenation", "conv", "conv_3d", "bilinear"]
"""How two maps become one; see `MapFusion`."""

MOST_NAMES = 40
"""Layers that an error lists."""

GOES_ON: tuple[FusionName, ...] = ("sum", "max", "conv", "conv_3d")
"""Fusions whose map has the channels of the first one, so that its tower can go on with it."""


class MapFusion(nn.Module):
    """Two maps (N, C, T, H, W) of the same places into one.

    sum and max of both, channel by channel; concatenation of their channels; conv, the
    concatenation and filters of 1x1x1 back to the channels of the first, which start as the sum of
    both; conv_3d, filters of 3x3x3, which start as .25 of the first and .75 of the second times a
    Gaussian of deviation 1; bilinear, the mean over all places of the products of every two
    channels, with signed square roots, as a vector of length 1. Biases start at 0, and both
    convolutions are followed by ReLU.

    Args:
        name: of the fusion.
        channels: C of the first map and of the second.

    Raises:
        InputError: sum or max of maps of different channels.
        UnknownNameError: no such fusion.

    Source:
        Feichtenhofer, Pinz & Zisserman 2016, section 3.1; starts from the authors' code
        (`cnn_ucf101_fusion.m`; `insert_conv_layers.m`, sumAB), which weighs RGB .25, flow .75.
    """

    def __init__(self, name: FusionName, channels: tuple[int, int]) -> None:
        super().__init__()
        check_choice("fusion", name, FusionName)
        self.name = name
        self.channels = channels
        one, other = channels
        if name in ("sum", "max") and one != other:
            raise InputError(
                f"Fusion by {name} needs as many channels in both maps, got {one} and {other}: "
                "choose other layers, or fusion conv."
            )
        self.out_channels = {"concatenation": one + other, "bilinear": one * other}.get(name, one)
        """C of the fused map."""
        if name in ("conv", "conv_3d"):
            window = (1, 1, 1) if name == "conv" else (3, 3, 3)
            self.conv = nn.Conv3d(one + other, one, window, padding=half(window))
            parts = (1.0, 1.0) if name == "conv" else (0.25, 0.75)
            with torch.no_grad():
                both = [part * torch.eye(one, n) for part, n in zip(parts, channels, strict=True)]
                start = torch.cat(both, dim=1)[:, :, None, None, None]
                self.conv.weight.copy_(start * (1 if name == "conv" else gaussian_window()))
                self.conv.bias.zero_()  # type: ignore[union-attr]

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """(N, C, T, H, W), (N, C', T, H, W) -> (N, out_channels, T, H, W); bilinear (N, C*C').

        Raises:
            ShapeError: maps of other channels, as those of layers with channels last are.
        """
        if (one.shape[1], other.shape[1]) != self.channels:
            raise ShapeError(
                f"Maps to fuse must be (N, C, T, H, W) with C = {self.channels}, got "
                f"{tuple(one.shape)} and {tuple(other.shape)}: choose layers whose channels stand "
                "first and do not change with the size of the clip."
            )
        if self.name == "sum":
            return one + other
        if self.name == "max":
            return torch.maximum(one, other)
        if self.name == "bilinear":
            places = one[0, 0].numel()
            products = one.flatten(2) @ other.flatten(2).transpose(1, 2) / places  # (N, C, C')
            vectors = products.flatten(1)
            roots = vectors.sign() * (vectors.abs() + 1e-12).sqrt()  # whose slope at 0 is finite
            return nn.functional.normalize(roots, dim=1)
        joined = torch.cat((one, other), dim=1)
        return joined if self.name == "concatenation" else self.conv(joined).relu()


def gaussian_window() -> Tensor:
    """(3, 3, 3) Gaussian of deviation 1 in time, height and width that sums to 1."""
    line = torch.tensor([-0.5, 0.0, -0.5]).exp()  # of (-1, 0, 1)
    window = line[:, None, None] * line[:, None] * line
    return window / window.sum()


def num_groups(segments: int, steps: int) -> int:
    """Groups that S segments are put in: as many as divide S with at least `steps` in each.

    25 segments by 5 steps are 5 groups, 10 are 2, 8 are 1, and so are 3.
    """
    most = max(1, segments // steps)
    return max(number for number in range(1, most + 1) if segments % number == 0)


@dataclass(frozen=True)
class Volumes:
    """Maps of segments as volumes over time, and back.

    Group g of G holds the segments g, g + G, g + 2 G, ..., so that each sees the whole video, as
    the authors' code takes its frames in a test.
    """

    samples: int
    """N."""
    segments: int
    """S."""
    groups: int
    """G."""

    def of(self, maps: Tensor) -> Tensor:
        """Maps of N*S segments -> (N*G, C, T', H, W), T' the steps of a group.

        Args:
            maps: (N*S, C, T, H, W), or (N*S*T, C, H, W) as 2D networks have them.
        """
        count = self.samples * self.segments
        if maps.ndim == 4:  # (N*S*T, C, H, W) -> (N*S, C, T, H, W)
            maps = maps.reshape(count, -1, *maps.shape[1:]).transpose(1, 2)
        steps = self.segments // self.groups
        if steps == 1:
            return maps
        # (N*S, C, T, H, W) -> (N, S/G, G, C, T, H, W) -> (N, G, C, S/G, T, H, W)
        apart = maps.reshape(self.samples, steps, self.groups, *maps.shape[1:])
        return apart.permute(0, 2, 3, 1, 4, 5, 6).flatten(3, 4).flatten(0, 1)

    def back(self, volumes: Tensor, ndim: int) -> Tensor:
        """Volumes (N*G, C, T', H, W) as the maps that a tower goes on with.

        Args:
            ndim: of the tower's own maps: 5 keeps them, 4 gives (N*G*T', C, H, W).
        """
        return volumes if ndim == 5 else volumes.transpose(1, 2).flatten(0, 1)


class VolumePool(nn.MaxPool3d):
    """3D max pooling whose windows lie side by side; smaller ones at the end count as well."""

    def __init__(self, window: tuple[int, int, int]) -> None:
        super().__init__(window, window, ceil_mode=True)


@dataclass(frozen=True)
class Survey:
    """What the layers of a tower give."""

    channels: Mapping[str, int]
    """Layer -> C of its map, for those that run once and give one."""
    before: Mapping[str, frozenset[str]] = field(repr=False)
    """Layer -> the modules that a clip has come to when it has passed that layer."""


def survey(tower: Network) -> Survey:
    """Return which layers of a network give feature maps; nothing is computed or changed."""
    entered: list[str] = []
    calls: dict[str, int] = {}
    outputs: dict[str, Any] = {}
    before: dict[str, frozenset[str]] = {}

    def entering(name: str) -> Callable[..., None]:
        return lambda *_: entered.append(name)

    def leaving(name: str) -> Callable[..., None]:
        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            outputs[name], before[name] = output, frozenset(entered)

        return leave

    named = [(name, module) for name, module in tower.named_modules() if name]
    hooks = [module.register_forward_pre_hook(entering(name)) for name, module in named]
    hooks += [module.register_forward_hook(leaving(name)) for name, module in named]
    try:
        _run_on_meta(tower, _meta_state(tower))
    finally:
        for hook in hooks:
            hook.remove()
    channels = {
        name: output.shape[1]
        for name, output in outputs.items()
        if calls[name] == 1 and isinstance(output, Tensor) and output.ndim in (4, 5)
    }
    return Survey(channels, {name: before[name] for name in channels})


def _meta_state(tower: Network) -> dict[str, Tensor]:
    """Parameters and buffers of a network as tensors without numbers."""
    state = {name: torch.empty_like(value, device="meta") for name, value in tower.named_buffers()}
    for name, value in tower.named_parameters():
        state[name] = torch.empty_like(value, device="meta", requires_grad=True)
    return state


def _run_on_meta(tower: Network, state: dict[str, Tensor]) -> None:
    """Run a network once in evaluation mode on the smallest clip, computing nothing."""
    (accepts,) = tower.inputs.values()
    clip = torch.zeros(1, accepts.channels, *accepts.nearest((1, 1, 1)), device="meta")
    modes = {module: module.training for module in tower.modules()}
    tower.eval()
    try:
        torch.func.functional_call(tower, state, (clip,))
    finally:
        for module, is_training in modes.items():
            module.training = is_training


def cut_after(tower: Network, layer: str, known: Survey) -> None:
    """Take away, in place, the parameters of all that a tower would run after a layer.

    Raises:
        InputError: some of what runs before the layer does not lead to it, as the other pathway of
            a `slowfast` does not: it would be computed in vain.
    """
    reached = known.before[layer]
    for name, module in list(tower.named_modules()):
        within = name.startswith(tuple(f"{gone}." for gone in tower.left_out))
        needed = any(other == name or other.startswith(f"{name}.") for other in reached)
        if name and not within and not needed and any(True for _ in module.parameters()):
            tower.set_submodule(name, nn.Identity())
            tower.left_out += (name,)
    found: list[Tensor] = []

    def end(module: nn.Module, inputs: Any, output: Tensor) -> None:
        found.append(output)
        raise _EndedError(None)

    state = _meta_state(tower)
    with tower.get_submodule(layer).register_forward_hook(end), suppress(_EndedError):
        _run_on_meta(tower, state)
    names = [name for name, _ in tower.named_parameters()]
    leads = torch.autograd.grad(found[0].sum(), [state[n] for n in names], allow_unused=True)
    idle = [name for name, gradient in zip(names, leads, strict=True) if gradient is None]
    if idle:
        raise InputError(
            f"{idle[0]} and {len(idle) - 1} more parameters of {tower.name} run before {layer} "
            "and do not lead to it. Choose a layer that all before it leads to, or keep what comes "
            "after it (own_head, or another fusion)."
        )


def names_to_show(layers: Iterable[str]) -> tuple[str, ...]:
    """Names of layers as deep as `MOST_NAMES` allow, for an error."""
    names = tuple(layers)
    depths = range(1, 1 + max(name.count(".") + 1 for name in names))
    shown = [tuple(name for name in names if name.count(".") < depth) for depth in depths]
    few = [some for some in shown if 0 < len(some) <= MOST_NAMES] or [s for s in shown if s][:1]
    return few[-1] if few[-1] == names else (*few[-1], "and deeper ones")


class _EndedError(Exception):
    """Ends a tower after its layer; carries what went wrong there past those who catch errors."""

    def __init__(self, error: DualstreamError | None) -> None:
        super().__init__()
        self.error = error


def run_with(
    tower: Network, clips: Tensor, *, layer: str, change: Callable[[Tensor], Tensor | None]
) -> Tensor | None:
    """Logits (N, K) of a tower in which one layer gives what `change` makes of its map.

    Args:
        clips: as of the tower's `forward`.
        layer: name of a module that runs once.
        change: from the layer's own output; None ends the tower there.

    Returns:
        None where it ended at the layer.

    Raises:
        ShapeError: what follows the layer cannot go on with the changed map.
    """
    changed: list[Tensor] = []

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        if changed:  # a backbone that is tried for other sizes, to explain an error
            return None
        try:
            instead = change(output)
        except DualstreamError as error:
            raise _EndedError(error) from error
        if instead is None:
            raise _EndedError(None)
        changed.append(instead)
        return instead

    with tower.get_submodule(layer).register_forward_hook(hook):
        try:
            logits: Tensor = tower(clips)
        except _EndedError as stop:
            if stop.error is not None:
                raise stop.error from stop.error.__cause__
            return None
        except RuntimeError as error:
            if not changed:
                raise
            raise ShapeError(
                f"{tower.name} cannot go on after {layer} with maps of {tuple(changed[0].shape)}: "
                f"{error}. Pool less, or fuse after a later layer."
            ) from error
    return logits


def pooled_vectors(fused: Tensor) -> Tensor:
    """(N, C, T, H, W) -> (N, C), the mean; vectors stay."""
    return fused if fused.ndim == 2 else global_mean(fused)
