"""ONNX files: read and run by ONNX runtime or OpenVINO, without torch; written from a trace."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dualstream.deploy import openvino_engine
from dualstream.deploy.card import EXPORT_AGAIN, KEY, Card, OnnxRuntime, check_names
from dualstream.deploy.openvino_engine import OpenVinoEngine
from dualstream.errors import ExportError, MissingDependencyError
from dualstream.jobs import num_threads

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

OPSET = 18
"""Version of the operators: the oldest that torch writes, so that most runtimes read it."""


class OnnxFile:
    """An exported ONNX file on the CPU, in ONNX runtime.

    One that was written for OpenVINO runs there; where it is not installed, in ONNX runtime, which
    takes longer for it and says so.

    Args:
        path: of the file.

    Raises:
        MissingDependencyError: ONNX runtime is not installed.
        ExportError: the file is missing, broken, of another version, or says not what it is.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        runtime = import_runtime()
        if not Path(path).is_file():
            raise ExportError(f"{self.path}: there is no such file.")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = num_threads()
        options.log_severity_level = 3  # errors; what it warns of cannot be changed here
        try:
            self._session = runtime.InferenceSession(
                self.path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its classes of errors have no base of their own
            reason = str(error).strip().partition("\n")[0]
            raise ExportError(
                f"{self.path} cannot be run by ONNX runtime {runtime.__version__}: {reason}. "
                f"{EXPORT_AGAIN}"
            ) from error
        try:
            metadata = self._session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError as error:
            raise ExportError(
                f"{self.path}: its metadata are no text ({error}). {EXPORT_AGAIN}"
            ) from error
        self.card = Card.from_json(metadata.get(KEY), path=self.path)
        inputs = [one.name for one in self._session.get_inputs()]
        outputs = [one.name for one in self._session.get_outputs()]
        check_names(self.card, inputs, outputs, path=self.path)
        self._options = runtime.RunOptions()
        self._options.only_execute_path_to_fetches = True
        self._openvino = None
        if self.card.runtime == "openvino":
            if openvino_engine.is_installed():
                self._openvino = OpenVinoEngine(self.path)
                del self._session  # it has told what there is
            else:
                _log.warning(
                    "%s was written for OpenVINO, which is not installed; ONNX runtime takes "
                    "longer for it: pip install openvino",
                    self.path,
                )

    def run(
        self, clips: Mapping[str, NDArray[np.uint8]], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Return the outputs of these names.

        Args:
            clips: input -> (N, ...) bytes; inputs that the outputs do not hang on may be left out.
            outputs: names; only what leads to them is computed.
        """
        samples = len(next(iter(clips.values())))
        fed = {
            name: clips[name] if name in clips else np.zeros((samples, *shape), np.uint8)
            for name, shape in self.card.shapes().items()
        }
        if self._openvino is not None:
            return self._openvino.run(fed, outputs)
        values = self._session.run(list(outputs), fed, self._options)
        return dict(zip(outputs, values, strict=True))


def import_runtime() -> Any:
    """The module of ONNX runtime.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            "ONNX files need ONNX runtime: pip install 'dualstream[export]', or in a checkout "
            "pip install '.[export]'."
        ) from error
    return onnxruntime


def check_can_write(runtime: OnnxRuntime) -> None:
    """Raise MissingDependencyError unless the packages that write and check ONNX files are here."""
    import_runtime()
    if runtime == "openvino":
        openvino_engine.check_installed()
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"Export to ONNX needs {error.name}: pip install 'dualstream[export]', or in a "
            "checkout pip install '.[export]'."
        ) from error


def write_onnx(program: torch.export.ExportedProgram, card: Card, path: Path) -> None:
    """Write a trace of `graph.trace` as an ONNX file with its card.

    Raises:
        ExportError: the trace holds something that ONNX has no operator for.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            written = torch.onnx.export(
                program,
                input_names=list(card.shapes()),
                output_names=list(card.outputs()),
                opset_version=OPSET,
                dynamo=True,
                optimize=False,  # minutes for a deep network; ONNX runtime does it when it loads
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error).strip().partition("\n")[0]
        names = ", ".join(network.model for network in card.networks)
        raise ExportError(f"{names} cannot be written as ONNX: {reason}") from error
    assert written is not None
    written.model.metadata_props[KEY] = card.to_json()
    for node in written.model.graph:
        node.metadata_props.clear()  # stack traces, with folders of this machine
    proto = written.model_proto
    _name_batch(proto.graph)
    _drop_zero_biases(proto.graph)
    path.write_bytes(proto.SerializeToString())


def _name_batch(graph: Any) -> None:
    """Call the samples of a batch "batch" everywhere; tracing calls them by a number of its own."""
    traced = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == traced:
                dim.dim_param = "batch"


def _drop_zero_biases(graph: Any) -> None:
    """Leave convolutions without a bias without one.

    Torch writes zeros for it that are computed on the way. ONNX runtime then joins neither a batch
    norm nor an activation with the convolution, and takes a slower kernel for it.
    """
    from onnx import numpy_helper

    makers = {output: node for node in graph.node for output in node.output}

    def is_zero(name: str) -> bool:
        maker = makers.get(name)
        if maker is None:
            return False
        if maker.op_type == "Constant":
            (value,) = maker.attribute
            return value.name == "value" and not numpy_helper.to_array(value.t).any()
        return maker.op_type in ("Expand", "CastLike") and is_zero(maker.input[0])

    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) > 2 and is_zero(node.input[2]):
            del node.input[2]
