"""Folders of single flow images, as denseflow and MMAction2 write them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualstream.errors import FlowStoreError
from dualstream.flow.quantize import from_denseflow, quantize_denseflow
from dualstream.flow.store.fields import (
    META_NAME,
    FlowWriter,
    StoredFields,
    broken,
    check_source,
    checked_image,
    encode_image,
    write_errors,
)
from dualstream.flow.store.meta import FlowMeta
from dualstream.flow.store.unfinished import replacing_folder

_IMAGE = re.compile(r"(?:flow_)?([xy])_(\d+)\.(?:jpe?g|png)", re.IGNORECASE)


class FlowFolder(StoredFields):
    """The flow of one video as a folder of images, read like a `FlowFile`.

    Images are `flow_x_00001.jpg`, `flow_y_00001.jpg` or `x_00001.jpg`, `y_00001.jpg` (or PNG),
    numbered from any number on. Their bytes are in denseflow's mapping and are converted to
    the mapping of `quantize` when read.
    """

    def __init__(self, path: Path, meta: FlowMeta, names: dict[str, list[str]]) -> None:
        super().__init__(path, meta)
        self._names = names

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        bound_px: float = 20.0,
        source_sha256: str | None = None,
    ) -> FlowFolder:
        """Open a folder of flow images.

        Args:
            path: the folder.
            bound_px: bound that the images were written with, where no meta.json says so.
            source_sha256: SHA-256 of the video; checked where the folder's meta.json has one.

        Raises:
            FlowStoreError: it has no flow images, planes or numbers are missing, the first
                image is broken, or the flow belongs to another video.
        """
        path = Path(path)
        names = _image_names(path)
        count = len(names["x"])
        if (path / META_NAME).is_file():
            meta = FlowMeta.from_json(_read(path / META_NAME), path=path)
            if meta.num_fields != count:
                raise broken(path, f"meta.json has {meta.num_fields} fields, {count} are there")
        else:
            first = names["x"][0]
            image = checked_image(_read(path / first), size=None, path=path, name=first)
            height, width = image.shape
            meta = FlowMeta(
                method="unknown", bound_px=bound_px, height=height, width=width, num_fields=count
            )
        check_source(path, meta, source_sha256)
        return cls(path, meta, names)

    @staticmethod
    def locate(root: Path, name: str) -> Path | None:
        """Folder of video `class/a.mp4` below `root`: `class/a`, else `a`, else None."""
        video = PurePosixPath(name)
        for candidate in (root.joinpath(*video.parent.parts, video.stem), root / video.stem):
            if candidate.is_dir():
                return candidate
        return None

    def _read_field(self, index: int, out: NDArray[np.uint8]) -> None:
        size = (self.meta.height, self.meta.width)
        for channel, plane in zip(out, "xy", strict=True):
            name = self._names[plane][index]
            data = _read(self.path / name)
            channel[:] = from_denseflow(checked_image(data, size=size, path=self.path, name=name))


def write_folder(
    path: str | os.PathLike[str], fields: Iterable[NDArray[np.float32]], meta: FlowMeta
) -> FlowMeta:
    """Write flow as a folder of `flow_x_00001.jpg`, `flow_y_00001.jpg`, ... and meta.json.

    An older folder of that name is replaced once the new one is complete.

    Args:
        path: the folder.
        fields: chunks (n, 2, H, W) of displacements in pixels, in order of time.
        meta: everything but height, width and num_fields, which are counted here.

    Returns:
        The complete `meta`.

    Raises:
        ShapeError: a chunk has another shape or size than the first.
        InputError: a NaN or infinity.
        FlowStoreError: no field came, or the folder cannot be written.
    """
    with writing_folder(Path(path), meta) as writer:
        for chunk in fields:
            writer.add(chunk)
    return writer.meta


@contextmanager
def writing_folder(path: Path, meta: FlowMeta) -> Iterator[FlowWriter]:
    """`write_folder` chunk by chunk: the folder takes its place when the block ends well."""
    with write_errors(path), replacing_folder(path) as folder:

        def put(index: int, field: NDArray[Any]) -> None:
            planes = quantize_denseflow(field, bound_px=meta.bound_px)
            for plane, image in zip("xy", planes, strict=True):
                name = f"flow_{plane}_{index + 1:05d}.jpg"  # denseflow and MMAction2 count from 1
                (folder / name).write_bytes(encode_image(image, quality=meta.quality))

        writer = FlowWriter(path, replace(meta, format=1), put)
        yield writer
        (folder / META_NAME).write_text(writer.finish().to_json(), encoding="utf-8")


def _image_names(folder: Path) -> dict[str, list[str]]:
    """Plane -> file names in order of their numbers; FlowStoreError if they leave gaps."""
    try:
        entries = os.listdir(folder)
    except OSError as error:
        raise FlowStoreError(f"{folder} cannot be read: {error.strerror}.") from error
    found: dict[str, dict[int, str]] = {"x": {}, "y": {}}
    for entry in entries:
        if match := _IMAGE.fullmatch(entry):
            found[match[1].lower()][int(match[2])] = entry
    numbers = sorted(found["x"])
    if not numbers or numbers != sorted(found["y"]):
        raise broken(
            folder,
            f"{len(found['x'])} images flow_x_* and {len(found['y'])} images flow_y_* do not pair",
        )
    if numbers[-1] - numbers[0] + 1 != len(numbers):
        gap = next(n for n in range(numbers[0], numbers[-1]) if n not in found["x"])
        raise broken(folder, f"image number {gap} is missing")
    return {plane: [found[plane][n] for n in numbers] for plane in "xy"}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FlowStoreError(f"{path} cannot be read: {error.strerror}.") from error
