"""Output of every verb: results on stdout, problems and progress on stderr.

Progress of everything that lasts is a bar on a terminal, else a line now and then.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from dualstream.engine.train.run_folder import TrainProgress

SECONDS_BETWEEN_LINES = 30.0
"""Without a terminal."""

json_printed = False
"""Whether this command has printed its JSON object."""

HEADS = {
    "top1": "top-1 %",
    "top5": "top-5 %",
    "mean_class": "mean class %",
    "map": "mean AP %",
    "hit1": "hit@1 %",
}
"""Key of an accuracy in JSON -> head of its column."""


def print_json(value: object) -> None:
    """Print one JSON object on stdout and nothing else."""
    global json_printed
    json_printed = True
    print(json.dumps(value, indent=2, default=_plain))


def print_line(value: object) -> None:
    """Print one line on stdout at once: text as it is, anything else as JSON."""
    global json_printed
    if not isinstance(value, str):
        json_printed = True
        value = json.dumps(value, default=_plain)
    print(value, flush=True)


def stdout() -> Console:
    """Return the console for results."""
    from rich.console import Console

    return Console(highlight=False)


def stderr() -> Console:
    """Return the console for progress, problems and advice."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def percent(value: float) -> str:
    """Format a share 0..1 for tables: 0.7114 -> '71.1'."""
    return f"{100 * value:.1f}"


def _plain(value: Any) -> Any:
    """Turn numpy scalars, arrays and paths into what JSON has."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


@dataclass
class Pace:
    """Amount of work done and its rate; times are given from outside, in seconds of one clock.

    What an earlier run has done takes next to no time, so it counts as done but not for the rate:
    3 of 9 videos kept at once and 2 computed in 10 s leave 4 videos and 20 s.
    """

    start: float
    total: int = 0
    done: int = 0
    worked: int = 0
    """Done by this run."""
    seconds: float = 0.0
    """From the start, or the last kept part before any work, to the last update."""

    def update(self, done: int, total: int, now: float, *, is_kept: bool = False) -> None:
        """Set what is done of how much; `is_kept` where an earlier run did what is new in it."""
        added = done - self.done
        self.done, self.total = done, total
        if not is_kept:
            self.worked += added
        elif not self.worked:
            self.start = now
        self.seconds = now - self.start

    @property
    def rate(self) -> float | None:
        """Work in a second, None before there is any."""
        return self.worked / self.seconds if self.worked > 0 and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Time for the rest at the rate so far, None before there is one."""
        return None if self.rate is None else (self.total - self.done) / self.rate


class Progress:
    """Progress of one or more stages on stderr; a context manager.

        with Progress(advice="Go on with the same command.") as progress:
            for number, video in enumerate(videos, start=1):
                ...
                progress.update("check", number, len(videos), unit="videos")

    On a terminal each stage is a bar. In a file or a pipe it is a plain line when half a minute
    has passed since the last one, when `is_due` asks for one, and when the stage ends:

        check: 120 of 380 videos, 4.1 videos/s, 0:01:03 left

    Args:
        advice: printed after Ctrl-C.
        console: where to print; default is stderr.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        *,
        advice: str = "",
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self._advice = advice
        self._console = console or stderr()
        self._clock = clock
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TextColumn("left {task.fields[left]}"),
            console=self._console,
        )
        self._start = self._last_update = self._last_line = clock()
        self.paces: dict[str, Pace] = {}
        """Of each stage so far."""
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._bars.live.is_started:
            self._bars.stop()
        if kind is KeyboardInterrupt and self._advice:
            self._console.print(self._advice, soft_wrap=True, markup=False)

    @property
    def seconds(self) -> float:
        """Time since this was made."""
        return self._clock() - self._start

    def update(
        self,
        stage: str,
        done: int,
        total: int,
        *,
        unit: str,
        details: str = "",
        is_kept: bool = False,
        is_due: bool = False,
    ) -> None:
        """Show what is done of a stage.

        Args:
            stage: its name; a new name ends the stage before.
            done: of the whole stage, not since the last call.
            total: what `done` will be at the end.
            unit: what is counted, in the plural ("videos").
            details: more of interest, such as "loss 0.412".
            is_kept: what is new in `done` is of an earlier run and does not count for the rate.
            is_due: print a line now where there is no terminal.
        """
        now = self._clock()
        pace = self.paces.setdefault(stage, Pace(self._last_update))
        ends = done >= total and not pace.done >= pace.total > 0
        pace.update(done, total, now, is_kept=is_kept)
        self._last_update = now
        # Three digits: 1234.5 -> 1234, 12.34 -> 12.3, 0.1234 -> 0.123.
        digits = ".0f" if (pace.rate or 0) >= 100 else ".3g"
        rate = "" if pace.rate is None else f"{pace.rate:{digits}} {unit}/s"
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._bars.start()  # only now: not above an error that comes before
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, text="", left="")
            self._bars.update(
                self._tasks[stage],
                completed=done,
                total=total,
                text=f"{done}/{total} {unit}  {details or rate}",
                left=duration(pace.seconds_left),
            )
        elif is_due or ends or now - self._last_line >= SECONDS_BETWEEN_LINES:
            left = "" if pace.seconds_left is None else f"{duration(pace.seconds_left)} left"
            if done >= total:
                left = f"in {duration(pace.seconds)}"
            parts = filter(None, [f"{done} of {total} {unit}", details, rate, left])
            self._console.print(f"{stage}: {', '.join(parts)}", soft_wrap=True, markup=False)
            self._last_line = now


def show_training(progress: Progress, stage: str, training: TrainProgress) -> None:
    """Show where a training stands; without a terminal a line an epoch at least."""
    if training.phase != "train":
        name = stage if training.phase == "test" else f"{stage}, {training.phase}"
        unit = "descriptors" if training.phase == "codebook" else "videos"
        progress.update(name, training.batch, training.batches, unit=unit)
        return
    if training.batch == training.batches and not training.is_epoch_end:
        return  # a validation may follow, whose accuracy goes in the same line
    details = [f"epoch {training.epoch + 1}/{training.epochs}"]
    if training.train_loss is not None:
        details.append(f"loss {training.train_loss:.3f}")
    if training.held_out_top1 is not None:
        details.append(f"held out {percent(training.held_out_top1)}%")
    progress.update(
        stage,
        training.epoch * training.batches + training.batch,
        training.epochs * training.batches,
        unit="batches",
        details=", ".join(details),
        # Reading processes had to start, and a resumed run had its earlier epochs already.
        is_kept=stage not in progress.paces,
        is_due=training.is_epoch_end,
    )


def duration(seconds: float | None) -> str:
    """3725.4 -> '1:02:05'; None -> '-:--:--'."""
    if seconds is None:
        return "-:--:--"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
