"""The Python environment of OpenCV's TV-L1.

It lies in opencv-contrib-python-headless, which fills the same `cv2` folder as the project's
opencv-python-headless: the two cannot be installed together.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGES = ("numpy==2.4.6", "opencv-contrib-python-headless==5.0.0.93")


def opencv_python(folder: Path) -> Path:
    """The interpreter of an environment with OpenCV's contributed modules; made if need be.

    Args:
        folder: where the environment lies or will lie. Git ignores what is in it.

    Raises:
        subprocess.CalledProcessError: it cannot be made (often: no network).
    """
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    ready = folder / "ready.txt"
    if not ready.is_file() or ready.read_text() != "\n".join(PACKAGES):
        print(f"Making an environment with {' '.join(PACKAGES)} in {folder} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        (folder / ".gitignore").write_text("*\n")
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
        subprocess.run([str(python), *install], check=True)
        ready.write_text("\n".join(PACKAGES))
    return python
