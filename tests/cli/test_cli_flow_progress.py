"""Rate and time left of an extraction (the clock is a number)."""

import pytest

from dualstream.cli.flow_progress import FlowBar, Throughput, duration
from dualstream.flow import FlowJob, FlowOutcome


def jobs_of(*frames):
    return [FlowJob(f"{n}", "", num_frames=count) for n, count in enumerate(frames)]


def done(name, fields=0, status="done"):
    return FlowOutcome(str(name), status, fields, 0.0)


def test_frames_weigh_the_videos():
    throughput = Throughput.of(jobs_of(11, 31, 61), start=100.0)
    assert (throughput.left, throughput.pairs_per_second, throughput.seconds_left) == (
        100,
        None,
        None,
    )
    assert throughput.add(done(0, 10), 105.0) == 10
    assert (throughput.left, throughput.pairs_per_second, throughput.seconds_left) == (90, 2, 45)
    assert throughput.add(done(2, 60), 110.0) == 60
    assert (throughput.left, throughput.pairs_per_second) == (30, 7)
    assert throughput.seconds_left == pytest.approx(30 / 7)
    throughput.add(done(1, 30), 120.0)
    assert (throughput.left, throughput.seconds_left, throughput.pairs_per_second) == (0, 0, 5)


def test_without_frames_videos_count_alike():
    throughput = Throughput.of(jobs_of(None, 31, 61, None), start=0.0)
    throughput.add(done(1, 30), 6.0)
    assert (throughput.left, throughput.seconds_left, throughput.pairs_per_second) == (3, 18, 5)


def test_kept_videos_do_not_make_the_rest_look_fast():
    throughput = Throughput.of(jobs_of(*[11] * 9), start=0.0)
    for name in range(3):
        throughput.add(done(name, 10, "kept"), 0.5)
    assert (throughput.pairs_per_second, throughput.seconds_left) == (None, None)
    for name in (3, 4):
        throughput.add(done(name, 10), 5.5 + 5 * (name - 3))
    assert (throughput.pairs_per_second, throughput.seconds_left) == (2, 20)


def test_failed_videos_take_their_time_and_give_no_field():
    throughput = Throughput.of(jobs_of(11, 11, 11), start=0.0)
    throughput.add(done(0, 0, "failed"), 4.0)
    assert (throughput.pairs_per_second, throughput.seconds_left) == (None, 8)
    throughput.add(done(1, 10), 5.0)
    assert (throughput.pairs_per_second, throughput.seconds_left) == (2, 2.5)


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
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_the_bar_shows_rate_and_time_left(capsys):
    with FlowBar("flow (dis)", jobs_of(11, 31)) as bar:
        bar.add(done(0, 10))
        bar.add(done(1, 30))
    shown = capsys.readouterr().err
    assert "flow (dis)" in shown
    assert "2/2 videos" in shown
    assert "pairs/s" in shown
    assert "left 0:00:00" in shown
    assert [outcome.name for outcome in bar.outcomes] == ["0", "1"]


def test_ctrl_c_says_how_to_go_on(capsys):
    with pytest.raises(KeyboardInterrupt), FlowBar("flow", jobs_of(11)):
        raise KeyboardInterrupt
    assert "Go on with the same command" in capsys.readouterr().err
