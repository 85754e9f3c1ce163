"""ONNX files in OpenVINO, which has fast convolutions over time where ONNX runtime has none."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualstream.deploy.card import EXPORT_AGAIN
from dualstream.errors import ExportError, MissingDependencyError
from dualstream.jobs import num_threads


def is_installed() -> bool:
    """Whether OpenVINO is here; it is not imported."""
    return importlib.util.find_spec("openvino") is not None


def check_installed() -> None:
    """Raise MissingDependencyError unless OpenVINO is here."""
    if not is_installed():
        raise MissingDependencyError(
            "The runtime openvino needs OpenVINO: pip install 'dualstream[openvino]', or in a "
            "checkout pip install '.[openvino]'."
        )


class OpenVinoEngine:
    """An ONNX file in OpenVINO, on the CPU, in single precision.

    Args:
        path: of the file.

    Raises:
        ExportError: OpenVINO cannot read it.
    """

    def __init__(self, path: str) -> None:
        import openvino

        self.path = path
        self._core = openvino.Core()
        try:
            self._model = self._core.read_model(path)
        except RuntimeError as error:
            raise self._refusal(error) from error
        self._requests: dict[tuple[str, ...], Any] = {}

    def run(
        self, clips: Mapping[str, NDArray[np.uint8]], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Return the outputs of these names; arguments are those of `OnnxFile.run`."""
        request = self._request(tuple(outputs))
        found = request.infer(dict(clips))
        return {name: np.array(found[name]) for name in outputs}

    def _request(self, outputs: tuple[str, ...]) -> Any:
        """The model compiled for these outputs alone, so that no other network runs."""
        if outputs not in self._requests:
            wanted = self._model.clone()
            for result in wanted.get_results():
                if not result.get_output_tensor(0).get_names() & set(outputs):
                    wanted.remove_result(result)
            settings = {
                "INFERENCE_NUM_THREADS": num_threads(),
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": "f32",
            }
            try:
                compiled = self._core.compile_model(wanted, "CPU", settings)
            except RuntimeError as error:
                raise self._refusal(error) from error
            self._requests[outputs] = compiled.create_infer_request()
        return self._requests[outputs]

    def _refusal(self, error: Exception) -> ExportError:
        from openvino import get_version

        reason = str(error).strip().splitlines()[-1]
        return ExportError(
            f"{self.path} cannot be run by OpenVINO {get_version()}: {reason}. {EXPORT_AGAIN}"
        )
