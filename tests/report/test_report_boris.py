"""Projects of BORIS: written, and read back by the rules that BORIS reads them by."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import moving_square
from tests.timed_video import video_at

from dualstream.errors import InputError, VideoError, VideoNotFoundError
from dualstream.report.timeline_files import write_timeline
from dualstream.scores.timeline import BACKGROUND, Segment
from dualstream.video import probe

SEGMENTS = (
    Segment(0, 0.2, "läuft", 0.75),
    Segment(0.2, 0.28, "sitzt", 0.5),
    Segment(0.28, 0.4, "läuft", 0.9),
    Segment(0.4, 0.44, "läuft", 0.875),
)

PROJECT_KEYS = {
    *("time_format", "project_date", "project_name", "project_description"),
    *("project_format_version", "subjects_conf", "behaviors_conf", "observations"),
    *("behavioral_categories", "behavioral_categories_config", "independent_variables"),
    *("coding_map", "behaviors_coding_map", "converters"),
}
"""`EMPTY_PROJECT` of BORIS 9.12.3, config.py."""

BEHAVIOUR_KEYS = {
    *("type", "key", "code", "description", "color", "category", "modifiers", "excluded"),
    "coding map",
}
"""`behavioursFields`, ibid."""

OBSERVATION_KEYS = {
    *("file", "type", "date", "description", "time offset", "events"),
    *("observation time interval", "independent_variables", "visualize_spectrogram"),
    *("visualize_waveform", "media_creation_date_as_offset", "media_scan_sampling_duration"),
    *("image_display_duration", "close_behaviors_between_videos", "media_info"),
}
"""`create_observations`, observation_operations.py."""


def read_project(path: Path) -> dict[str, Any]:
    """A project as `open_project_json` gives it: ASCII JSON, times of three decimals, sorted."""
    project: dict[str, Any] = json.loads(path.read_text(encoding="ascii"))
    for observation in project["observations"].values():
        for event in observation["events"]:
            event[0] = Decimal(event[0]).quantize(Decimal(".001"))
        observation["events"].sort(key=lambda event: event[:3])
    return project


def states(observation: dict[str, Any]) -> list[tuple[str, Decimal, Decimal]]:
    """(code, start, stop) of each state: of a code's events, every second one is a stop."""
    begun: dict[str, Decimal] = {}
    found = []
    for time, subject, code, modifier, _, frame in observation["events"]:
        assert (subject, modifier, frame) == ("", "", "NA")
        if code in begun:
            found.append((code, begun.pop(code), time))
        else:
            begun[code] = time
    assert not begun  # else BORIS says UNPAIRED
    return found


def test_segments_come_back(tmp_path: Path, tiny_video: Callable[..., Path]) -> None:
    tiny_video("videos/a.mp4")
    path = write_timeline(
        tmp_path / "studie.boris",
        {str(tmp_path / "videos/a.mp4"): SEGMENTS},
        classes=("sitzt", BACKGROUND, "läuft", "springt|hüpft "),
    )
    project = read_project(path)
    assert project.keys() == PROJECT_KEYS
    assert project["project_format_version"] == "7.0"
    assert project["project_name"] == "studie"
    ethogram = project["behaviors_conf"]
    assert [(row["key"], row["code"]) for row in ethogram.values()] == [
        ("a", "sitzt"),
        ("b", "läuft"),
        ("c", "springt/hüpft"),
    ]
    assert list(ethogram) == ["0", "1", "2"]
    assert all(row.keys() == BEHAVIOUR_KEYS for row in ethogram.values())
    assert {row["type"] for row in ethogram.values()} == {"State event"}
    (observation,) = project["observations"].values()
    assert observation.keys() == OBSERVATION_KEYS
    assert observation["file"] == {"1": ["videos/a.mp4"]} | {str(n): [] for n in range(2, 9)}
    assert observation["media_info"] == {
        "length": {"videos/a.mp4": 0.48},
        "fps": {"videos/a.mp4": 25.0},
        "hasVideo": {"videos/a.mp4": True},
        "hasAudio": {"videos/a.mp4": False},
        "offset": {"1": 0.0},
        "display": {"videos/a.mp4": "Nothing"},
    }
    second = Decimal
    assert states(observation) == [
        ("läuft", second("0.000"), second("0.200")),
        ("sitzt", second("0.200"), second("0.280")),
        ("läuft", second("0.280"), second("0.400")),
        ("läuft", second("0.400"), second("0.440")),
    ]
    assert [event[4] for event in observation["events"] if event[4]] == [
        "confidence 0.750",
        "confidence 0.500",
        "confidence 0.900",
        "confidence 0.875",
    ]


def test_videos_of_one_name_are_told_apart(tmp_path: Path, tiny_video: Callable[..., Path]) -> None:
    videos = [str(tiny_video(name)) for name in ("a/x.mp4", "b/x.mp4", "b/y.mp4")]
    path = write_timeline(
        tmp_path / "b" / "all.boris",
        dict.fromkeys(videos[:2], SEGMENTS[:1]) | {videos[2]: ()},
    )
    observations = read_project(path)["observations"]
    assert list(observations) == [videos[0], videos[1], "y.mp4"]
    assert [entry["file"]["1"] for entry in observations.values()] == [
        [videos[0]],  # not below the project's folder
        ["x.mp4"],
        ["y.mp4"],
    ]
    assert [len(entry["events"]) for entry in observations.values()] == [2, 2, 0]


def test_times_count_from_the_first_frame(tmp_path: Path) -> None:
    """Clocks of transport streams start anywhere; players show that as 0."""
    video = video_at(tmp_path / "a.ts", moving_square(12, (48, 64)), range(500, 548, 4))
    zero = probe(video).start_seconds_from_header
    assert zero == pytest.approx(5, abs=0.2)
    path = write_timeline(tmp_path / "a.boris", {str(video): (Segment(0, 0.24, "run"),)})
    (observation,) = read_project(path)["observations"].values()
    assert states(observation) == [("run", Decimal("0.000"), Decimal("0.240"))]


def test_only_36_classes_have_a_key(tmp_path: Path) -> None:
    classes = [f"class {number}" for number in range(38)]
    path = write_timeline(tmp_path / "a.boris", {}, classes=classes)
    keys = [row["key"] for row in read_project(path)["behaviors_conf"].values()]
    assert len(set(keys[:36])) == 36
    assert keys[34:] == ["8", "9", "", ""]


def test_what_a_project_cannot_hold(tmp_path: Path, tiny_video: Callable[..., Path]) -> None:
    path, video = tmp_path / "a.boris", str(tiny_video())
    with pytest.raises(InputError, match=r"two segments of 'run' overlap at 0\.1 s"):
        write_timeline(path, {video: (Segment(0, 0.2, "run"), Segment(0.1, 0.3, "run"))})
    with pytest.raises(InputError, match=r"\['a\|b', 'a/b'\] have the same name, 'a/b'"):
        write_timeline(path, {}, classes=("a|b", "a/b"))
    with pytest.raises(VideoNotFoundError):
        write_timeline(path, {str(tmp_path / "gone.mp4"): SEGMENTS})
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(VideoError):
        write_timeline(path, {str(tmp_path / "empty.mp4"): SEGMENTS})
    assert not path.exists()
