"""Training clips a second: dualstream's loader beside the same sampling on decord and on OpenCV.

The task is TSN's: three random snippets of each video, one multi-scale corner crop and flip for
all of them, resized to 224 x 224, batches of 16, two worker processes of one thread each.

    rgb   one frame a snippet, from H.264 files: dualstream, decord, OpenCV's VideoCapture
    flow  stacks of five fields: dualstream's flow store, and a folder of JPEG files a video read
          with cv2.imread (how MMAction2 and denseflow keep flow)

Every contender gets the same positions, boxes and flips from dualstream's own samplers, cuts
before it resizes, and runs in torch's DataLoader with the same settings: what differs is the
decoding, the cutting and the joining. The samples are compared first. Rounds are taken in turn
(each contender reads every video once a round); the figures are medians, the bar is dualstream's
clips a second at least equal to the fastest other's.

`--clock cpu` counts the processor time of this process and its workers instead: on a machine that
others use, programs with more threads get a larger share of it (decord decodes in a thread of its
own beside the worker's, whatever its num_threads).

decord is no part of this project and is never installed into its environment. Set it up beside
the project (from the repository's root, after `make .venv`):

    python3.11 -m venv /tmp/bench-loader
    # See the project's packages (torch, av, dualstream) instead of installing them again:
    echo "$PWD/.venv/lib/python3.11/site-packages" \
        > /tmp/bench-loader/lib/python3.11/site-packages/project.pth
    echo "$PWD/src" >> /tmp/bench-loader/lib/python3.11/site-packages/project.pth
    /tmp/bench-loader/bin/pip install --no-deps decord==0.6.0
    OMP_NUM_THREADS=1 /tmp/bench-loader/bin/python benchmarks/loader.py --json

Without decord the script still measures the others. `--json` writes
benchmarks/results/loader.json, or loader_cpu.json with `--clock cpu`.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, Literal

import cv2
import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from dualstream.clips.data.manifest import Manifest, VideoRecord
from dualstream.clips.dataset import ClipDataset, FlowStores
from dualstream.clips.geometry import View, multi_scale_crop, reference_size, source_box
from dualstream.clips.loader import EpochBatches, make_loader
from dualstream.clips.plan import Cropping, Sampling, segment_starts_random
from dualstream.flow import FlowMeta, FlowStore, optical_flow, quantize, write_folder
from dualstream.types import ClipSpec, StreamSpec
from dualstream.video import VideoReader
from measure import FOLDER, interleaved, versions, write_json

VIDEOS = FOLDER.parents[1] / "shared" / "data" / "jhmdb" / "videos"
PACKAGES = ("torch", "av", "opencv-python-headless", "numpy", "decord")
SEGMENTS, FIELDS, SHORT_SIDE, SIZE = 3, 5, 256, 224
Task = Literal["rgb", "flow"]
TASKS: tuple[Task, ...] = ("rgb", "flow")


@dataclass(frozen=True)
class Files:
    """What is read: the videos, and their flow in both forms."""

    manifest: Manifest
    store: Path
    folders: Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, default=VIDEOS, help="folder of class folders")
    parser.add_argument("--per-class", type=int, default=8, help="videos of each class")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a machine in other use"
    )
    parser.add_argument("--json", action="store_true", help="write a file in results/")
    options = parser.parse_args()
    clock = time.perf_counter if options.clock == "wall" else processor_seconds
    seconds: dict[str, list[float]] = {}
    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as work:
        files = prepare(options.videos, Path(work), per_class=options.per_class)
        for task in TASKS:
            ours, others = contenders(
                task, files, workers=options.workers, batch_size=options.batch_size
            )
            check_same_samples(ours, others)
            epochs = {name: epoch_of(loader) for name, loader in (ours | others).items()}
            taken = interleaved(epochs, rounds=options.rounds, clock=clock)
            rates = {name: len(files.manifest) / median(taken[name]) for name in taken}
            [first, *rest] = rates.values()
            results |= {f"{task}: {name}, clips a second": rate for name, rate in rates.items()}
            results[f"{task}: ratio to the fastest other"] = first / max(rest)
            seconds |= {f"{task}: {name}": values for name, values in taken.items()}
            print_table(task, taken, rates)
    if options.json:
        settings = {key: str(value) for key, value in vars(options).items() if key != "json"}
        settings["clips a round"] = str(len(files.manifest))
        name = "loader.json" if options.clock == "wall" else "loader_cpu.json"
        path = FOLDER / "results" / name
        write_json(
            path, seconds=seconds, settings=settings, results=results, packages=versions(*PACKAGES)
        )
        print(f"Written to {path}.")


def processor_seconds() -> float:
    """User and system time of this process and of all its workers so far."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def prepare(videos: Path, work: Path, *, per_class: int) -> Files:
    """Index the first videos of each class and store their flow as ZIP files and as folders."""
    classes = tuple(sorted(folder.name for folder in videos.iterdir() if folder.is_dir()))
    store, records = FlowStore(work / "store"), []
    for label, name in enumerate(classes):
        for path in sorted((videos / name).iterdir())[:per_class]:
            video = f"{name}/{path.name}"
            with VideoReader(path) as reader:
                frames, info = reader.read_all(), reader.info
            height, width = frames.size
            records.append(VideoRecord(video, label, (), len(frames), info.fps, width, height, ""))
            # What the flow is does not matter here, only how many bytes it takes: the quick way.
            flow = optical_flow(frames, method="farneback").data
            meta = FlowMeta(method="farneback", fps=info.fps, source=video, version="benchmark")
            store.write(video, [quantize(flow)], meta)
            write_folder(work / "folders" / Path(video).with_suffix(""), [flow], meta)
    manifest = Manifest(tuple(records), classes, videos)
    return Files(manifest, store.root, work / "folders")


