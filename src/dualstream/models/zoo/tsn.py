"""Temporal segment network (Wang et al. 2016) over any 2D backbone of timm."""

from __future__ import annotations

import torch
from torch import nn

from dualstream.errors import check_least
from dualstream.models.layers.backbone import (
    accepted,
    make_backbone,
    num_features,
    parts,
    run_backbone,
)
from dualstream.models.layers.consensus import Average, ConsensusName, make_consensus
from dualstream.models.layers.pooling import stack_time
from dualstream.models.network import FrozenBatchNorm, Network, check_dropout


class TSN(Network):
    """Temporal segment network; with one segment, a two-stream network of a modern backbone.

    Backbone, dropout and classifier on every segment, then a consensus.

    Args:
        backbone: any name of `timm.list_models()`; its classifier is replaced by dropout and a
            linear layer (normal start with deviation 0.001, as in the reference code).
        length: T of one snippet; the backbone sees C*T channels.
        dropout: probability in front of the classifier, 0 up to (not including) 1. The paper
            uses 0.8 for RGB and 0.7 for flow.
        consensus: how the logits of the segments are joined.
        num_segments: S, for the linear consensus only.
        top_k: how many segments of each class count, for the top_k consensus only.
        frozen_batch_norm: partial freezes all batch norms but the first, as the paper does.

    The others are `BackboneOptions`, but there is no checkpointing.

    Raises:
        UnknownNameError: a choice or the backbone is unknown.
        InputError: a number is out of range.
        WeightsError: `pretrained`, and the hub cannot be reached or has no such weights.

    Source:
        Wang et al. 2016; classifier start and partial batch norm from the authors' PyTorch code.
    """

    conv_dims = 2

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str = "resnet50",
        in_channels: int = 3,
        length: int = 1,
        dropout: float = 0.5,
        consensus: ConsensusName = "average",
        num_segments: int | None = None,
        top_k: int = 3,
        frozen_batch_norm: FrozenBatchNorm = "none",
        pretrained: bool = False,
    ) -> None:
        check_dropout(dropout)
        check_least(1, length=length)
        images = make_backbone(backbone, in_channels=in_channels * length, pretrained=pretrained)
        super().__init__(
            num_classes=num_classes,
            inputs=accepted(images, in_channels=in_channels, length=length),
            frozen_batch_norm=frozen_batch_norm,
        )
        self.backbone = images
        self.num_features = num_features(images)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.num_features, num_classes)
        nn.init.normal_(self.classifier.weight, std=0.001)
        nn.init.zeros_(self.classifier.bias)
        self.consensus = make_consensus(
            consensus, num_features=self.num_features, num_segments=num_segments, top_k=top_k
        )
        self.apply_freezing()

    def stages(self) -> tuple[nn.Module, ...]:
        return parts(self.backbone)

    def head(self) -> tuple[nn.Module, ...]:
        return self.classifier, self.consensus

    @property
    def joins_segments(self) -> bool:
        """True unless the consensus is the average."""
        return not isinstance(self.consensus, Average)

    def encode(self, clips: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, num_features), the backbone's features."""
        features: torch.Tensor = run_backbone(self.backbone, stack_time(clips))
        return features

    def join(self, logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Logits (N, S, K), features (N, S, D) -> (N, K), by the consensus.

        Raises:
            ShapeError: S is another than a linear consensus has weights for.
        """
        joined: torch.Tensor = self.consensus(logits, features)
        return joined


tsn = TSN
"""The name in `MODELS`."""
