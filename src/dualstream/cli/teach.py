"""`dualstream teach`: one's own actions, from a few marked intervals."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dualstream.cli.options import Device, Enter, Json, Leave
from dualstream.cli.output import Progress, print_json
from dualstream.errors import InputError

if TYPE_CHECKING:
    from dualstream.engine.teach.feature_files import TeachProgress
    from dualstream.engine.teach.teacher import Teacher

teach = typer.Typer(
    help="Teach your own actions: add videos, mark some intervals, train, review, train again.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Folder = Annotated[Path, typer.Argument(help="Folder of the project.", show_default=False)]
Video = Annotated[
    str, typer.Argument(help="Name of a video of the project, or its path.", show_default=False)
]
Start = Annotated[
    str, typer.Argument(help="Seconds from the first frame, or 1:02.5.", show_default=False)
]
End = Annotated[str, typer.Argument(help="The same, after the start.", show_default=False)]


def _opened(folder: Path) -> Teacher:
    """A project that is there."""
    from dualstream.engine.teach.project import read_project
    from dualstream.engine.teach.teacher import Teacher

    read_project(folder)
    return Teacher(folder)


def seconds_of(text: str) -> float:
    """Read a time: `62.5`, `1:02.5` or `0:01:02.5`."""
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d+)?)", text.strip())
    if match is None:
        raise InputError(f"A time is seconds (62.5) or minutes and seconds (1:02.5), got {text!r}.")
    hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


@teach.command()
def add(
    folder: Folder,
    videos: Annotated[
        list[str], typer.Argument(help="Video files, or folders of them.", show_default=False)
    ],
    json: Json = False,
) -> None:
    """Add videos to a project, which is made if there is none. They stay where they are."""
    from dualstream.cli.predict import list_files
    from dualstream.engine.teach.teacher import Teacher

    files = list_files(videos)
    teacher = Teacher(folder)
    added = [teacher.add_video(file) for file in files]
    if json:
        print_json({"videos": [video.entry() for video in added]})
        return
    for video in added:
        print(f"{video.name}: {video.duration_seconds:.1f} s")
    print(f"Next: dualstream teach mark {folder} {added[0].name} START END LABEL")


@teach.command()
def remove(folder: Folder, video: Video, json: Json = False) -> None:
    """Take a video and its marks out of a project. The file stays."""
    teacher = _opened(folder)
    name = teacher.video(video).name
    teacher.remove_video(name)
    _say(f"{name} and its marks are no part of {folder} any more.", {"removed": name}, json)


@teach.command()
def mark(
    folder: Folder,
    video: Video,
    start: Start,
    end: End,
    label: Annotated[
        str,
        typer.Argument(
            help="The action; 'none of these' for what is none of them.", show_default=False
        ),
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Erase other labels in that time first.")
    ] = False,
    json: Json = False,
) -> None:
    """Mark that an action is there from one time to another."""
    new = _opened(folder).mark(video, seconds_of(start), seconds_of(end), label, replace=replace)
    _say(str(new), {"mark": new.entry()}, json)


@teach.command()
def unmark(
    folder: Folder,
    video: Video,
    start: Start,
    end: End,
    label: Annotated[
        str | None, typer.Argument(help="The only one to erase.  [default: all]")
    ] = None,
    json: Json = False,
) -> None:
    """Erase the marks in a stretch of a video; what reaches beyond it stays."""
    touched = _opened(folder).unmark(video, seconds_of(start), seconds_of(end), label)
    _say(f"{touched} marks erased or cut.", {"touched": touched}, json)


@teach.command()
def done(
    folder: Folder,
    videos: Annotated[list[str], typer.Argument(help="Videos of the project.", show_default=False)],
    undo: Annotated[bool, typer.Option("--undo", help="Say that they are not.")] = False,
    json: Json = False,
) -> None:
    """Say that all actions of a video are marked: its other time is none of them."""
    teacher = _opened(folder)
    changed = [teacher.set_reviewed(video, not undo) for video in videos]
    state = "not marked completely" if undo else "marked completely"
    names = ", ".join(video.name for video in changed)
    _say(f"{names}: {state}.", {"videos": [video.entry() for video in changed]}, json)


@teach.command(name="import")
def import_(
    folder: Folder,
    file: Annotated[
        Path,
        typer.Argument(
            help="A table with path,start_seconds,end_seconds,label, or what BORIS or ELAN "
            "exports; or a folder of them.",
            show_default=False,
        ),
    ],
    format: Annotated[
        Literal["auto", "intervals", "boris", "elan"], typer.Option(help="Form of the file.")
    ] = "auto",
    json: Json = False,
) -> None:
    """Add the marks of another program's file to a project."""
    report = _opened(folder).import_marks(file, format=format)
    if json:
        print_json(report.entry())
        return
    print(f"{report.added} marks added.")
    for problem in report.problems:
        print(f"{problem.where}: {problem.what}. {problem.remedy}")


