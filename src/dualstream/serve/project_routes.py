"""`/v1/projects`: one's own actions, marked in one's own videos, taught and found."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, JSONResponse, Response

from dualstream.errors import (
    CheckpointError,
    DiskError,
    DualstreamError,
    UnknownNameError,
)
from dualstream.serve.documents import ErrorDocument
from dualstream.serve.intake import FORM_BYTES, drain, receive, too_large
from dualstream.serve.job_routes import OTHER_TYPE, VIDEO_TYPES
from dualstream.serve.json_body import json_body, read_json
from dualstream.serve.messages import AddToProject
from dualstream.serve.project_documents import (
    MarkRequest,
    ProjectDocument,
    ProjectsDocument,
    ReviewedRequest,
    SettingsRequest,
    SuggestionsDocument,
    TrainingDocument,
    UnmarkRequest,
)
from dualstream.serve.refusal import RefusedError, disk_refusal
from dualstream.serve.service import Service
from dualstream.serve.worker_process import WorkerDiedError

if TYPE_CHECKING:
    from dualstream.engine.teach.teacher import Teacher

PROJECT_FILE, MARKS_FILE = "project.json", "intervals.csv"
"""As `engine.teach.project` has them."""
VIDEOS = "videos"
"""Folder in a project of the videos that were uploaded to it."""

Name = Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _-]{0,59}$")]
Video = Annotated[str, Query(min_length=1, max_length=200)]
Share = Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)]
Value = TypeVar("Value")


def _error(text: str) -> dict[str, Any]:
    return {"model": ErrorDocument, "description": text}


_ERRORS: dict[int | str, dict[str, Any]] = {
    404: _error("No such project or video."),
    409: _error("Not trained yet, or being trained."),
    413: _error("Too large."),
    422: _error("A request that cannot be carried out; the message says why."),
}

router = APIRouter(prefix="/v1/projects", tags=["teach"])


def can_teach() -> bool:
    """Whether this dualstream has the functions that teach."""
    try:
        return importlib.util.find_spec("dualstream.engine.teach.teacher") is not None
    except ModuleNotFoundError:
        return False


def _folder(request: Request, name: str) -> Path:
    service: Service = request.app.state.service
    return service.settings.folder / "projects" / name


@contextmanager
def _saying(folder: Path) -> Iterator[None]:
    """Turn errors of teaching into refusals."""
    try:
        yield
    except RefusedError:
        raise
    except DiskError as error:
        raise disk_refusal(error) from error
    except DualstreamError as error:
        text = str(error).replace(str(folder), folder.name)
        if isinstance(error, UnknownNameError):
            raise RefusedError("not-found", text) from error
        if isinstance(error, CheckpointError):
            raise RefusedError("conflict", text) from error
        raise RefusedError("invalid", text) from error


async def _with_teacher(request: Request, name: str, work: Callable[[Teacher], Value]) -> Value:
    """Do something with a project that is there, in a thread."""
    folder = _folder(request, name)
    if not can_teach() or not (folder / PROJECT_FILE).is_file():
        raise RefusedError("not-found", f"There is no project {name!r}.")

    def doing() -> Value:
        from dualstream.engine.teach.teacher import Teacher

        with _saying(folder):
            return work(Teacher(folder))

    return await asyncio.to_thread(doing)


async def _document(request: Request, name: str) -> Response:
    """The project as it is now."""
    document = await _with_teacher(request, name, _described)
    training = request.app.state.trainings.of(_folder(request, name))
    return JSONResponse({"name": name, **document, "training": asdict(training)})


def _described(teacher: Teacher) -> dict[str, Any]:
    project, report = teacher.project(), teacher.report
    return {
        "settings": project.settings.entry(),
        "videos": [
            {
                "name": video.name,
                "seconds": video.duration_seconds,
                "reviewed": video.is_reviewed,
            }
            for video in project.videos
        ],
        "marks": [mark.entry() for mark in project.marks],
        "classes": list(teacher.classes),
        "trained": report is not None,
        "stale": teacher.is_stale,
        "report": None if report is None else report.entry(),
    }


@router.get("")
async def projects(request: Request) -> ProjectsDocument:
    """Return the names of all projects."""
    folder = _folder(request, "")
    there = sorted(path.parent.name for path in folder.glob(f"*/{PROJECT_FILE}"))
    return ProjectsDocument(projects=there, available=can_teach())


@router.get("/{name}", response_model=ProjectDocument, responses=_ERRORS)
async def project(request: Request, name: Name) -> Response:
    """Return a project: its videos, marks, and what came of the last training."""
    return await _document(request, name)


@router.put(
    "/{name}", response_model=ProjectDocument, responses=_ERRORS, **json_body(SettingsRequest)
)
async def make_project(request: Request, name: Name) -> Response:
    """Make a project where there is none, and change its settings."""
    if not can_teach():
        raise RefusedError("not-found", "This dualstream cannot teach.")
    asked = await read_json(request, SettingsRequest)
    folder = _folder(request, name)

    def make() -> None:
        from dualstream.engine.teach.teacher import Teacher

        with _saying(folder):
            teacher = Teacher(folder)
            changes = asked.model_dump(exclude_none=True)
            if changes:
                Teacher(folder, replace(teacher.settings, **changes))

    await asyncio.to_thread(make)
    return await _document(request, name)


@router.post(
    "/{name}/videos",
    response_model=ProjectDocument,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "properties": {"file": {"type": "string", "format": "binary"}},
                    }
                }
            },
        }
    },
    responses={
        **_ERRORS,
        408: _error("The client fell silent."),
        415: _error("Not a form."),
        429: _error("Too many videos come in."),
        507: _error("The disk is full."),
    },
)
async def add_video(request: Request, name: Name) -> Response:
    """Add a video to a project, as the file of a form; it is kept with the project."""
    service: Service = request.app.state.service
    most = service.settings.limits.upload_bytes
    try:
        await _with_teacher(request, name, lambda teacher: None)
        if int(request.headers.get("content-length", "0")) > most + FORM_BYTES:
            raise too_large(most)
        await _add(request, service, _folder(request, name))
    except RefusedError:
        await drain(request, most_bytes=most)
        raise
    return await _document(request, name)


async def _add(request: Request, service: Service, folder: Path) -> None:
    kind = request.headers.get("content-type", "")
    most = service.settings.limits.upload_bytes
    with service.place() as coming:
        path, name = await receive(request.stream(), kind, coming, most_bytes=most)
        safe = re.sub(r"[^\w. ()-]", "_", name).lstrip(". ") or "video"
        target = folder / VIDEOS / safe
        number = 1
        while target.exists():
            number += 1
            target = target.with_name(f"{Path(safe).stem} ({number}){Path(safe).suffix}")
        target.parent.mkdir(exist_ok=True)
        try:
            os.replace(path, target)
            order = AddToProject(
                service.worker.next_number(),
                str(target.resolve()),
                target.name,
                project=str(folder),
            )
            await service.worker.carry_out(order)
        except WorkerDiedError as error:
            target.unlink(missing_ok=True)
            text = f"Looking at {name!r} made the worker process die."
            raise RefusedError("video", text) from error
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        finally:
            shutil.rmtree(coming, ignore_errors=True)


@router.delete("/{name}/videos", response_model=ProjectDocument, responses=_ERRORS)
async def remove_video(request: Request, name: Name, video: Video) -> Response:
    """Take a video and its marks out of a project; one that was uploaded is removed."""

    def remove(teacher: Teacher) -> None:
        known = teacher.project()
        file = known.file_of(known.video(video))
        teacher.remove_video(video)
        if file.parent == (teacher.folder / VIDEOS).absolute():
            file.unlink(missing_ok=True)

    await _with_teacher(request, name, remove)
    return await _document(request, name)


@router.get(
    "/{name}/video",
    response_class=FileResponse,
    responses={
        200: {"content": {kind: {} for kind in (*VIDEO_TYPES.values(), OTHER_TYPE)}},
        206: {"description": "A part of it."},
        416: {"description": "There is no such part."},
        **_ERRORS,
    },
)
async def project_video(request: Request, name: Name, video: Video) -> Response:
    """Return a video of a project, whole or in parts, for players."""

    def find(teacher: Teacher) -> Path:
        known = teacher.project()
        return known.checked_file(known.video(video))

    path = await _with_teacher(request, name, find)
    kind = VIDEO_TYPES.get(path.suffix.lower(), OTHER_TYPE)
    return FileResponse(path, media_type=kind, headers={"cache-control": "private"})


@router.post(
    "/{name}/marks", response_model=ProjectDocument, responses=_ERRORS, **json_body(MarkRequest)
)
async def mark(request: Request, name: Name) -> Response:
    """Mark that an action is there; it is joined with marks of its label that it touches."""
    asked = await read_json(request, MarkRequest)
    await _with_teacher(
        request,
        name,
        lambda teacher: teacher.mark(
            asked.video, asked.start, asked.end, asked.label, replace=asked.replace
        ),
    )
    return await _document(request, name)


@router.post(
    "/{name}/unmark", response_model=ProjectDocument, responses=_ERRORS, **json_body(UnmarkRequest)
)
async def unmark(request: Request, name: Name) -> Response:
    """Erase marks in a stretch of a video; what reaches beyond it stays."""
    asked = await read_json(request, UnmarkRequest)
    await _with_teacher(
        request,
        name,
        lambda teacher: teacher.unmark(asked.video, asked.start, asked.end, asked.label),
    )
    return await _document(request, name)


@router.post(
    "/{name}/reviewed",
    response_model=ProjectDocument,
    responses=_ERRORS,
    **json_body(ReviewedRequest),
)
async def reviewed(request: Request, name: Name) -> Response:
    """Say whether all actions of a video are marked: its other time is then none of them."""
    asked = await read_json(request, ReviewedRequest)
    await _with_teacher(
        request, name, lambda teacher: teacher.set_reviewed(asked.video, asked.reviewed)
    )
    return await _document(request, name)


@router.post(
    "/{name}/training", response_model=TrainingDocument, status_code=202, responses=_ERRORS
)
async def train(request: Request, name: Name) -> Response:
    """Begin to learn from the marks; what is computed of videos is kept for the next time."""
    await _with_teacher(request, name, lambda teacher: None)
    training = request.app.state.trainings.begin(_folder(request, name))
    return JSONResponse(asdict(training), status_code=202)


@router.get("/{name}/training", response_model=TrainingDocument, responses=_ERRORS)
async def training(request: Request, name: Name) -> Response:
    """Return how far the training of a project is."""
    await _with_teacher(request, name, lambda teacher: None)
    return JSONResponse(asdict(request.app.state.trainings.of(_folder(request, name))))


@router.delete("/{name}/training", response_model=TrainingDocument, responses=_ERRORS)
async def stop_training(request: Request, name: Name) -> Response:
    """Stop the training of a project."""
    await _with_teacher(request, name, lambda teacher: None)
    return JSONResponse(asdict(request.app.state.trainings.cancel(_folder(request, name))))


@router.get("/{name}/timeline", response_model=dict[str, Any], responses=_ERRORS)
async def timeline(
    request: Request, name: Name, video: Video, enter: Share = None, leave: Share = None
) -> Response:
    """Return the proposed timeline of a video."""
    given: Any = {k: v for k, v in {"enter": enter, "leave": leave}.items() if v is not None}
    found = await _with_teacher(
        request, name, lambda teacher: teacher.timeline(video, **given).entry()
    )
    return JSONResponse(found)


@router.get("/{name}/review", response_model=SuggestionsDocument, responses=_ERRORS)
async def review(
    request: Request, name: Name, most: Annotated[int, Query(ge=1, le=100)] = 10
) -> Response:
    """Return the windows that are least certain: those to look at and mark next."""
    found = await _with_teacher(request, name, lambda teacher: teacher.review(most=most))
    return JSONResponse({"windows": [one.entry() for one in found]})


@router.get(
    "/{name}/intervals.csv",
    response_class=FileResponse,
    responses={200: {"content": {"text/csv": {}}}, **_ERRORS},
)
async def marks_file(request: Request, name: Name) -> Response:
    """Return the marks as a table, as `dualstream prepare` reads it."""
    await _with_teacher(request, name, lambda teacher: None)
    path = _folder(request, name) / MARKS_FILE
    if not path.is_file():
        raise RefusedError("not-found", "Nothing is marked yet.")
    told = f"attachment; filename*=UTF-8''{quote(name, safe='')}.csv"
    return FileResponse(path, media_type="text/csv", headers={"content-disposition": told})
