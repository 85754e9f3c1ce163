"""Hidden Two-Stream network (Zhu et al. 2017): MotionNet in front of a temporal network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from dualstream.errors import InputError, check_least
from dualstream.models import create_model
from dualstream.models.accepts import Accepts
from dualstream.models.create import fixed_options
from dualstream.models.zoo.motionnet import MotionEstimator, MotionNetwork, flow_pixels

BOUND_PX = 20.0
"""Pixels that flow is cut to between the two networks."""

BYTE_PX = BOUND_PX / 127.5
"""Pixels that a step of a byte stands for, in the authors' flow images and in this package's."""


def flow_between(finest: Tensor, size: tuple[int, int], *, flow_std: float) -> Tensor:
    """Flow of MotionNet as the temporal network sees it: cut, enlarged, divided.

    Args:
        finest: (N, T-1, 2, h, w) as `MotionEstimator` gives it.
        size: (H, W) of the frames.
        flow_std: pixels that become 1.

    Returns:
        (N, 2, T-1, H, W), from -20 / flow_std to 20 / flow_std.

    Source:
        The authors' `end_train_val.prototxt`: times 20, cut to -20..20, to bytes, 128 subtracted.
    """
    # Cutting comes before enlarging, as there: what is between two cut pixels is cut as well.
    cut = finest.clamp(-BOUND_PX / 20, BOUND_PX / 20)
    return flow_pixels(cut, size).transpose(1, 2) / flow_std  # (N, T-1, 2, ...) -> (N, 2, T-1, ...)


class HiddenTwoStream(MotionNetwork):
    """MotionNet, and a temporal network on the flow that it estimates: RGB in, logits out.

    It has two stages to freeze: with `model.trainable=1` MotionNet stays and the temporal network
    learns.

    Args:
        length: T, from 2: the temporal network sees T-1 flow fields.
        temporal: a network of `list_models()`.
        temporal_options: its options but for those that stand here.
        temporal_weights: weights of `list_weights()` that it starts from.
        pretrained: start the temporal network as its option of that name says.
        dropout: of the temporal network.
        flow_std: pixels of flow that become 1 in front of the temporal network; the default is a
            step of a byte, as in the authors' network. One that was trained on stored flow saw it
            over `inputs.flow.std`, in pixels.
        base_channels: see `MotionNet`.

    Raises:
        UnknownNameError: an unknown temporal network or option of it, or unknown weights.
        InputError: a number is out of range (a temporal network over clips may need longer ones),
            or the temporal network takes several streams.
        WeightsError: the weights cannot be had.

    Source:
        Zhu et al. 2017, section 3.2.
    """

    starts_from: Mapping[str, str] = {"motionnet": "motion"}

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        length: int = 11,
        temporal: str = "tsn",
        temporal_options: Mapping[str, Any] | None = None,
        temporal_weights: str | None = None,
        pretrained: bool = False,
        dropout: float = 0.8,
        flow_std: float = BYTE_PX,
        base_channels: int = 64,
    ) -> None:
        check_least(2, length=length)
        if not flow_std > 0:
            raise InputError(f"flow_std must be above 0, got {flow_std}.")
        given: dict[str, Any] = {"num_classes": num_classes, "in_channels": 2, "dropout": dropout}
        if "length" in fixed_options(temporal):
            given["length"] = length - 1
        if pretrained:
            given["pretrained"] = True
        if taken := sorted({*given, "pretrained"} & (temporal_options or {}).keys()):
            raise InputError(
                f"temporal_options hold {', '.join(taken)}: leave out what this network decides, "
                "and give dropout and pretrained beside them."
            )
        after = create_model(
            temporal, weights=temporal_weights, **given, **(temporal_options or {})
        )
        (accepts,) = after.inputs.values()
        check_least(accepts.smallest[0] + 1, length=length)
        super().__init__(
            num_classes=num_classes,
            inputs=Accepts(in_channels, length, (1, *accepts.smallest[1:]), accepts.side),
            frozen_batch_norm=after.frozen_batch_norm,
        )
        self.flow_std = flow_std
        self.conv_dims = after.conv_dims
        self.motion = MotionEstimator(
            in_channels=in_channels, length=length, base_channels=base_channels
        )
        self.temporal = after
        # Its classifier is this network's, under the name that every network's has.
        self.num_features = after.num_features
        self.dropout, self.classifier = after.dropout, after.classifier
        after.dropout, after.classifier = nn.Dropout(0), nn.Identity()  # type: ignore[assignment]
        self.apply_freezing()

    def stages(self) -> tuple[nn.Module, ...]:
        return self.motion, self.temporal

    def head(self) -> tuple[nn.Module, ...]:
        return self.classifier, *self.temporal.head()

    @property
    def joins_segments(self) -> bool:
        """As of the temporal network."""
        return self.temporal.joins_segments

    def encode_flow(self, finest: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, T-1, 2, h, w) -> the temporal network's (N, num_features)."""
        return self.temporal.encode(flow_between(finest, size, flow_std=self.flow_std))

    def join(self, logits: Tensor, features: Tensor) -> Tensor:
        """Logits (N, S, K), features (N, S, D) -> (N, K), as of the temporal network."""
        return self.temporal.join(logits, features)


hidden_two_stream = HiddenTwoStream
"""The name in `MODELS`."""
