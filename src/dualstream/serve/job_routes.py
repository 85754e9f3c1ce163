"""`/v1/jobs`: what has become of a video, its answer as files, and where the streams looked."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

from dualstream.serve.database import Job
from dualstream.serve.documents import (
    FINISHED,
    ErrorDocument,
    ExplanationDocument,
    JobDocument,
)
from dualstream.serve.job_document import job_document
from dualstream.serve.messages import RESULT
from dualstream.serve.refusal import RefusedError
from dualstream.serve.service import Service

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
Form = Literal["json", "csv", "srt"]
FORMS: dict[Form, tuple[str, str]] = {
    "json": (RESULT, "application/json"),
    "csv": ("timeline.csv", "text/csv; charset=utf-8"),
    "srt": ("timeline.srt", "application/x-subrip; charset=utf-8"),
}

VIDEO_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
}
OTHER_TYPE = "application/octet-stream"

_UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorDocument, "description": "There is no such job."},
    422: {"model": ErrorDocument, "description": "No name of a job, or a wrong option."},
}
_NO_ANSWER: dict[int | str, dict[str, Any]] = {
    409: {"model": ErrorDocument, "description": "The job has no answer (yet)."}
}


def _job(request: Request, job_id: str) -> tuple[Service, Job]:
    service: Service = request.app.state.service
    return service, service.job(job_id)


@router.get("/{job_id}", response_model=JobDocument, responses=_UNKNOWN)
async def get_job(request: Request, job_id: JobId) -> Response:
    """Return a job: whether it waits, how far it is, its answer."""
    service, job = _job(request, job_id)
    return JSONResponse(job_document(service, job), headers={"cache-control": "no-store"})


@router.delete("/{job_id}", response_model=JobDocument, responses=_UNKNOWN)
async def delete_job(request: Request, job_id: JobId) -> Response:
    """Give up a job that waits or runs; forget one that has ended, with video and answer."""
    service, job = _job(request, job_id)
    if job.state in FINISHED:
        document = job_document(service, job, with_result=False)
        service.remove(job)
        return JSONResponse(document)
    return JSONResponse(job_document(service, service.cancel(job)))


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **_UNKNOWN},
)
async def job_events(request: Request, job_id: JobId) -> Response:
    """Follow a job by server-sent events: the job without its answer at each change."""
    service, _ = _job(request, job_id)
    return StreamingResponse(
        _events(service, job_id),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _events(service: Service, job_id: str) -> AsyncIterator[str]:
    last = ""
    try:
        async for job in service.changes(job_id):
            if job is None:
                yield ": still there\n\n"
                continue
            text = json.dumps(job_document(service, job, with_result=False))
            if text != last:
                last = text
                yield f"event: job\ndata: {text}\n\n"
    except RefusedError:  # it was removed meanwhile
        yield "event: removed\ndata: {}\n\n"


@router.get(
    "/{job_id}/result.{form}",
    response_class=Response,
    responses={
        200: {"content": {kind.partition(";")[0]: {} for _, kind in FORMS.values()}},
        **_UNKNOWN,
        **_NO_ANSWER,
    },
)
async def job_file(request: Request, job_id: JobId, form: Form) -> Response:
    """Return the answer as a file: all of it as JSON, its segments as CSV or subtitles."""
    service, job = _job(request, job_id)
    file, kind = FORMS[form]
    path = service.folder(job) / file
    if job.state != "done" or not path.is_file():
        raise RefusedError("conflict", f"This job is {job.state} and has no answer.")
    name = quote(f"{job.name.rpartition('.')[0] or job.name}.{form}", safe="")
    return FileResponse(
        path,
        media_type=kind,
        headers={
            "content-disposition": f"attachment; filename*=UTF-8''{name}",
            "cache-control": "no-store",
        },
    )


@router.get(
    "/{job_id}/video",
    response_class=FileResponse,
    responses={
        200: {"content": {kind: {} for kind in (*VIDEO_TYPES.values(), OTHER_TYPE)}},
        206: {"description": "A part of it."},
        416: {"description": "There is no such part."},
        **_UNKNOWN,
    },
)
async def job_video(request: Request, job_id: JobId) -> Response:
    """Return the video of a job, whole or in parts, for players."""
    _, job = _job(request, job_id)
    if not os.path.isfile(job.path):
        raise RefusedError("not-found", "The video of this job was removed.")
    # What the file says of itself is not believed: nothing but a player may take it.
    kind = VIDEO_TYPES.get(os.path.splitext(job.path)[1].lower(), OTHER_TYPE)
    return FileResponse(job.path, media_type=kind, headers={"cache-control": "private"})


@router.get(
    "/{job_id}/explanation",
    response_model=ExplanationDocument,
    responses={
        **_UNKNOWN,
        **_NO_ANSWER,
        429: {"model": ErrorDocument, "description": "Too many windows wait."},
    },
)
async def explanation(
    request: Request,
    job_id: JobId,
    seconds: Annotated[float, Query(ge=0, le=1e7, allow_inf_nan=False)],
) -> Response:
    """Return where the streams looked in the window at a time; drawn on demand, then kept."""
    _, job = _job(request, job_id)
    return JSONResponse(await request.app.state.explanations.at(job, seconds))


@router.get(
    "/{job_id}/windows/{window}/{picture}",
    response_class=FileResponse,
    responses={200: {"content": {"image/jpeg": {}}}, **_UNKNOWN},
)
async def explanation_picture(
    request: Request,
    job_id: JobId,
    window: Annotated[int, Path(ge=0, le=10**6)],
    picture: Annotated[str, Path(pattern=r"^[0-9]{3}\.jpg$")],
) -> Response:
    """Return a picture of an explanation."""
    service, job = _job(request, job_id)
    path = service.folder(job) / f"window-{window}" / picture
    if not path.is_file():
        raise RefusedError("not-found", "There is no such picture; ask for the explanation first.")
    return FileResponse(path, media_type="image/jpeg", headers={"cache-control": "private"})