def contenders(
    task: Task, files: Files, *, workers: int, batch_size: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Name -> loader: dualstream's, and the others'."""
    stream = StreamSpec("rgb")
    readers: dict[str, Callable[..., torch.Tensor]] = {"OpenCV": read_opencv}
    if importlib.util.find_spec("decord") is not None:
        readers["decord"] = read_decord
    if task == "flow":
        stream = StreamSpec("flow", num_frames=FIELDS, flow_method="farneback")
        readers = {"JPEG folders, OpenCV": read_jpeg_folder}
    ours = ClipDataset(
        files.manifest,
        ClipSpec({task: stream}, short_side=SHORT_SIDE, crop_size=SIZE),
        sampling=Sampling("random_segments", segments=SEGMENTS),
        cropping=Cropping("multi_scale"),
        flip=True,
        flow={"flow": FlowStores(FlowStore(files.store))} if task == "flow" else None,
    )
    batches = EpochBatches(ours.labels, batch_size=batch_size)
    loader = make_loader(ours, batches, workers=workers)
    others = {
        name: DataLoader(
            PlainDataset(files, task, read),
            batch_sampler=batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=one_thread,
            multiprocessing_context=loader.multiprocessing_context,
        )
        for name, read in readers.items()
    }
    return {"dualstream": loader}, others


def epoch_of(loader: Any) -> Callable[[], None]:
    """Function that reads the next epoch of a loader."""
    epochs = count(1)

    def read() -> None:
        loader.batch_sampler.set_epoch(next(epochs))
        for _ in loader:
            pass

    return read


def check_same_samples(ours: dict[str, Any], others: dict[str, Any]) -> None:
    """Stop where a contender does not read what dualstream reads."""
    [mine] = ours.values()
    batch = next(iter(mine))
    [data] = batch.data.values()
    for name, loader in others.items():
        samples, labels = next(iter(loader))
        difference = (data.squeeze(3).int() - samples.int()).abs()  # T is 1 for frames
        # The two forms of stored flow differ in mapping and so in what JPEG loses.
        if not torch.equal(labels, batch.label) or difference.float().mean() > 1:
            raise SystemExit(f"{name} reads other samples: they differ by {difference.max()}.")


class PlainDataset(Dataset[tuple[torch.Tensor, int]]):
    """The same samples written straight on another library."""

    def __init__(self, files: Files, task: Task, read: Callable[..., torch.Tensor]) -> None:
        self.files, self.task, self.read = files, task, read

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, int]:
        record = self.files.manifest.records[key[1]]
        rng = np.random.default_rng([0, *key])
        is_flow = self.task == "flow"
        starts = segment_starts_random(
            record.frames - is_flow, segments=SEGMENTS, length=FIELDS if is_flow else 1, rng=rng
        )
        reference = reference_size(record.height, record.width, short_side=SHORT_SIDE)
        view = multi_scale_crop(*reference, size=SIZE, rng=rng).mirrored(bool(rng.integers(2)))
        box = source_box(view, reference=reference, source=(record.height, record.width))
        if is_flow:
            source = self.files.folders / Path(record.path).with_suffix("")
        else:
            source = self.files.manifest.video_path(record)
        return self.read(str(source), starts.tolist(), box, view), record.label


def read_opencv(
    path: str, starts: Sequence[int], box: tuple[int, int, int, int], view: View
) -> torch.Tensor:
    """(S, 3, size, size) with VideoCapture: grab all up to the last frame, convert the wanted."""
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    frames: dict[int, NDArray[np.uint8]] = {}
    for number in range(max(starts) + 1):
        capture.grab()
        if number in starts:
            frames[number] = cut(capture.retrieve()[1], box, view)
    capture.release()
    rgb = [cv2.cvtColor(frames[start], cv2.COLOR_BGR2RGB) for start in starts]
    return torch.from_numpy(np.stack(rgb)).permute(0, 3, 1, 2).contiguous()


def read_decord(
    path: str, starts: Sequence[int], box: tuple[int, int, int, int], view: View
) -> torch.Tensor:
    """(S, 3, size, size) with decord's get_batch."""
    import decord

    frames = decord.VideoReader(path, num_threads=1).get_batch(list(starts)).asnumpy()
    cuts = np.stack([cut(frame, box, view) for frame in frames])
    return torch.from_numpy(cuts).permute(0, 3, 1, 2).contiguous()


def read_jpeg_folder(
    path: str, starts: Sequence[int], box: tuple[int, int, int, int], view: View
) -> torch.Tensor:
    """(S, 2, L, size, size) from images flow_x_00001.jpg, ... of one folder."""
    views = np.empty((len(starts), 2, FIELDS, SIZE, SIZE), np.uint8)
    for s, start in enumerate(starts):
        for t in range(FIELDS):
            for channel, plane in enumerate("xy"):
                name = f"{path}/flow_{plane}_{start + t + 1:05d}.jpg"
                image = cut(cv2.imread(name, cv2.IMREAD_GRAYSCALE), box, view)
                if view.flip and plane == "x":
                    image = 255 - image  # denseflow's mapping
                views[s, channel, t] = image
    return torch.from_numpy(views)


def cut(image: Any, box: tuple[int, int, int, int], view: View) -> NDArray[np.uint8]:
    """Cut, resize and flip one picture."""
    left, top, right, bottom = box
    resized = cv2.resize(image[top:bottom, left:right], (SIZE, SIZE))
    return cv2.flip(resized, 1) if view.flip else resized  # type: ignore[return-value]


def one_thread(worker: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def print_table(task: Task, taken: dict[str, list[float]], rates: dict[str, float]) -> None:
    clips = len(next(iter(taken.values())))
    print(f"{task}: clips a second, median and range of {clips} rounds")
    for name, rate in rates.items():
        whole = rate * median(taken[name])
        low, high = whole / max(taken[name]), whole / min(taken[name])
        print(f"  {name:22s}{rate:8.1f}   ({low:.1f} to {high:.1f})")
    [first, *rest] = rates.values()
    print(f"  ratio to the fastest other: {first / max(rest):.2f} (bar: 1.00)")


if __name__ == "__main__":
    main()
