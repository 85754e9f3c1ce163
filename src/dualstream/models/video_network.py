"""What every network over clips of any length and size is."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from dualstream.errors import InputError, ShapeError
from dualstream.models.layers.checkpointing import checkpointed
from dualstream.models.layers.conv import Triple
from dualstream.models.network import (
    Network,
    check_dropout,
    explained_statistics,
    join_segments,
    split_segments,
)


class VideoNetwork(Network):
    """A network from a clip of any length and size to a vector, dropout, classifier.

    Subclasses make their layers, call `add_classifier` last, and define `stages` and either `parts`
    and `pool` or, where they are no chain, `embed`. What is called through `run` has gradient
    checkpointing.

    Args:
        num_classes: K.
        in_channels: C, 3 for RGB and RGB difference, 2 for optical flow.
        smallest: least T, H and W that every layer has an output for.
        checkpointing: keep no activations inside blocks for the backward pass, compute them
            again: less memory, about a third more time.
        length: T that is demanded; None takes any of at least `smallest`.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        smallest: Triple,
        checkpointing: bool = False,
        length: int | None = None,
    ) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels, length=length)
        self.smallest = smallest
        self.checkpointing = checkpointing

    def add_classifier(self, num_features: int, *, dropout: float) -> None:
        """Set `dropout` and `classifier` behind vectors of `num_features`, and freeze."""
        check_dropout(dropout)
        self.num_features = num_features
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(num_features, self.num_classes)
        self.apply_freezing()

    def parts(self) -> tuple[nn.Module, ...]:
        """What a clip passes one after the other in front of `pool`; () where a network is no such
        chain and defines `embed` itself."""
        return ()

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        """What the last part gives, (N, C, T, H, W) -> (N, num_features): the mean."""
        return global_mean(features)

    def embed(self, clips: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, num_features), what the classifier sees."""
        return self._finish(clips, first=0)

    def num_frozen_parts(self) -> int:
        """How many parts at the beginning have nothing that is trained (see `set_trainable`)."""
        trained = [any(p.requires_grad for p in part.parameters()) for part in self.parts()]
        return trained.index(True) if True in trained else len(trained)

    def begin(self, clips: torch.Tensor, *, parts: int) -> torch.Tensor:
        """Clips (N, C, T, H, W) through the first `parts`; pooled where those are all.

        Raises:
            InputError: the network is no chain of parts.
            ShapeError: T, H or W below `smallest`.
        """
        if not self.parts():
            raise InputError(f"{self.name} is no chain of parts that can be run in pieces.")
        self.check_size(clips)
        x = clips
        for part in self.parts()[:parts]:
            x = self.run(part, x)
        return self.pool(x) if parts == len(self.parts()) else x

    def finish(self, features: torch.Tensor, *, parts: int) -> torch.Tensor:
        """Logits (N, K) of what `begin` gave with the same `parts`.

        Raises:
            ShapeError: in training, too few values for the statistics of a batch norm.
        """
        if parts < len(self.parts()):
            with self._explained():
                features = self._finish(features, first=parts)
        logits: torch.Tensor = self.classifier(self.dropout(features))
        return logits

    def _finish(self, x: torch.Tensor, *, first: int) -> torch.Tensor:
        for part in self.parts()[first:]:
            x = self.run(part, x)
        return self.pool(x)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) or (N, S, C, T, H, W) -> logits (N, K), mean over segments S.

        Raises:
            ShapeError: another C, or T, H or W below `smallest`; in training, too few values for
                the statistics of a batch norm.
        """
        clips, segments = split_segments(clips, in_channels=self.in_channels, length=self.length)
        self.check_size(clips)
        with self._explained():
            features = self.embed(clips)
        logits: torch.Tensor = self.classifier(self.dropout(features))  # (N*S, K)
        return join_segments(logits, segments=segments).mean(dim=1)  # (N, K)

    def _explained(self) -> AbstractContextManager[None]:
        return explained_statistics(self.name) if self.training else nullcontext()

    def check_size(self, clips: torch.Tensor) -> None:
        """Raise ShapeError where T, H or W of (N, C, T, H, W) is below `smallest`."""
        size = tuple(clips.shape[-3:])
        if any(found < least for found, least in zip(size, self.smallest, strict=True)):
            wanted = " x ".join(str(least) for least in self.smallest)
            got = " x ".join(str(found) for found in size)
            raise ShapeError(
                f"{self.name} needs clips of at least {wanted} (frames x height x width), "
                f"got {got}."
            )

    def units(self, part: nn.Module) -> tuple[nn.Module, ...]:
        """What of a part is checkpointed as one: each block of a stage."""
        return tuple(part) if isinstance(part, nn.Sequential) else (part,)

    def run(self, part: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """`part(x)`; with gradient checkpointing while training."""
        if not (self.checkpointing and self.training and torch.is_grad_enabled()):
            y: torch.Tensor = part(x)
            return y
        for unit in self.units(part):
            x = checkpointed(unit, x)
        return x


def global_mean(features: torch.Tensor) -> torch.Tensor:
    """(N, C, T, H, W) -> (N, C)."""
    return features.mean(dim=(2, 3, 4))


def window_mean(features: torch.Tensor, window: Triple) -> torch.Tensor:
    """Mean over all places of a window of the mean inside it: (N, C, T, H, W) -> (N, C).

    What is far from the border counts more often. Where the features are smaller than the window
    it is cut to their size.

    Source:
        The heads of I3D and S3D: average pooling at stride 1, a 1x1x1 convolution, mean.
    """
    return global_mean(window_means(features, window))


def window_means(features: torch.Tensor, window: Triple) -> torch.Tensor:
    """(N, C, T, H, W) -> the mean inside the window at each place that it has in them."""
    size = [min(w, int(s)) for w, s in zip(window, features.shape[2:], strict=True)]
    return nn.functional.avg_pool3d(features, size, stride=1)
