"""`dualstream watch`."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Annotated, Any, Self, cast

import typer

from dualstream.cli.networks import choose_networks
from dualstream.cli.options import (
    Crops,
    Device,
    Enter,
    ExportedModel,
    FittedFusion,
    Leave,
    Optimize,
    Runs,
    Segments,
    StreamWeights,
    Weights,
)
from dualstream.cli.output import percent, print_line, stderr
from dualstream.errors import InputError

if TYPE_CHECKING:
    from dualstream.engine.infer.live_windows import Moment
    from dualstream.scores.timeline import Thresholds


def watch(
    source: Annotated[
        str,
        typer.Argument(
            help="Camera (0 or /dev/video0), URL (rtsp://...), or a file to play at its own pace."
        ),
    ],
    checkpoint: Runs = None,
    weights: Weights = None,
    model: ExportedModel = None,
    stream_weights: StreamWeights = None,
    fusion: FittedFusion = None,
    window: Annotated[float, typer.Option(help="Seconds that are looked at together.")] = 2.0,
    step: Annotated[
        float, typer.Option(help="Seconds from a window's start to the next one's.")
    ] = 1.0,
    cuts: Annotated[
        bool, typer.Option("--cuts/--no-cuts", help="Begin anew where the scene changes.")
    ] = True,
    segments: Segments = None,
    crops: Crops = "center",
    top: Annotated[int, typer.Option(help="Classes to tell.", min=1)] = 1,
    enter: Enter = None,
    leave: Leave = None,
    hook: Annotated[
        str | None,
        typer.Option(
            help="Shell command to run when a class comes in; DUALSTREAM_LABEL, _PROBABILITY and "
            "_SECONDS tell which."
        ),
    ] = None,
    most_delay: Annotated[
        float, typer.Option(help="Seconds after which a window is left out for a newer one.")
    ] = 1.0,
    reconnect: Annotated[
        float, typer.Option(help="Seconds for which a lost camera or stream is called.", min=0)
    ] = 60.0,
    timeout: Annotated[
        float, typer.Option(help="Seconds of silence after which a source is lost.")
    ] = 10.0,
    device: Device = "cpu",
    optimize: Optimize = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a window.")] = False,
) -> None:
    """Follow a camera or stream: the classes of the last seconds, window by window."""
    from dualstream.scores.timeline import Presence, check_thresholds

    # Errors of the call come before torch and weights are loaded, which takes seconds.
    networks = choose_networks(
        checkpoint, weights, model=model, stream_weights=stream_weights, fusion=fusion
    )
    numbers = {"--window": window, "--step": step, "--most-delay": most_delay}
    for name, seconds in (numbers | {"--timeout": timeout}).items():
        if not seconds > 0:
            raise InputError(f"{name} must be above 0 seconds, got {seconds:g}.")
    given = {k: v for k, v in {"enter": enter, "leave": leave}.items() if v is not None}
    enters, leaves, _, _ = check_thresholds(**cast("Thresholds", given))
    from dualstream.engine.infer.predictor import Predictor
    from dualstream.video.live import LiveReader

    predictor = Predictor(
        networks.load(device=device),
        fusion=networks.fusion,
        window_seconds=window,
        step_seconds=step,
        cuts="difference" if cuts else "none",
        segments=segments,
        crops=crops,
        optimize=optimize,
    )
    states = Presence(predictor.classes, labels=predictor.labels, enter=enters, leave=leaves)
    present: tuple[int, ...] = ()
    with (
        LiveReader(
            source,
            keep_seconds=window + step + 2 * most_delay,
            most_lag_seconds=most_delay,
            timeout_seconds=timeout,
            reconnect_seconds=reconnect,
            listener=lambda message: stderr().print(message, soft_wrap=True, markup=False),
        ) as live,
        _Hook(hook) as command,
    ):
        for moment in predictor.watch(live, most_delay_seconds=most_delay):
            before, present = present, states.step(moment.probabilities)
            surest = sorted(present, key=lambda label: -moment.probabilities[label])
            several = predictor.labels == "several"
            if json:
                print_line(_as_dict(moment, surest, top, several=several))
            else:
                print_line(_as_text(moment, surest if several else None, top))
            for label in surest:
                if label not in before:
                    command.run(label, moment)


def _as_dict(moment: Moment, surest: list[int], top: int, *, several: bool) -> dict[str, Any]:
    """A line of `watch --json`; of networks of several labels with all those that are there."""
    names = [moment.classes[label] for label in surest]
    return {
        "time": round(moment.end_seconds, 3),
        "start": round(moment.start_seconds, 3),
        "label": names[0] if names else None,
        **({"labels": names} if several else {}),
        "top": [{"class": name, "probability": round(p, 6)} for name, p in moment.top(top)],
        "delay_seconds": round(moment.delay_seconds, 3),
        "dropped": moment.num_dropped,
    }


def _as_text(moment: Moment, surest: list[int] | None, top: int) -> str:
    """A line for people: the classes that are there, or those that rank first for None."""
    told = moment.top(top)
    if surest is not None:
        told = [(moment.classes[n], float(moment.probabilities[n])) for n in surest]
    ranked = ", ".join(f"{name} {percent(share)}" for name, share in told) or "nothing"
    dropped = f", {moment.num_dropped} frames dropped" if moment.num_dropped else ""
    stretch = f"{moment.start_seconds:.1f}-{moment.end_seconds:.1f} s"
    return f"{stretch}: {ranked}   ({moment.delay_seconds:.2f} s late{dropped})"


class _Hook:
    """A command that is run for each class that comes in, for a class once at a time."""

    def __init__(self, command: str | None) -> None:
        self._command = command
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for running in self._running.values():
            running.wait()

    def run(self, label: int, moment: Moment) -> None:
        """Start the command for a class by number, unless it still runs for it from before."""
        if self._command is None:
            return
        name = moment.classes[label]
        if label in self._running and self._running[label].poll() is None:
            stderr().print(
                f"--hook still runs, so it is not run for {name!r} at {moment.end_seconds:.1f} s.",
                markup=False,
            )
            return
        told = {
            "DUALSTREAM_LABEL": name,
            "DUALSTREAM_PROBABILITY": f"{float(moment.probabilities[label]):.6f}",
            "DUALSTREAM_SECONDS": f"{moment.end_seconds:.3f}",
        }
        self._running[label] = subprocess.Popen(self._command, shell=True, env=os.environ | told)
