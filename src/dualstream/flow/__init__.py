"""Optical flow: computing it, storing it as bytes, reading it back and drawing it."""

from dualstream.flow.camera import CameraMotion, estimate_camera_motion
from dualstream.flow.compute import flow_both_ways, optical_flow, warped_flow
from dualstream.flow.computed import ComputedFlow
from dualstream.flow.consistency import (
    BidirectionalFlow,
    bidirectional_flow,
    check_consistency,
)
from dualstream.flow.draw import flow_to_rgb
from dualstream.flow.extract.estimate import FlowEstimate, estimate_flow
from dualstream.flow.extract.job import FlowJob, FlowOutcome, Shard, shard_jobs
from dualstream.flow.extract.run import extract_flow
from dualstream.flow.methods.lookup import params_from_settings
from dualstream.flow.methods.params import (
    Direction,
    DISParams,
    FarnebackParams,
    FlowMethod,
    FlowParams,
    RAFTParams,
    TVL1FastParams,
    TVL1Params,
)
from dualstream.flow.methods.plugins import plugin_names
from dualstream.flow.quantize import (
    dequantize,
    encoded,
    from_denseflow,
    pixels,
    quantize,
    quantize_denseflow,
)
from dualstream.flow.source import FlowSource
from dualstream.flow.store.file import FlowFile
from dualstream.flow.store.flofile import read_flo, write_flo
from dualstream.flow.store.folders import FlowFolder, write_folder
from dualstream.flow.store.meta import FlowMeta
from dualstream.flow.store.store import FlowStore, StoredFlow

__all__ = [
    "BidirectionalFlow",
    "CameraMotion",
    "ComputedFlow",
    "DISParams",
    "Direction",
    "FarnebackParams",
    "FlowEstimate",
    "FlowFile",
    "FlowFolder",
    "FlowJob",
    "FlowMeta",
    "FlowMethod",
    "FlowOutcome",
    "FlowParams",
    "FlowSource",
    "FlowStore",
    "RAFTParams",
    "Shard",
    "StoredFlow",
    "TVL1FastParams",
    "TVL1Params",
    "bidirectional_flow",
    "check_consistency",
    "dequantize",
    "encoded",
    "estimate_camera_motion",
    "estimate_flow",
    "extract_flow",
    "flow_both_ways",
    "flow_to_rgb",
    "from_denseflow",
    "optical_flow",
    "params_from_settings",
    "pixels",
    "plugin_names",
    "quantize",
    "quantize_denseflow",
    "read_flo",
    "shard_jobs",
    "warped_flow",
    "write_flo",
    "write_folder",
]
