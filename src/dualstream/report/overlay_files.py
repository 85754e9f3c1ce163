"""Names of the files that overlays of videos are written to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dualstream.errors import InputError
from dualstream.video.write import TIMED_SUFFIXES


def overlay_files(path: str | os.PathLike[str], sources: Sequence[str]) -> dict[str, Path]:
    """Return the overlay of each video: the file `path` for one, else files in the folder `path`.

    In a folder they are named like the videos, `a.mp4` for `a.avi`; where two share a name they
    are numbered: `a.mp4`, `a (2).mp4`.

    Args:
        path: a .mp4, .mov or .mkv file, or a folder.
        sources: the videos, each once.

    Raises:
        InputError: a file for several videos, another suffix, or a video itself.
    """
    target = Path(path)
    if not target.suffix or target.is_dir():
        stems = [Path(source).stem for source in sources]
        counts = [stems[: place + 1].count(stem) for place, stem in enumerate(stems)]
        files = [
            target / (f"{stem}.mp4" if count == 1 else f"{stem} ({count}).mp4")
            for stem, count in zip(stems, counts, strict=True)
        ]
    elif len(sources) > 1:
        raise InputError(
            f"{target}: {len(sources)} videos make {len(sources)} overlays; give a folder."
        )
    elif target.suffix.lower() not in TIMED_SUFFIXES:
        raise InputError(f"{target}: an overlay is an .mp4, .mov or .mkv file; give such a name.")
    else:
        files = [target]
    videos = {Path(source).absolute() for source in sources}
    if overwritten := [file for file in files if file.absolute() in videos]:
        raise InputError(
            f"{overwritten[0]} is one of the videos; write the overlay somewhere else."
        )
    return dict(zip(sources, files, strict=True))
