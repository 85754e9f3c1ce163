"""See inside a network: sizes, receptive fields, parameters and cost of every layer."""

from dualstream.models.inspection.input_size import usual_input_size
from dualstream.models.inspection.table import (
    Depth,
    InputSize,
    LayerRow,
    NetworkTable,
    inspect_network,
)

__all__ = [
    "Depth",
    "InputSize",
    "LayerRow",
    "NetworkTable",
    "inspect_network",
    "usual_input_size",
]
