"""Video files below a folder, and the one that an annotation line names."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from dualstream.clips.data.annotations.entries import VIDEO_SUFFIXES, is_hidden, normalize_class
from dualstream.errors import AnnotationError


def list_videos(root: Path) -> list[str]:
    """Return the video files below a folder; see `list_files`."""
    return [name for name in list_files(root) if is_video(name)]


def is_video(name: str) -> bool:
    """Whether a file is taken for a video, told from its extension."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def list_files(root: Path) -> list[str]:
    """Return the paths from `root` of all files below it, with `/` between folders, sorted.

    Links are followed (once); the system's own files and folders (`is_hidden`) are left out.

    Raises:
        AnnotationError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise AnnotationError(f"{error.filename}: cannot be read ({error.strerror}).") from error

    names: list[str] = []
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = [name for name in subfolders if not is_hidden(name)]
        base = PurePosixPath(Path(folder).relative_to(root).as_posix())
        names += [str(base / name) for name in files if not is_hidden(name)]
    return sorted(names)


class VideoIndex:
    """Finds the file that a line of an annotation file names.

    Args:
        names: the videos (see `list_videos`).
        class_folders: names of folders that hold the videos of one class; a line that says
            `a/1.mp4` never names the file `b/1.mp4` when `b` is such a folder.
    """

    def __init__(self, names: Sequence[str], *, class_folders: Iterable[str] = ()) -> None:
        self._exact = {_key(name): name for name in names}
        self._tails: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for name in names:
            parts = _parts(name)
            for start in range(len(parts)):
                self._tails[parts[start:]].append(name)
        self._class_folders = set(map(normalize_class, class_folders))

    def find(self, hint: str, *, class_name: str = "") -> tuple[str, ...]:
        """Return the videos that a hint may name: none, one, or several that it leaves open.

        Folders and extensions may differ: with a file `UCF-101/Archery/v_g01.mp4`, the hints
        `Archery/v_g01.avi`, `/data/UCF-101/Archery/v_g01` and `v_g01` name it.

        Args:
            hint: the video as a list names it.
            class_name: tells files of one name in several class folders apart.
        """
        for text in (hint, hint.replace("\\", "/")):
            if name := self._exact.get(_key(text)):
                return (name,)
        parts = _parts(hint.replace("\\", "/"))
        for start in range(max(len(parts) - 1, 0)):
            if found := self._tails.get(parts[start:]):
                return self._of_class(found, class_name)
        found = self._tails.get(parts[-1:], [])
        if len(parts) > 1:
            found = [name for name in found if _class_of(name) not in self._class_folders]
        return self._of_class(found, class_name)

    def _of_class(self, names: list[str], class_name: str) -> tuple[str, ...]:
        if len(names) > 1 and class_name:
            names = [n for n in names if _class_of(n) == normalize_class(class_name)] or names
        return tuple(names)


def _class_of(name: str) -> str:
    return normalize_class(PurePosixPath(name).parent.name)


def _key(name: str) -> str:
    """Names in one Unicode form: macOS stores `é` as two characters."""
    return unicodedata.normalize("NFC", name)


def _parts(name: str) -> tuple[str, ...]:
    """Folders and stem of a name: `a/b.mp4` -> ("a", "b"); only a video's extension is cut."""
    path = PurePosixPath(_key(name))
    stem = path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name
    return (*(part for part in path.parts[:-1] if part not in ("/", "..")), stem)
