"""The worker process: it holds the networks and carries out orders, several at a time."""

from __future__ import annotations

import gc
import os
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dualstream.engine.infer.predictor import Predictor, PredictorOptions
from dualstream.engine.infer.recognizer import Model, Recognizer, Recognizes, as_recognizers
from dualstream.errors import DiskError, DualstreamError, InputError, VideoError
from dualstream.jobs.processes import die_with_parent
from dualstream.serve.answers import write_answer
from dualstream.serve.batching import Batched, all_alone
from dualstream.serve.checked_video import WatchedFrames, check_header, checked_video
from dualstream.serve.documents import PredictOptions
from dualstream.serve.explaining import write_moments
from dualstream.serve.messages import (
    AddToProject,
    Batch,
    Cancel,
    Check,
    Done,
    Explain,
    Failed,
    NotReady,
    Order,
    Pace,
    Predict,
    Progress,
    Ready,
)
from dualstream.serve.refusal import RefusedError, disk_refusal
from dualstream.serve.settings import Limits, NetworkSettings
from dualstream.video.source import FromFirstFrame

CHECKS_AT_ONCE = 2
MOST_WINDOWS = 50_000
"""Of a video."""


class _CancelledError(Exception):
    """An order was given up."""


def work(connection: Connection, networks: NetworkSettings, limits: Limits) -> None:
    """Main function of the worker process: load the networks, then carry out orders."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the service ends its worker
    die_with_parent()
    sending = threading.Lock()

    def send(message: Any) -> None:
        with sending:
            connection.send(message)

    try:
        worker = _Worker(networks, limits, send)
    except Exception as error:
        known = isinstance(error, DualstreamError | OSError)
        send(NotReady(error if known else RuntimeError(traceback.format_exc())))
        return
    send(Ready(worker.described()))
    while True:
        try:
            order = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        worker.take(order)


def _load(networks: NetworkSettings) -> tuple[Recognizes, ...]:
    found: list[Model] = []
    if networks.exported is not None:
        from dualstream.deploy.runtime import open_exported

        found += open_exported(networks.exported)
    if networks.runs or networks.weights:
        from dualstream.engine.infer.recognizer import open_models

        found += open_models(networks.runs, networks.weights, device=networks.device)
    recognizers = as_recognizers(found)
    for one in recognizers:
        if isinstance(one, Recognizer):
            one.model.eval()  # before threads share it
    return recognizers


class _Worker:
    """Networks, and the threads that use them."""

    def __init__(
        self, networks: NetworkSettings, limits: Limits, send: Callable[[Any], None]
    ) -> None:
        self._limits, self._send = limits, send
        self._recognizers = _load(networks)
        self._options = networks.options
        optimize = networks.options.get("optimize", False)
        self._batched = [
            Batched(one, on_batch=lambda count: send(Batch(count)), optimize=optimize)
            for one in self._recognizers
        ]
        self._default = self._predictor(PredictOptions(), self._batched)  # checks the options
        self._given_up: set[int] = set()
        self._threads = {
            Check: ThreadPoolExecutor(CHECKS_AT_ONCE),
            Predict: ThreadPoolExecutor(limits.concurrency),
            Explain: ThreadPoolExecutor(1),
            AddToProject: ThreadPoolExecutor(1),
        }

    def described(self) -> dict[str, Any]:
        """Return what `/v1/models` tells of the networks."""
        return {
            "networks": [
                {
                    "name": one.name,
                    "streams": [
                        {"name": name, "modality": stream.modality, "frames": stream.num_frames}
                        for name, stream in one.spec.streams.items()
                    ],
                }
                for one in self._recognizers
            ],
            "classes": list(self._default.classes),
            "labels": self._default.labels,
            "window_seconds": self._default.window_seconds,
            "step_seconds": self._default.step_seconds,
            "explains": self._explains,
        }

    @property
    def _explains(self) -> bool:
        one_view = self._default.scoring.cropping.num_views == 1
        return one_view and all(isinstance(one, Recognizer) for one in self._recognizers)

    def take(self, order: Order | Cancel) -> None:
        """Begin with an order, or give one up."""
        if isinstance(order, Cancel):
            self._given_up.add(order.number)
            return
        self._threads[type(order)].submit(self._carry_out, order)

    def _carry_out(self, order: Order) -> None:
        try:
            self._check_given_up(order)
            if os.path.realpath(order.path) != order.path:
                raise RefusedError("forbidden", f"{order.name!r} has become a link.")
            value = None
            if isinstance(order, Check):
                value = check_header(order.path, order.name, self._limits)
            elif isinstance(order, Predict):
                self._predict(order)
            elif isinstance(order, Explain):
                self._explain(order)
            elif isinstance(order, AddToProject):
                self._add_to_project(order)
            self._send(Done(order.number, value))
        except BaseException as error:
            self._send(_failure(order, error))
        finally:
            self._given_up.discard(order.number)
            gc.collect(0)

    def _check_given_up(self, order: Order) -> None:
        if order.number in self._given_up:
            raise _CancelledError

    def _predictor(self, asked: PredictOptions, networks: Sequence[Any]) -> Predictor:
        options: PredictorOptions = {**self._options, "optimize": False}
        if asked.window_seconds is not None:
            options["window_seconds"] = asked.window_seconds
        if asked.step_seconds is not None:
            options["step_seconds"] = asked.step_seconds
        return Predictor(networks, **options)

    def _predict(self, order: Predict) -> None:
        predictor = self._predictor(order.options, self._batched)
        pace = Pace()
        with checked_video(order.path, order.name, self._limits) as video:
            num_frames, stage = video.num_frames, "cuts"
            seconds = float(video.pts_seconds[-1] - video.pts_seconds[0])
            step = predictor.step_seconds or predictor.window_seconds
            if seconds / step > MOST_WINDOWS:
                raise RefusedError(
                    "invalid",
                    f"{seconds / step:.0f} windows are more than {MOST_WINDOWS}: give a longer "
                    "window_seconds or step_seconds.",
                )

            def read(number: int) -> None:
                self._check_given_up(order)
                if stage == "cuts" and pace.is_due():
                    self._send(Progress(order.number, "cuts", number + 1, num_frames))

            def advanced(done: int, total: int) -> None:
                nonlocal stage
                stage = "windows"
                self._check_given_up(order)
                if pace.is_due(at_end=done in (0, total)):
                    self._send(Progress(order.number, "windows", done, total))

            prediction = predictor.predict(
                WatchedFrames(FromFirstFrame(video), read), path=order.path, listener=advanced
            )
            write_answer(Path(order.folder), prediction, video, order.name, order.options)

    def _add_to_project(self, order: AddToProject) -> None:
        from dualstream.engine.teach.teacher import Teacher

        with checked_video(order.path, order.name, self._limits):
            pass
        Teacher(order.project).add_video(order.path)

    def _explain(self, order: Explain) -> None:
        with (
            checked_video(order.path, order.name, self._limits) as video,
            all_alone(self._batched),
        ):
            predictor = self._predictor(order.options, self._recognizers)
            write_moments(
                Path(order.folder),
                video,
                predictor,
                path=order.path,
                start_seconds=order.start_seconds,
                end_seconds=order.end_seconds,
            )


def _failure(order: Order, error: BaseException) -> Failed:
    """Say why an order could not be carried out, with the client's name of the video."""
    if isinstance(error, _CancelledError):
        return Failed(order.number, None, "")
    if isinstance(error, RefusedError):
        return Failed(order.number, error.kind, str(error))
    if isinstance(error, DiskError):
        refusal = disk_refusal(error)
        return Failed(order.number, refusal.kind, str(refusal))
    text = str(error).replace(order.path, order.name)  # errors name the file as it is kept here
    if isinstance(error, VideoError):
        return Failed(order.number, "video", text)
    if isinstance(error, InputError):
        return Failed(order.number, "invalid", text)
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return Failed(
            order.number,
            "memory",
            f"{order.name!r} needs more memory than the service has. Send it smaller, or ask for "
            "a shorter window_seconds.",
        )
    if isinstance(error, DualstreamError):
        return Failed(order.number, "internal", text)
    detail = "".join(traceback.format_exception(error))
    return Failed(
        order.number,
        "internal",
        f"{order.name!r} could not be worked on ({type(error).__name__}); the log of the service "
        "has more.",
        detail,
    )
