"""Training clips a second: dualstream's loader beside the same sampling on decord and on OpenCV.

The task is TSN's: three random snippets of each video, one multi-scale corner crop and flip for
all of them, resized to 224 x 224, batches of 16, two worker processes of one thread each.

    rgb   one frame a snippet, from H.264 files: dualstream, decord, OpenCV's VideoCapture
    flow  stacks of five fields: dualstream's flow store, and a folder of JPEG files a video read
          with cv2.imread (how MMAction2 and denseflow keep flow)

Every contender gets the same positions, boxes and flips from dualstream's own samplers, cuts
before it resizes, and runs in torch's DataLoader with the same settings: what differs is the
decoding, the cutting and the joining. Rounds are interleaved (each contender reads every video
once a round), the figures are medians over the rounds; `ratio` is the median over the rounds of
ours / the fastest other of that round.

decord is no dependency of dualstream. In an environment of its own, on top of the project's:

    python3.11 -m venv /tmp/bench-loader
    echo "import site; site.addsitedir('$PWD/.venv/lib/python3.11/site-packages')" \\
        > /tmp/bench-loader/lib/python3.11/site-packages/project.pth
    /tmp/bench-loader/bin/pip install decord
    /tmp/bench-loader/bin/python benchmarks/loader.py --json benchmarks/results/loader.json

Without decord its line is left out, and the result says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from measure import machine_facts
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from dualstream.clips.dataset import ClipDataset, Cropping, Sampling
from dualstream.clips.geometry import View, multi_scale_crop, reference_size, source_box
from dualstream.clips.loader import EpochBatches, make_loader
from dualstream.clips.manifest import Manifest, VideoRecord
from dualstream.clips.samplers import segment_starts_random
from dualstream.flow import FlowMeta, FlowStore, optical_flow, quantize, write_folder
from dualstream.types import InputSpec
from dualstream.video import VideoReader

SEGMENTS, FIELDS, SHORT_SIDE, SIZE = 3, 5, 256, 224
NEGATED_BYTE = np.minimum(256 - np.arange(256), 255).astype(np.uint8)
Task = Literal["rgb", "flow"]


@dataclass(frozen=True)
class Rates:
    """Clips a second of one contender, a figure a round."""

    name: str
    median: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Files:
    """What is read: the videos, and their flow in both forms."""

    manifest: Manifest
    store: Path
    folders: Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__).resolve()
    default = here.parents[2] / "shared/data/jhmdb/videos"
    parser.add_argument("--videos", type=Path, default=default, help="folder of class folders")
    parser.add_argument("--per-class", type=int, default=8, help="videos of each class")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        files = prepare(options.videos, Path(work), per_class=options.per_class)
        result: dict[str, Any] = {
            "benchmark": "loader",
            "unit": "clips a second",
            "videos": len(files.manifest),
            "workers": options.workers,
            "batch_size": options.batch_size,
            "machine": machine_facts(["torch", "opencv-python-headless", "av", "decord"]),
        }
        for task in ("rgb", "flow"):
            loaders = contenders(task, files, workers=options.workers, size=options.batch_size)
            rates, ratio = compare(loaders, rounds=options.rounds)
            result[task] = {"rates": [asdict(rate) for rate in rates], "ratio": ratio}
            print_table(task, rates, ratio)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")


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
            records.append(
                VideoRecord(video, label, (), len(frames), info.fps, width, height, "")
            )
            # What the flow is does not matter here, only how many bytes it takes: the quick way.
            flow = optical_flow(frames, method="farneback").data
            meta = FlowMeta(method="farneback", fps=info.fps, source=video, version="benchmark")
            store.write(video, [quantize(flow)], meta)
            write_folder(work / "folders" / Path(video).with_suffix(""), [flow], meta)
    manifest = Manifest(tuple(records), classes, videos)
    return Files(manifest, store.root, work / "folders")


def contenders(
    task: Task, files: Files, *, workers: int, size: int
) -> dict[str, Callable[[int], Iterator[Any]]]:
    """Name -> function of an epoch that gives its batches; dualstream first."""
    spec = InputSpec("rgb", short_side=SHORT_SIDE, crop_size=SIZE)
    if task == "flow":
        spec = InputSpec(
            "flow",
            num_frames=FIELDS,
            short_side=SHORT_SIDE,
            crop_size=SIZE,
            mean=(0.0, 0.0),
            std=(1.0, 1.0),
            flow_method="farneback",
        )
    ours = ClipDataset(
        files.manifest,
        [spec],
        sampling=Sampling("random_segments", segments=SEGMENTS),
        cropping=Cropping("multi_scale"),
        flip=True,
        flow_store=FlowStore(files.store) if task == "flow" else None,
    )
    batches = EpochBatches(ours.labels, batch_size=size)
    loader = make_loader(ours, batches, workers=workers)
    readers: dict[str, Callable[..., torch.Tensor]] = {"OpenCV": read_opencv}
    if task == "flow":
        readers = {"JPEG folders (cv2.imread)": read_jpeg_folder}
    elif importlib.util.find_spec("decord") is not None:
        readers["decord"] = read_decord
    loaders: dict[str, Any] = {"dualstream": loader}
    for name, read in readers.items():
        loaders[name] = DataLoader(
            PlainDataset(files, task, read),
            batch_sampler=batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=one_thread,
            multiprocessing_context=loader.multiprocessing_context,
        )

    def epoch_of(loader: Any) -> Callable[[int], Iterator[Any]]:
        def start(epoch: int) -> Iterator[Any]:
            batches.set_epoch(epoch)
            return iter(loader)

        return start

    return {name: epoch_of(loader) for name, loader in loaders.items()}


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
                    image = NEGATED_BYTE[image]
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


def compare(
    loaders: dict[str, Callable[[int], Iterator[Any]]], *, rounds: int
) -> tuple[list[Rates], float]:
    """Clips a second of each loader, and the median ratio of the first to the best other."""
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for epoch in range(-1, rounds):  # the first one starts the workers and fills the file cache
        names = list(loaders)
        for name in names[epoch % len(names) :] + names[: epoch % len(names)]:
            batches = loaders[name](epoch + 1)
            started, clips = time.perf_counter(), 0
            for batch in batches:
                clips += len(batch) if name == "dualstream" else len(batch[1])
            if epoch >= 0:
                rates[name].append(clips / (time.perf_counter() - started))
    ours, *others = rates.values()
    ratios = [mine / max(theirs) for mine, *theirs in zip(ours, *others, strict=True)]
    table = [
        Rates(name, float(np.median(values)), min(values), max(values))
        for name, values in rates.items()
    ]
    return table, float(np.median(ratios))


def print_table(task: Task, rates: Sequence[Rates], ratio: float) -> None:
    print(f"{task}: clips a second, median (lowest..highest) of the rounds")
    for rate in rates:
        print(f"  {rate.name:28s}{rate.median:8.1f}  ({rate.lowest:.1f}..{rate.highest:.1f})")
    print(f"  dualstream / fastest other: {ratio:.2f}")


if __name__ == "__main__":
    main()
