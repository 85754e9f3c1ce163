"""`POST /v1/predict`: a video comes in, its answer or its job goes out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from dualstream.serve.database import Job
from dualstream.serve.documents import (
    FINISHED,
    ErrorDocument,
    JobDocument,
    PredictOptions,
    PredictQuery,
    Source,
)
from dualstream.serve.intake import FORM_BYTES, allowed_path, drain, fetch, receive, too_large
from dualstream.serve.job_document import job_document
from dualstream.serve.json_body import read_json
from dualstream.serve.refusal import RefusedError, as_kind
from dualstream.serve.service import Service

router = APIRouter(tags=["predict"])

_FILE: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "string", "format": "binary"}},
}
_SOURCE = Source.model_json_schema() | {
    "properties": {
        "path": {"type": "string", "minLength": 1},
        "url": {"type": "string", "minLength": 1},
    },
    "minProperties": 1,
    "maxProperties": 1,
}


def _error(text: str) -> dict[str, Any]:
    return {"model": ErrorDocument, "description": text}


@router.post(
    "/v1/predict",
    response_model=JobDocument,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": _FILE},
                "application/json": {"schema": _SOURCE},
            },
        }
    },
    responses={
        202: {"model": JobDocument, "description": "The video waits or is worked on."},
        400: _error("The body cannot be read."),
        404: _error("No such file under the folder that may be read."),
        408: _error("The client fell silent."),
        413: _error("Too large or too long."),
        415: _error("Neither a form nor JSON."),
        422: _error("No video, or options that cannot be used."),
        429: _error("Too many videos wait; Retry-After tells for how long."),
        503: _error("The service is about to end, or too busy."),
        507: _error("The disk is full."),
    },
)
async def predict(request: Request, query: Annotated[PredictQuery, Query()]) -> Response:
    """Find what happens when in a video.

    The video is the file of a form, or JSON with the path of one that the service may read. A short
    one is answered in this call (200); for others the answer is a job (202) to be asked for.
    """
    service: Service = request.app.state.service
    try:
        job = await _take_in(request, service, query)
    except RefusedError:
        await drain(request, most_bytes=service.settings.limits.upload_bytes)
        raise
    if query.wait and job.video_seconds <= service.settings.limits.answer_seconds:
        job = await _wait(request, service, job)
    document = job_document(service, job)
    if job.state not in FINISHED:
        place = {"location": f"/v1/jobs/{job.id}"}
        return JSONResponse(document, status_code=202, headers=place)
    if job.state == "failed":
        raise RefusedError(as_kind(job.error), job.message or "The job failed.")
    return JSONResponse(document)


async def _take_in(request: Request, service: Service, query: PredictQuery) -> Job:
    """Get the video, look at its header, and queue it."""
    limits, headers = service.settings.limits, request.headers
    announced = int(text) if (text := headers.get("content-length", "")).isdecimal() else 0
    if announced > limits.upload_bytes + FORM_BYTES:
        raise too_large(limits.upload_bytes)
    kind = headers.get("content-type", "")
    with service.place(num_bytes=announced) as folder:
        if kind.partition(";")[0].strip().lower() == "application/json":
            source = await read_json(request, Source)
            path, name = await _named(service, source, folder)
        else:
            path, name = await receive(
                request.stream(),
                kind,
                folder,
                most_bytes=limits.upload_bytes,
                on_bytes=service.metrics.uploaded.inc,
            )
        seconds = await service.checked(path, name)
        options = PredictOptions.model_validate(query.model_dump(exclude={"wait"}))
        return service.add(path, name, folder, seconds=seconds, options=options)


async def _named(service: Service, source: Source, folder: Path) -> tuple[Path, str]:
    settings = service.settings
    if source.path is not None:
        if settings.root is None:
            raise RefusedError(
                "forbidden", "This service reads no files by path (--root allows it)."
            )
        found = allowed_path(settings.root, source.path)
        return found, found.name
    assert source.url is not None
    if not settings.allows_urls:
        raise RefusedError(
            "forbidden", "This service fetches no addresses (--allow-urls allows it)."
        )
    most = settings.limits.upload_bytes
    return await asyncio.to_thread(fetch, source.url, folder, most_bytes=most)


async def _wait(request: Request, service: Service, job: Job) -> Job:
    """Wait for a job; it is given up when its client leaves."""
    ended = asyncio.create_task(service.ended(job.id, seconds=service.settings.limits.wait_seconds))
    left = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({ended, left}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            service.cancel(service.job(job.id))
            raise ClientDisconnect
        return ended.result()
    finally:
        for task in (ended, left):
            task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
