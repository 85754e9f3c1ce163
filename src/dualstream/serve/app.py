"""The service as a web application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from dualstream.serve import job_routes, predict_routes, project_routes
from dualstream.serve.documents import ErrorDocument, HealthDocument, ModelsDocument
from dualstream.serve.explanations import Explanations
from dualstream.serve.guard import Guard, refusal_document, refusal_headers
from dualstream.serve.observe import LOGGER
from dualstream.serve.page_files import add_page_files
from dualstream.serve.refusal import RefusedError
from dualstream.serve.service import Service
from dualstream.serve.trainings import Trainings
from dualstream.version import __version__

CLOSED = 499
"""Status in logs of clients that left, as nginx has it."""


def make_app(service: Service) -> FastAPI:
    """Return the web application of a service, which it starts and stops."""

    trainings = Trainings(service.settings.networks.device)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await trainings.stop()
            await service.stop()

    app = FastAPI(
        title="dualstream",
        version=__version__,
        description="Two-stream action recognition: when which class is there in a video.",
        lifespan=lifespan,
        docs_url=None,  # their pages fetch scripts from elsewhere
        redoc_url=None,
        responses={
            401: {"model": ErrorDocument, "description": "No token, or a wrong one."},
            403: {"model": ErrorDocument, "description": "Another origin or host, or forbidden."},
        },
    )
    app.state.service = service
    app.state.explanations = Explanations(service)
    app.include_router(predict_routes.router)
    app.state.trainings = trainings
    app.include_router(job_routes.router)
    app.include_router(project_routes.router)
    _add_facts(app, service)
    add_page_files(app)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(Exception, _unexpected)
    app.add_middleware(Guard, settings=service.settings, metrics=service.metrics)
    return app


def _add_facts(app: FastAPI, service: Service) -> None:
    """Routes about the service itself."""
    settings = service.settings

    @app.get("/healthz", tags=["service"])
    async def healthz() -> HealthDocument:
        """Whether the service works."""
        return HealthDocument(version=__version__, **service.health())

    @app.get(
        "/metrics",
        tags=["service"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
    async def metrics() -> Response:
        """Numbers for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models", tags=["predict"])
    async def models() -> ModelsDocument:
        """Networks, classes and limits."""
        await service.worker.ready.wait()
        limits = settings.limits
        accepts = ["upload"]
        accepts += ["path"] if settings.root is not None else []
        accepts += ["url"] if settings.allows_urls else []
        shown = ("upload_bytes", "video_seconds", "side_px", "answer_seconds", "keep_seconds")
        return ModelsDocument(
            **service.worker.models,
            limits={name: getattr(limits, name) for name in shown},
            accepts=accepts,
        )


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return JSONResponse(
        refusal_document(error), status_code=error.status, headers=refusal_headers(error)
    )


async def _invalid(_: Request, error: Exception) -> Response:
    """What was wrong, without sending back what came."""
    assert isinstance(error, RequestValidationError)
    told = "; ".join(
        f"{'.'.join(str(part) for part in one['loc'][1:]) or 'request'}: {one['msg']}"
        for one in error.errors()
    )
    text = told.encode("utf-8", "backslashreplace").decode()
    return JSONResponse({"error": "invalid", "message": text}, status_code=422)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "invalid")
    return JSONResponse(
        {"error": kind, "message": f"{error.detail}."},
        status_code=error.status_code,
        headers=error.headers,
    )


async def _left(_: Request, error: Exception) -> Response:
    return Response(status_code=CLOSED)


async def _unexpected(_: Request, error: Exception) -> Response:
    if isinstance(error, asyncio.CancelledError):
        raise error
    LOGGER.error("unexpected-error", exc_info=error)
    text = "The service failed; its log says why."
    return JSONResponse({"error": "internal", "message": text}, status_code=500)
