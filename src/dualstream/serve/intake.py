"""Videos coming in: uploads and addresses, streamed to disk within limits, and allowed paths."""

from __future__ import annotations

import asyncio
import contextlib
import re
import urllib.request
from collections.abc import AsyncIterator, Callable
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.error import URLError
from urllib.parse import unquote, urlsplit

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from dualstream.serve.refusal import RefusedError

WRITE_BYTES = 2**20
"""Bytes that are gathered before they go to disk, in a thread of its own."""
FORM_BYTES = 2**16
"""What the form around an upload may take."""
SILENCE_SECONDS = 30.0
"""After which a client that sends nothing is given up."""
DRAIN_SECONDS = 10.0
"""How long an upload that is refused is listened to."""
MOST_NAME = 200
"""Characters of a file's name that are kept."""


def clean_name(name: str) -> str:
    """Return a client's name of a file as it is shown: without folders and control characters."""
    last = re.split(r"[\\/]", name)[-1]
    printable = "".join(letter for letter in last if letter.isprintable())
    return printable.strip()[:MOST_NAME] or "video"


def stored_name(name: str) -> str:
    """Return the name under which the service keeps a video: `video`, and a harmless suffix."""
    suffix = Path(name).suffix.lower()
    return f"video{suffix}" if re.fullmatch(r"\.[a-z0-9]{1,5}", suffix) else "video"


def allowed_path(root: Path, text: str) -> Path:
    """Return the file under a root folder that a request names.

    Links are followed first: what they lead to must lie under the root too. Of what lies elsewhere
    nothing is told, not even whether it is there.

    Raises:
        RefusedError: it lies elsewhere, or there is no such file.
    """
    base = root.resolve()
    try:
        found = (base / text).resolve()
        if not found.is_relative_to(base):
            raise RefusedError(
                "forbidden", "This path leads out of the folder that the service may read."
            )
        is_file = found.is_file()
    except (OSError, RuntimeError, ValueError):  # too long, links in a circle, a zero byte
        is_file = False
    if not is_file:
        raise RefusedError(
            "not-found", "There is no such file in the folder that the service may read."
        )
    return found


async def receive(
    body: AsyncIterator[bytes],
    content_type: str,
    folder: Path,
    *,
    most_bytes: int,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> tuple[Path, str]:
    """Stream the one file of a form to a folder.

    Args:
        body: of the request.
        content_type: multipart/form-data with its boundary.
        folder: where the file is written, as `stored_name` has it.
        most_bytes: of the file.
        on_bytes: told of every piece that comes in.

    Returns:
        The file, and the client's name of it.

    Raises:
        RefusedError: another type, no file or several, too large, or a client that fell silent.
        OSError: the file cannot be written.
    """
    form = _Form(content_type, folder, most_bytes)
    try:
        total = 0
        while (chunk := await _next(body)) is not None:
            total += len(chunk)
            on_bytes(len(chunk))
            if total > most_bytes + FORM_BYTES:
                raise too_large(most_bytes)
            form.feed(chunk)
            if form.num_waiting >= WRITE_BYTES:
                await asyncio.to_thread(form.flush)
        await asyncio.to_thread(form.flush)
        return form.finish()
    finally:
        form.close()


async def _next(body: AsyncIterator[bytes]) -> bytes | None:
    try:
        return await asyncio.wait_for(anext(body, None), SILENCE_SECONDS)
    except TimeoutError:
        raise RefusedError(
            "timeout", f"Nothing came for {SILENCE_SECONDS:g} seconds; send the video again."
        ) from None


async def drain(request: Request, *, most_bytes: int) -> None:
    """Take what the client of a refused upload still sends, so that it comes to hear why."""
    left = most_bytes + FORM_BYTES
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for chunk in request.stream():
                left -= len(chunk)
                if left < 0:
                    return


def too_large(most_bytes: int) -> RefusedError:
    """Return the refusal of a file that has more bytes than these."""
    return RefusedError(
        "too-large",
        f"The video is larger than {most_bytes / 1e6:g} MB, which is the limit of this service "
        "(--max-upload-mb). Send a shorter or smaller one.",
    )


class _Form:
    """A form with one file, parsed piece by piece."""

    def __init__(self, content_type: str, folder: Path, most_bytes: int) -> None:
        kind, options = parse_options_header(content_type.encode("latin-1", "replace"))
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise RefusedError(
                "unsupported-type",
                "Send the video as the file of a form (multipart/form-data, as `curl -F "
                "file=@video.mp4` does), or JSON with a path.",
            )
        self._folder, self._most = folder, most_bytes
        self._field, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._file: IO[bytes] | None = None
        self._path: Path | None = None
        self._name = ""
        self._in_file = self._is_complete = False
        self._waiting: list[bytes] = []
        self.num_waiting = self._size = 0
        callbacks: dict[str, Any] = {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError as error:
            raise RefusedError("invalid", f"The form cannot be read ({error}).") from error

    def feed(self, chunk: bytes) -> None:
        """Parse a piece of the body."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise RefusedError("invalid", f"The form cannot be read ({error}).") from error

    def flush(self) -> None:
        """Write what has come of the file."""
        if self._file is not None:
            self._file.write(b"".join(self._waiting))
            self._file.flush()
        self._waiting, self.num_waiting = [], 0

    def finish(self) -> tuple[Path, str]:
        """Return the file and its name, when all of the body has come."""
        if self._path is None or not self._is_complete or not self._size:
            raise RefusedError(
                "invalid",
                "The form has no file, or it is empty or cut off. Send the video as its part "
                "`file`.",
            )
        return self._path, self._name

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _begin(self) -> None:
        self._headers, self._in_file = {}, False

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field, self._value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"filename" not in options:
            return  # a field of the form, which has no part here
        if self._path is not None:
            raise RefusedError("invalid", "The form has several files. Send one video a request.")
        self._name = clean_name(options[b"filename"].decode("utf-8", "replace"))
        self._path = self._folder / stored_name(self._name)
        self._file = self._path.open("xb")
        self._in_file = True

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._in_file:
            return
        self._size += end - start
        if self._size > self._most:
            raise too_large(self._most)
        self._waiting.append(data[start:end])
        self.num_waiting += end - start

    def _end(self) -> None:
        self._is_complete = True


def fetch(url: str, folder: Path, *, most_bytes: int) -> tuple[Path, str]:
    """Copy a video from an http or https address to a folder.

    It is then read like an upload: only as what it holds itself, never as a list of other files.

    Raises:
        RefusedError: another kind of address, it cannot be had, or it is too large.
        OSError: the file cannot be written.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # half an IPv6 address
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RefusedError(
            "invalid", "Only addresses that begin with http:// or https:// are fetched."
        )
    name = clean_name(unquote(parts.path))
    path = folder / stored_name(name)
    opener = urllib.request.OpenerDirector()  # http and https alone, also after redirections
    for handler in (
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    try:
        answer = opener.open(url, timeout=SILENCE_SECONDS)
    except (URLError, HTTPException, ValueError, TimeoutError, ConnectionError) as error:
        raise RefusedError("invalid", f"The address cannot be read ({error}).") from error
    if answer is None:
        raise RefusedError("invalid", "The address leads to something that is not fetched.")
    size = 0
    with answer, path.open("xb") as file:
        while True:
            try:
                chunk = answer.read(WRITE_BYTES)
            except (HTTPException, TimeoutError, ConnectionError) as error:
                raise RefusedError("invalid", f"The address broke off ({error}).") from error
            if not chunk:
                break
            size += len(chunk)
            if size > most_bytes:
                raise too_large(most_bytes)
            file.write(chunk)
    return path, name
