"""A job as its clients see it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from dualstream.serve.database import Job
from dualstream.serve.messages import RESULT
from dualstream.serve.refusal import RefusedError
from dualstream.serve.service import Service


def job_document(service: Service, job: Job, *, with_result: bool = True) -> dict[str, Any]:
    """Return what `JobDocument` describes.

    Raises:
        RefusedError: the answer is no longer there.
    """
    keep = service.settings.limits.keep_seconds
    progress = service.progress.get(job.id)
    return {
        "id": job.id,
        "state": job.state,
        "name": job.name,
        "created": _iso(job.created),
        "finished": None if job.finished is None else _iso(job.finished),
        "expires": None if job.finished is None else _iso(job.finished + keep),
        "ahead": service.database.num_ahead(job) if job.state == "queued" else None,
        "progress": None
        if progress is None
        else dict(zip(("stage", "done", "total"), progress, strict=True)),
        "failure": None
        if job.state != "failed"
        else {"error": job.error or "internal", "message": job.message or ""},
        "result": result(service, job) if with_result and job.state == "done" else None,
    }


def result(service: Service, job: Job) -> dict[str, Any]:
    """Return the answer of a job that is done.

    Raises:
        RefusedError: it is no longer there.
    """
    try:
        found: dict[str, Any] = json.loads((service.folder(job) / RESULT).read_bytes())
    except OSError as error:
        raise RefusedError("not-found", "The answer of this job was removed.") from error
    return found


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
