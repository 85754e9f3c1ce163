"""Post-training quantisation of an ONNX file to 8-bit integers, and what it costs in accuracy."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualstream.clips.data.manifest import Manifest
from dualstream.clips.loader import EpochBatches, make_loader
from dualstream.deploy.card import KEY, Card, NetworkCard
from dualstream.deploy.onnx_file import OnnxFile
from dualstream.deploy.runtime import ExportedNetwork
from dualstream.engine.datasets import Part, test_dataset, videos_of
from dualstream.engine.infer.evaluate import score_videos
from dualstream.engine.infer.predictor import Predictor
from dualstream.engine.run.checkpoint import Checkpoint
from dualstream.errors import DualstreamError, ExportError
from dualstream.scores import Accuracy, SeveralAccuracy, accuracy_of
from dualstream.types import Clip

CALIBRATION_VIDEOS = 100
"""Training videos, evenly taken from their list, whose middle snippets give the ranges."""

QUANTIZED = (
    *("Conv", "Gemm", "MatMul", "Add", "MaxPool", "GlobalAveragePool", "Concat"),
    *("Relu", "Clip"),
)
"""Operators that are computed in integers. The rest, and what follows the logits, is not. An
activation after a convolution becomes part of it: its range is that of what the activation lets
through (0 to 6 for ReLU6), not that of the values before."""


@dataclass(frozen=True, eq=False)
class Int8:
    """Accuracy of the file before and after quantisation, on the same clips of the same videos."""

    part: Part
    """held_out, or test for a recipe that holds out none."""
    before: Accuracy | SeveralAccuracy
    after: Accuracy | SeveralAccuracy
    calibration_videos: int


@dataclass(frozen=True, eq=False)
class Videos:
    """Manifest of a run, from where its videos are now."""

    checkpoint: Checkpoint
    manifest: Manifest
    workers: int

    def part(self) -> Part:
        """Part that accuracy is measured on: no video of the training."""
        data = self.checkpoint.recipe.data
        return "held_out" if data.hold_out or data.folds else "test"

    def clips(self, part: Part, *, segments: int, most: int | None = None) -> Iterable[Clip]:
        """Batches of one clip, centre crops, of the videos that `videos` gives."""
        recipe, videos = self.checkpoint.recipe, self.videos(part, most=most)
        test = recipe.test.model_copy(update={"segments": segments, "crops": "center"})
        recipe = recipe.model_copy(update={"test": test})
        return make_loader(
            test_dataset(videos, recipe, self.checkpoint.info),
            EpochBatches(len(videos), batch_size=1, shuffle=False),
            workers=self.workers,
        )

    def videos(self, part: Part, *, most: int | None = None) -> Manifest:
        """The videos of a part, or `most` of them, evenly taken from their list."""
        found = videos_of(self.manifest, self.checkpoint.recipe, part)
        if most is None or len(found) <= most:
            return found
        places = np.linspace(0, len(found) - 1, most).round().astype(int)
        return replace(found, records=tuple(found.records[place] for place in places))


def quantize(
    source: Path, target: Path, card: Card, samples: Iterator[dict[str, NDArray[np.uint8]]]
) -> None:
    """Write an ONNX file whose convolutions and products are of 8-bit integers.

    Weights are int8 with a scale for each output channel, of 7 bits so that processors without
    8-bit dot products do not overflow. Those of depthwise convolutions, which ONNX runtime adds up
    in more bits on all of them, have 8: their few weights a channel are the ones that bear rounding
    least. Activations are uint8 between the least and largest value that the middle snippets of
    training videos give.

    Args:
        source: file of single precision.
        target: file to write.
        card: of `source`.
        samples: input -> (N, ...) bytes, from which the ranges are taken.
    """
    with tempfile.TemporaryDirectory(prefix="dualstream-") as folder, _quiet():
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(os.fspath(source), os.fspath(prepared), skip_symbolic_shape=True)
        quantize_static(
            os.fspath(prepared),
            os.fspath(target),
            _Reader(samples),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            nodes_to_exclude=_after_logits(prepared, card),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "TensorQuantOverrides": {
                    name: [{"quant_type": QuantType.QInt8, "axis": 0, "reduce_range": False}]
                    for name in _depthwise_weights(prepared)
                }
            },
        )
    _write_card(target, replace(card, precision="int8"))


def quantize_run(
    source: Path,
    target: Path,
    card: Card,
    runs: Sequence[Videos],
    *,
    listener: Callable[[str, int, int], object] = lambda *_: None,
) -> Int8:
    """`quantize` with ranges of the training videos, and measure what it costs.

    Args:
        source, target, card: as of `quantize`.
        runs: of each network, in the card's order.
        listener: told what is done, how far it is, and of how much.

    Returns:
        Accuracy of both files on videos that no network was trained on.

    Raises:
        AnnotationError: a run has no training or no held-out video.
        ExportError, ScoresError: none of them can be read.
    """
    given = 0

    def counted() -> Iterator[dict[str, NDArray[np.uint8]]]:
        nonlocal given
        for sample in training_samples(card, runs):
            given += 1
            listener("calibrate", given, CALIBRATION_VIDEOS)
            yield sample
        if not given:
            raise ExportError(
                "No training video can be read: int8 has nothing to find its ranges with."
            )

    quantize(source, target, card, counted())
    before, after = (
        _accuracy(OnnxFile(path), runs, listener, f"test {name}")
        for path, name in ((source, "float32"), (target, "int8"))
    )
    return Int8(runs[0].part(), before, after, given)


class _Reader:
    """Samples as ONNX runtime's quantiser takes them: None at the end."""

    def __init__(self, samples: Iterator[dict[str, NDArray[np.uint8]]]) -> None:
        self._samples = samples

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self._samples, None)


