"""Files at fixed addresses, downloaded in spite of connections that break."""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from dualstream.errors import WeightsError

ATTEMPTS = 4
"""Connections that are opened before giving up."""

WAIT_SECONDS = 2.0
"""Before the next attempt."""

TIMEOUT_SECONDS = 60
"""Without a byte from the other side."""

_CHUNK_BYTES = 1 << 20


def download_url(url: str, target: Path) -> None:
    """Download a file; after a break it goes on where it stopped.

    Args:
        url: address.
        target: file to write, new; partial when this fails, whole when it ends well. The sum of
            its bytes is the one that the server announced, its content is not checked here.

    Raises:
        WeightsError: the server refuses, cannot be reached, or breaks off every time.
    """
    download, reason = _Download(url, target), ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(WAIT_SECONDS)
        try:
            missing = download.go_on()
        except urllib.error.HTTPError as error:
            reason = f"the server says {error.code} {error.reason}"
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                target.unlink(missing_ok=True)
            elif error.code < 500:
                raise WeightsError(f"{url} cannot be downloaded: {reason}.") from error
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        else:
            if not missing:
                return
            reason = f"the connection breaks off {missing} bytes before the end"
    raise WeightsError(f"{url} cannot be downloaded in {ATTEMPTS} attempts: {reason}.")


@dataclass
class _Download:
    """A file of which `target` holds the beginning."""

    url: str
    target: Path
    version: str | None = None
    """The server's name (ETag) of what `target` is the beginning of; None where it has none."""

    def go_on(self) -> int:
        """Download what is missing; all of it where the server has another file by now.

        Returns:
            Bytes that are missing still.
        """
        have = self.target.stat().st_size if self.version and self.target.exists() else 0
        request = urllib.request.Request(self.url, headers={"Accept-Encoding": "identity"})
        if have and self.version:
            request.add_header("Range", f"bytes={have}-")
            request.add_header("If-Range", self.version)
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            if response.status == http.client.PARTIAL_CONTENT:
                sent = response.headers.get("Content-Range", "")
                found = re.fullmatch(rf"bytes {have}-\d+/(\d+)", sent.strip())
                if found is None:
                    self.target.unlink()
                    raise http.client.HTTPException(f"asked from byte {have} on, it sends {sent!r}")
                total = int(found[1])
            else:
                have, total = 0, int(response.headers.get("Content-Length", -1))
            tag = response.headers.get("ETag", "")
            with self.target.open("ab" if have else "wb") as file:
                # Known before the first byte, so that a break leaves a beginning to go on from.
                # A weak one (W/"...") names no exact bytes.
                self.version = tag if tag.startswith('"') else None
                while chunk := response.read(_CHUNK_BYTES):
                    file.write(chunk)
        return max(0, total - self.target.stat().st_size)
