"""The smallest network over clips that learns quickly, for the tests of supervision transfer."""

from __future__ import annotations

from torch import nn

from dualstream.models.accepts import Accepts
from dualstream.models.layers.conv import ConvUnit
from dualstream.models.network import Network


class TinyStudent(Network):
    """Two convolutions."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__(num_classes=num_classes, inputs=Accepts(in_channels))
        self.conv1 = ConvUnit(in_channels, 16, (3, 3, 3), stride=(1, 2, 2))
        self.conv2 = ConvUnit(16, 32, (3, 3, 3), stride=(2, 2, 2))
        self.add_classifier(32, dropout=0.0)

    def stages(self) -> tuple[nn.Module, ...]:
        return self.conv1, self.conv2

    def parts(self) -> tuple[nn.Module, ...]:
        return self.conv1, self.conv2


def tiny_student(*, num_classes: int, in_channels: int = 3) -> TinyStudent:
    """Two convolutions over clips, for tests."""
    return TinyStudent(num_classes=num_classes, in_channels=in_channels)
