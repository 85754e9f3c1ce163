"""Progress on a terminal and in a log; the clock is a number that the tests set."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import pytest
from rich.console import Console

from dualstream.cli.output import Pace, Progress, duration, show_training
from dualstream.engine.train.run_folder import TrainProgress


@dataclass
class Log:
    """A file in place of stderr, and a clock."""

    file: io.StringIO = field(default_factory=io.StringIO)
    now: float = 100.0

    def progress(self, *, is_terminal: bool = False, advice: str = "") -> Progress:
        console = Console(file=self.file, force_terminal=is_terminal, width=120, highlight=False)
        return Progress(advice=advice, console=console, clock=lambda: self.now)

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


def test_a_line_every_half_minute_and_at_the_end() -> None:
    log = Log()
    with log.progress() as progress:
        for done in range(1, 101):
            log.now += 0.8
            progress.update("test", done, 100, unit="videos")
        progress.update("test", 100, 100, unit="videos")
    assert log.lines == [
        "test: 38 of 100 videos, 1.25 videos/s, 0:00:50 left",
        "test: 76 of 100 videos, 1.25 videos/s, 0:00:19 left",
        "test: 100 of 100 videos, 1.25 videos/s, in 0:01:20",
    ]


def test_stages_begin_where_the_one_before_ended() -> None:
    log = Log()
    with log.progress() as progress:
        log.now += 10
        progress.update("render", 2, 2, unit="videos")
        log.now += 4
        progress.update("flow", 2, 2, unit="videos", details="of 20 pairs")
    assert log.lines == [
        "render: 2 of 2 videos, 0.2 videos/s, in 0:00:10",
        "flow: 2 of 2 videos, of 20 pairs, 0.5 videos/s, in 0:00:04",
    ]


def test_no_line_before_there_is_work_and_none_is_broken(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Progress() as progress:
        progress.update("x" * 200, 1, 1, unit="[videos]")
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("x" * 200 + ": 1 of 1 [videos], ")
    with Progress():
        pass
    assert capsys.readouterr().err == ""


def training(epoch: int, batch: int, **known: float | bool) -> TrainProgress:
    return TrainProgress(epoch=epoch, epochs=3, batch=batch, batches=4, **known)  # type: ignore[arg-type]


def test_a_training_gives_a_line_an_epoch() -> None:
    log = Log()
    with log.progress() as progress:
        for epoch in range(3):
            for batch in range(1, 5):
                log.now += 1
                show_training(progress, "train", training(epoch, batch, train_loss=2 - epoch / 2))
            log.now += 1  # validation
            end = {"train_loss": 1.9 - epoch / 2, "held_out_top1": 0.25 + epoch / 4}
            show_training(progress, "train", training(epoch, 4, is_epoch_end=True, **end))
    start = "train: {} of 12 batches, epoch {}/3, loss {}, held out {}%, {}"
    assert log.lines == [
        start.format(4, 1, "1.900", "25.0", "0.75 batches/s, 0:00:11 left"),
        start.format(8, 2, "1.400", "50.0", "0.778 batches/s, 0:00:05 left"),
        start.format(12, 3, "0.900", "75.0", "0.786 batches/s, in 0:00:14"),
    ]


def test_long_epochs_give_a_line_every_half_minute() -> None:
    log = Log()
    with log.progress() as progress:
        for batch in range(1, 4):
            log.now += 40
            show_training(progress, "train", training(0, batch, train_loss=1.0))
    assert log.lines == [
        "train: 1 of 12 batches, epoch 1/3, loss 1.000",
        "train: 2 of 12 batches, epoch 1/3, loss 1.000, 0.025 batches/s, 0:06:40 left",
        "train: 3 of 12 batches, epoch 1/3, loss 1.000, 0.025 batches/s, 0:06:00 left",
    ]


def test_a_resumed_training_counts_only_its_own_batches() -> None:
    log = Log()
    with log.progress() as progress:
        show_training(progress, "train", training(2, 1))
        log.now += 5
        show_training(progress, "train", training(2, 2))
        assert progress.paces["train"].rate == 0.2
        assert progress.paces["train"].seconds_left == 10


def test_frozen_stages_are_a_stage_of_their_own() -> None:
    log = Log()
    with log.progress() as progress:
        log.now += 2
        show_training(progress, "train", TrainProgress(0, 3, 6, 6, phase="frozen stages"))
    assert log.lines == ["train, frozen stages: 6 of 6 videos, 3 videos/s, in 0:00:02"]


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    log = Log()
    with log.progress(is_terminal=True) as progress:
        log.now += 2
        progress.update("prepare", 4, 4, unit="videos", details="2 broken")
        log.now += 4
        progress.update("test", 2, 4, unit="videos")
    shown = log.file.getvalue()
    assert "━" in shown
    assert "4/4 videos  2 broken" in shown
    assert "2/4 videos  0.5 videos/s" in shown
    assert "left 0:00:04" in shown


def test_a_terminal_that_cannot_draw_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    log = Log()
    with log.progress(is_terminal=True) as progress:
        log.now += 2
        progress.update("prepare", 4, 4, unit="videos")
    assert log.lines == ["prepare: 4 of 4 videos, 2 videos/s, in 0:00:02"]


@pytest.mark.parametrize("is_terminal", [False, True])
def test_ctrl_c_says_how_to_go_on(is_terminal: bool) -> None:
    log = Log()
    with (
        pytest.raises(KeyboardInterrupt),
        log.progress(is_terminal=is_terminal, advice="Go on with: the same [command]"),
    ):
        raise KeyboardInterrupt
    assert log.lines == ["Go on with: the same [command]"]


def test_what_was_kept_does_not_make_the_rest_look_fast() -> None:
    pace = Pace(start=0.0)
    for number in range(1, 4):
        pace.update(number, 9, now=0.5, is_kept=True)
    assert (pace.rate, pace.seconds_left) == (None, None)
    for number in (4, 5):
        pace.update(number, 9, now=0.5 + 5 * (number - 3))
    assert (pace.rate, pace.seconds_left) == (0.2, 20)
    pace.update(7, 9, now=10.5, is_kept=True)
    assert (pace.rate, pace.seconds_left) == (0.2, 10)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-:--:--"),
        (0, "0:00:00"),
        (59.6, "0:01:00"),
        (3725.4, "1:02:05"),
        (360000, "100:00:00"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