def training_samples(card: Card, runs: Sequence[Videos]) -> Iterator[dict[str, NDArray[np.uint8]]]:
    """Yield one sample of each training video for all networks, the middle of the video.

    Videos that cannot be read are left out.
    """
    clips = [
        iter(run.clips("train", segments=network.segments or 1, most=CALIBRATION_VIDEOS))
        for network, run in zip(card.networks, runs, strict=True)
    ]
    while True:
        sample: dict[str, NDArray[np.uint8]] = {}
        for network, batches in zip(card.networks, clips, strict=True):
            try:
                clip = next(batches).sample(0)
            except StopIteration:
                return
            except DualstreamError:
                continue
            for stream, value in clip.data.items():
                views = value.numpy()  # (S, C, T, H, W), S = 1 where segments are not joined
                sample[network.inputs[stream]] = views if network.segments is None else views[None]
        if sample.keys() == card.shapes().keys():
            yield sample


def _after_logits(path: Path, card: Card) -> list[str]:
    """Names of the nodes that come after the logits: probabilities and fusion."""
    import onnx

    reached, names = {network.logits for network in card.networks}, []
    for node in onnx.load(path).graph.node:  # in the order of computing
        if reached & set(node.input):
            reached |= set(node.output)
            names.append(node.name)
    return names


def _depthwise_weights(path: Path) -> list[str]:
    """Names of the weights of depthwise convolutions: each channel with a filter of its own."""
    import onnx

    graph = onnx.load(path).graph
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type == "Conv":
            groups = next((one.i for one in node.attribute if one.name == "group"), 1)
            filters, channels = shapes[node.input[1]][:2]
            if channels == 1 and 1 < filters == groups:
                found.append(node.input[1])
    return found


def _write_card(path: Path, card: Card) -> None:
    import onnx

    model = onnx.load(path)
    del model.metadata_props[:]
    model.metadata_props.add(key=KEY, value=card.to_json())
    onnx.save(model, path)


def _accuracy(
    file: OnnxFile,
    runs: Sequence[Videos],
    listener: Callable[[str, int, int], object],
    what: str,
) -> Accuracy | SeveralAccuracy:
    """Accuracy of a file's networks, fused, on the part that the runs keep."""
    streams = []
    for network, run in zip(file.card.networks, runs, strict=True):
        part, segments = run.part(), _test_segments(network, run)
        predictor = Predictor(ExportedNetwork(network.name, file, network))

        def tell(done: int, total: int, name: str = network.name) -> None:
            listener(f"{what} {name}", done, total)

        scores, _ = score_videos(
            predictor, run.videos(part), run.clips(part, segments=segments), tell
        )
        streams.append(scores)
    return accuracy_of(file.card.fusion.apply(streams))


def _test_segments(network: NetworkCard, run: Videos) -> int:
    return network.segments or run.checkpoint.recipe.test.segments


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the quantiser's advice out of the output; it is not the user's to follow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
