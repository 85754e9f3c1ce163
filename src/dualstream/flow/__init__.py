"""Optical flow: computing it, storing it as bytes, reading it back and drawing it."""

from dualstream.flow.draw import flow_to_rgb
from dualstream.flow.extract import FlowJob, FlowOutcome, extract_flow
from dualstream.flow.flofile import read_flo, write_flo
from dualstream.flow.folders import FlowFolder, write_folder
from dualstream.flow.meta import FlowMeta
from dualstream.flow.methods import optical_flow
from dualstream.flow.params import (
    Direction,
    DISParams,
    FarnebackParams,
    FlowMethod,
    FlowParams,
    RAFTParams,
    TVL1Params,
    params_from_settings,
)
from dualstream.flow.quantize import dequantize, from_denseflow, quantize, quantize_denseflow
from dualstream.flow.store import FlowFile, FlowStore, StoredFlow

__all__ = [
    "DISParams",
    "Direction",
    "FarnebackParams",
    "FlowFile",
    "FlowFolder",
    "FlowJob",
    "FlowMeta",
    "FlowMethod",
    "FlowOutcome",
    "FlowParams",
    "FlowStore",
    "RAFTParams",
    "StoredFlow",
    "TVL1Params",
    "dequantize",
    "extract_flow",
    "flow_to_rgb",
    "from_denseflow",
    "optical_flow",
    "params_from_settings",
    "quantize",
    "quantize_denseflow",
    "read_flo",
    "write_flo",
    "write_folder",
]
