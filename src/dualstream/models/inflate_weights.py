"""Weights of 2D networks as the start of 3D ones: a still clip gives what its frame gave.

A window of kt frames gets the 2D window kt times, divided by kt. On a clip whose frames are all
alike it then gives what the 2D window gives on one of them, except where it reaches over the ends
of the clip: zeros there make it less. Frames repeated at the ends (`repeat_border_frames`, or
`time_padding="repeat"` of `i3d`) make it the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from dualstream.errors import InputError, WeightsError
from dualstream.models.convert import NON_LOCAL
from dualstream.models.convert.naming import renamed
from dualstream.models.layers.conv import RepeatingConv3d, inflate_weight
from dualstream.models.network import Network
from dualstream.models.weights.loading import list_problems
from dualstream.models.zoo.i3d import I3D
from dualstream.models.zoo.resnet_video import VideoResNet

_IN_RESNET = (
    (r"^classifier", "fc"),
    (r"^stem\.0\.conv", "conv1"),
    (r"^stem\.0\.norm", "bn1"),
    *((rf"^res{number + 1}", f"layer{number}") for number in range(1, 5)),
    (r"\.shortcut\.conv", ".downsample.0"),
    (r"\.shortcut\.norm", ".downsample.1"),
    (r"\.conv(\d)\.conv", r".conv\1"),
    (r"\.conv(\d)\.norm", r".bn\1"),
)
"""Patterns in our names -> timm's and torchvision's, as `names_in_resnet` applies them."""


def inflate_state(
    state: Mapping[str, torch.Tensor],
    model: Network,
    *,
    names: Mapping[str, str] | None = None,
    new_classifier: bool = False,
) -> dict[str, torch.Tensor]:
    """State dict of a 2D network as one of its 3D form, for `model.load_state_dict`.

    Args:
        state: of the 2D network, for instance `inception_v1` for `i3d`, or timm's resnet50 for
            `i3d_r50`, `slow_r50` and `c2d_r50`.
        model: the 3D network. Its non-local blocks, if any, keep their start.
        names: name in `model` -> name in `state`; None where both have the same. For ResNets see
            `names_in_resnet`.
        new_classifier: keep the model's classifier, for another number of classes.

    Raises:
        WeightsError: `state` is not of the 2D form of `model`; lists the names that are missing,
            left over or of another shape.
    """
    own = model.state_dict()
    table = dict(names) if names is not None else {key: key for key in own if NON_LOCAL not in key}
    if new_classifier:
        dropped = {table.pop(key) for key in list(table) if key.startswith("classifier.")}
        state = {key: value for key, value in state.items() if key not in dropped}
    taken = {key: state[of] for key, of in table.items() if of in state}
    for key, value in taken.items():
        is_flat = value.ndim == 4 or (value.ndim == 5 and value.shape[2] == 1)
        if is_flat and own[key].ndim == 5:
            taken[key] = inflate_weight(value, time_kernel=own[key].shape[2])
    wanted = {key: own[key] for key in table}
    left_over = sorted(state.keys() - set(table.values()))
    problems = list_problems(taken, wanted)
    if left_over:
        problems.append(f"{len(left_over)} not in the network: {', '.join(left_over)}")
    if problems:
        raise WeightsError(f"These are not weights of {model.name} in 2D. {'; '.join(problems)}.")
    return {**own, **taken}


def names_in_resnet(model: Network) -> dict[str, str]:
    """Our name -> the one in a 2D ResNet-50 of timm or torchvision, which agree in theirs.

    'res3.1.conv2.norm.bias' -> 'layer2.1.bn2.bias'. Strides agree too: all have them in the 3x3.

    Raises:
        WeightsError: not c2d_r50, i3d_r50 or slow_r50; R(2+1)D has convolutions over time of which
            2D ones have nothing.
    """
    keys = [key for key in model.state_dict() if NON_LOCAL not in key]
    if not isinstance(model, VideoResNet) or any(".conv2_time." in key for key in keys):
        raise WeightsError(f"{model.name} is not the 3D form of a 2D ResNet-50.")
    return {key: renamed(key, _IN_RESNET) for key in keys}


def repeat_border_frames(model: nn.Module) -> None:
    """Make every convolution over time see border frames again instead of zeros, in place.

    No name and no weight changes. Where weights were inflated, a still clip then gives what its
    frame gave. It is a property of the network, not of its weights: call it again on a new one.

    Raises:
        InputError: the network has convolutions over time that do not pad by themselves and alike
            on both sides, as those of residual networks and SlowFast do; nothing was changed.
    """
    if isinstance(model, I3D) and model.in_time and model.time_padding != "repeat":
        raise InputError("Make i3d with time_padding='repeat' instead.")
    for name, conv in model.named_modules():
        window = conv.kernel_size[0] if isinstance(conv, nn.Conv3d) else 1
        if window > 1 and (type(conv) not in (nn.Conv3d, RepeatingConv3d) or window % 2 == 0):
            raise InputError(
                f"{name}, {type(conv).__name__} over {window} frames, pads time in a way of its "
                "own, which cannot be changed."
            )
    for conv in model.modules():
        if type(conv) is nn.Conv3d and not isinstance(conv.padding, str) and conv.padding[0]:
            conv.__class__ = RepeatingConv3d  # which has another forward pass and nothing else
