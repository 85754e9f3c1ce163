"""Files of timelines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dualstream.errors import InputError
from dualstream.report.timeline_files import write_timeline
from dualstream.scores.timeline import Segment

SEGMENTS = (Segment(0, 1.5, "run, fast", 0.75), Segment(3661.5, 3662, "sit", 0.5))


def test_a_table(tmp_path: Path) -> None:
    path = write_timeline(tmp_path / "a.csv", {"a.mp4": SEGMENTS, "b.mp4": (), "c.mp4": SEGMENTS})
    assert path.read_text() == (
        "source,label,start_seconds,end_seconds,confidence\n"
        'a.mp4,"run, fast",0,1.5,0.75\n'
        "a.mp4,sit,3661.5,3662,0.5\n"
        'c.mp4,"run, fast",0,1.5,0.75\n'
        "c.mp4,sit,3661.5,3662,0.5\n"
    )


def test_json(tmp_path: Path) -> None:
    path = write_timeline(tmp_path / "new" / "a.json", {"a.mp4": SEGMENTS[:1], "b.mp4": ()})
    assert json.loads(path.read_text()) == {
        "a.mp4": [{"label": "run, fast", "start": 0, "end": 1.5, "confidence": 0.75}],
        "b.mp4": [],
    }


def test_subtitles(tmp_path: Path) -> None:
    path = write_timeline(tmp_path / "a.srt", {"a.mp4": SEGMENTS})
    assert path.read_text() == (
        "1\n00:00:00,000 --> 00:00:01,500\nrun, fast 75%\n\n"
        "2\n01:01:01,500 --> 01:01:02,000\nsit 50%\n\n"
    )


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.csv, \.json, \.srt or \.boris"):
        write_timeline(tmp_path / "a.txt", {"a.mp4": SEGMENTS})
    with pytest.raises(InputError, match="subtitles are of one video, here are 2"):
        write_timeline(tmp_path / "a.srt", {"a.mp4": SEGMENTS, "b.mp4": ()})
    assert not list(tmp_path.iterdir())