@teach.command(name="set")
def set_(
    folder: Folder,
    labels: Annotated[
        Literal["one", "several"] | None,
        typer.Option(help="Whether one action is there at a time, or several."),
    ] = None,
    rgb: Annotated[
        str | None, typer.Option(help="Network that sees frames: published weights or a run.")
    ] = None,
    motion: Annotated[
        str | None, typer.Option(help="'histograms', or the run of a flow stream.")
    ] = None,
    window: Annotated[float | None, typer.Option(help="Seconds of a window.")] = None,
    step: Annotated[
        float | None, typer.Option(help="Seconds from a window's start to the next one's.")
    ] = None,
    side: Annotated[
        int | None, typer.Option(help="Pixels of the square that published weights see.")
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of a step that they see.")] = None,
    json: Json = False,
) -> None:
    """Change the settings of a project, which is made if there is none; or print them."""
    from dualstream.engine.teach.teacher import Teacher

    given = {
        "labels": labels,
        "rgb": rgb,
        "motion": motion,
        "window_seconds": window,
        "step_seconds": step,
        "side": side,
        "frames": frames,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    teacher = Teacher(folder) if changes else _opened(folder)
    if changes:
        teacher = Teacher(folder, replace(teacher.settings, **changes))
    values = teacher.settings.entry()
    _say("\n".join(f"{name}: {value}" for name, value in values.items()), values, json)


@teach.command()
def train(folder: Folder, device: Device = "cpu", json: Json = False) -> None:
    """Learn from the marks and propose a timeline for every video."""
    from dualstream.cli.teach_tables import print_report

    teacher = _opened(folder)
    advice = "Go on with the same command: what is computed is kept."
    with Progress(advice=advice) as progress:
        report = teacher.train(device=device, listener=partial(_show, progress))
    if json:
        print_json({"folder": str(folder), **report.entry()})
    else:
        print_report(report, folder)


@teach.command()
def timeline(
    folder: Folder,
    videos: Annotated[
        list[str] | None, typer.Argument(help="Videos of the project.  [default: all]")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write to a .csv, .json or .boris (for BORIS), or to the .srt of one."),
    ] = None,
    enter: Enter = None,
    leave: Leave = None,
    json: Json = False,
) -> None:
    """Print the proposed timeline of videos, or write it to a file."""
    from dualstream.cli.teach_tables import print_timelines
    from dualstream.report.timeline_files import write_timeline

    teacher, thresholds = _opened(folder), _thresholds(enter, leave)
    project = teacher.project()
    chosen = [project.video(v) for v in videos] if videos else project.videos
    found = [teacher.timeline(video.name, **thresholds) for video in chosen]
    if out is not None:
        files = {str(project.file_of(v)): t.segments for v, t in zip(chosen, found, strict=True)}
        write_timeline(out, files, classes=teacher.classes)
    if json:
        print_json({"videos": [one.entry() for one in found]})
    elif out is not None:
        print(out)
    else:
        print_timelines(found)


@teach.command()
def review(
    folder: Folder,
    most: Annotated[int, typer.Option(help="Windows to print.", min=1)] = 10,
    json: Json = False,
) -> None:
    """Print the windows that are least certain: those to look at and mark next."""
    from dualstream.cli.teach_tables import print_suggestions

    found = _opened(folder).review(most=most)
    if json:
        print_json({"windows": [one.entry() for one in found]})
    else:
        print_suggestions(found, folder)


@teach.command()
def predict(
    folder: Folder,
    videos: Annotated[
        list[str],
        typer.Argument(help="Video files that are no part of the project.", show_default=False),
    ],
    enter: Enter = None,
    leave: Leave = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Find the taught actions in other videos."""
    from dualstream.cli.predict import list_files
    from dualstream.cli.teach_tables import print_timelines

    teacher, files = _opened(folder), list_files(videos)
    thresholds = _thresholds(enter, leave)
    found = []
    with Progress() as progress:
        for file in files:
            show = partial(_show, progress, of=file)
            found.append(teacher.predict(file, device=device, listener=show, **thresholds))
    if json:
        print_json({"videos": [one.entry() for one in found]})
    else:
        print_timelines(found)


@teach.command()
def show(folder: Folder, json: Json = False) -> None:
    """Print the videos and marks of a project, and how its last training did."""
    from dualstream.cli.teach_tables import print_project

    teacher = _opened(folder)
    project, report = teacher.project(), teacher.report
    if json:
        print_json(
            {
                "folder": str(folder),
                "settings": project.settings.entry(),
                "videos": [video.entry() for video in project.videos],
                "marks": [one.entry() for one in project.marks],
                "report": None if report is None else report.entry(),
                "is_stale": teacher.is_stale,
            }
        )
    else:
        print_project(project, report, is_stale=teacher.is_stale)


def _show(progress: Progress, training: TeachProgress, *, of: str = "") -> None:
    """Show how far a training is, or the prediction `of` a file."""
    stages = {"features": (of or "features", "seconds"), "fit": ("learn", "parts")}
    if training.phase in stages and training.total:
        stage, unit = stages[training.phase]
        details = "" if of else training.video
        progress.update(stage, training.done, training.total, unit=unit, details=details)


def _thresholds(enter: float | None, leave: float | None) -> Any:
    given = {"enter": enter, "leave": leave}
    return {name: value for name, value in given.items() if value is not None}


def _say(text: str, value: object, json: bool) -> None:
    if json:
        print_json(value)
    else:
        print(text)
