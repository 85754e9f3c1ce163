"""The files of the page, which anybody may fetch."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

FOLDER = Path(__file__).with_name("page")
SCRIPTS = (
    "answer",
    "camera",
    "colors",
    "drawing",
    "elements",
    "intake",
    "job",
    "moment",
    "page",
    "pictures",
    "service",
    "state",
    "teaching",
)
PAGE_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    **{f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8") for name in SCRIPTS},
}
"""Address -> name in `FOLDER` and media type; nothing else of the folder is served."""


def add_page_files(app: FastAPI) -> None:
    """Add a route for each file of the page."""
    for address, (name, kind) in PAGE_FILES.items():
        _add_page_file(app, address, FOLDER / name, kind)


def _add_page_file(app: FastAPI, address: str, file: Path, kind: str) -> None:
    @app.get(address, include_in_schema=False)
    async def page_file() -> FileResponse:
        return FileResponse(file, media_type=kind, headers={"cache-control": "no-cache"})
