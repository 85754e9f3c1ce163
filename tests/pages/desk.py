"""What a reader of the documentation has: videos, data sets, published weights, a camera."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.cli.command import succeed

from dualstream.models import WEIGHTS, create_model
from dualstream.models.weights import cached_path, state_sha256
from dualstream.video import write_video

LABELS = ("golf", "pullup", "wave")

COPIES = (
    "arm_wrestling.mp4",
    "bar.mp4",
    "clip.mp4",
    "day.mp4",
    "day3.mp4",
    "long.mp4",
    "recorded.mp4",
    "six.mp4",
    "swing.mp4",
    "v_ApplyEyeMakeup_g01_c01.avi",
    "v_BaseballPitch_g01_c01.avi",
    "v_SoccerJuggling_g23_c01.avi",
    "video.mp4",
)
"""Videos by the names that pages give them."""


def acted(seconds: float, *, fps: int = 10, seed: int = 0) -> np.ndarray:
    """(T, 64, 80, 3) frames of a square that moves right and down by turns of 4 s."""
    texture = np.random.default_rng(seed).integers(60, 255, (24, 24, 3), dtype=np.uint8)
    frames = np.full((round(seconds * fps), 64, 80, 3), 25, np.uint8)
    for t, frame in enumerate(frames):
        x, y = (3 * t % 56, 4) if t // (4 * fps) % 2 == 0 else (4, 2 * t % 40)
        frame[y : y + 24, x : x + 24] = texture
    return frames


def fill(folder: Path) -> None:
    """Write what a reader of any page has; `work` is prepared, with flow."""
    rng = np.random.default_rng(0)
    for label in LABELS:
        for number in range(10):
            file = folder / "my_videos" / label / f"{label}_{number:02}.mp4"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_video(file, rng.integers(0, 255, (18, 64, 80, 3), dtype=np.uint8), fps=25)
    write_video(folder / "a.mp4", acted(2), fps=10)
    for name in COPIES:
        shutil.copyfile(folder / "a.mp4", folder / name)
    for name in ("list.txt", "clips.txt"):
        (folder / name).write_text("a.mp4\nbar.mp4\n")
    _intervals(folder)
    _ucf101(folder / "ucf101", folder / "my_videos")
    _jhmdb(folder / "jhmdb-data", folder / "my_videos")
    succeed("prepare", folder / "my_videos", "--out", folder / "work", "--test-fraction", "0.25")
    succeed("flow", folder / "work")


def _intervals(folder: Path) -> None:
    """Long videos with marked intervals: `videos` with marks.csv, and `days`."""
    write_video(folder / "videos/day_1.mp4", acted(30), fps=10)
    write_video(folder / "videos/day_2.mp4", acted(12), fps=10)
    write_video(folder / "videos/day_3.mp4", acted(40), fps=10)
    marks = "day_1.mp4,8,11,golf\nday_2.mp4,0,4,golf\nday_2.mp4,4,8,brushing hair\n"
    (folder / "marks.csv").write_text(f"path,start_seconds,end_seconds,label\n{marks}")
    rows = []
    for number in range(1, 5):
        write_video(folder / f"days/day{number}.mp4", acted(24, seed=number), fps=10)
        for start in range(0, 20, 4):
            label = ("wave", "walk")[start // 4 % 2]
            rows.append(f"day{number}.mp4,{start},{start + 2.5},{label}")
    text = "\n".join(["path,start_seconds,end_seconds,label", *rows, ""])
    (folder / "days" / "scored.csv").write_text(text)


def _ucf101(folder: Path, videos: Path) -> None:
    """A folder in the form of UCF-101, with two classes and the lists of three splits."""
    lists = folder / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    lists.joinpath("classInd.txt").write_text("1 Golf\n2 Wave\n")
    names = []
    for number, label in enumerate(("Golf", "Wave"), start=1):
        for group in range(1, 8):
            name = f"v_{label}_g{group:02}_c01.avi"
            names.append((group, f"{label}/{name}", number))
            file = folder / "videos" / name
            file.parent.mkdir(exist_ok=True)
            shutil.copyfile(videos / f"{label.lower()}/{label.lower()}_0{group}.mp4", file)
    for split in (1, 2, 3):
        train = [f"{name} {label}\n" for group, name, label in names if group > 2 + split % 2]
        test = [f"{name}\n" for group, name, _ in names if group <= 2 + split % 2]
        lists.joinpath(f"trainlist0{split}.txt").write_text("".join(train))
        lists.joinpath(f"testlist0{split}.txt").write_text("".join(test))


def _jhmdb(folder: Path, videos: Path) -> None:
    """A folder in the form of J-HMDB, with three classes and the lists of three splits."""
    (folder / "splits").mkdir(parents=True)
    for label in LABELS:
        shutil.copytree(videos / label, folder / "videos" / label)
        for split in (1, 2, 3):
            rows = [f"{label}_{n:02}.avi {2 if n % 3 == split - 1 else 1}\n" for n in range(10)]
            (folder / "splits" / f"{label}_test_split{split}.txt").write_text("".join(rows))


def stand_in(name: str, patch: pytest.MonkeyPatch) -> None:
    """Random weights in the place of published ones."""
    entry = WEIGHTS[name]
    torch.manual_seed(0)
    state = create_model(entry.model, **{"num_classes": 400, **entry.options}).state_dict()
    cached_path(name).parent.mkdir(parents=True, exist_ok=True)
    from safetensors.torch import save_file

    save_file(state, cached_path(name))
    patch.setitem(WEIGHTS, name, replace(entry, tensors_sha256=state_sha256(state)))
