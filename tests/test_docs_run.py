"""What the documentation tells to type is typed: page by page, in order, on tiny videos.

A page's own commands run, with small stand-ins for what a reader brings (videos, trained networks,
published weights) and for what takes hours (epochs, pixels, cores). Commands that a test cannot run
are listed with what keeps it from that; README's are run by `test_readme`.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.cli.command import succeed
from tests.engine.tiny import untrained_pair
from tests.test_docs import DOCS, PAGES, commands, name_of

from dualstream.engine.teach.settings import TeachSettings
from dualstream.engine.teach.teacher import Teacher
from dualstream.models import WEIGHTS, create_model
from dualstream.models.weights import cached_path, state_sha256
from dualstream.scores import Fusion
from dualstream.video import write_video

LABELS = ("golf", "pullup", "wave")

SMALL = (
    "train.epochs=1",
    "train.batch_size=4",
    "data.workers=0",
    "data.frozen_views=0",
    "clip.short_side=36",
    "clip.crop_size=32",
    "test.segments=1",
    "test.crops=center",
)
"""Changes to a recipe for a training of seconds."""

TSN = (
    *SMALL,
    "train.segments=1",
    "model.options.backbone=test_resnet",
    "model.options.pretrained=false",
)

I3D = (*SMALL, "input.num_frames=8")


@dataclass(frozen=True)
class Page:
    """How the commands of a page are run."""

    put: Mapping[str, str] = field(default_factory=dict)
    """Words in place of others."""
    small: tuple[str, ...] = SMALL
    """Added to each `train`."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Beginning of commands that are not run -> why."""
    before: tuple[str, ...] = ()
    """Commands that another page tells and this one goes on from."""
    needs: str = ""
    """Module that is not installed everywhere."""


PUBLISHED = ("efficientnet_lite0_imagenet", "i3d_rgb_kinetics400", "slow_r50_kinetics400")
"""Weights that the guide to fine-tuning starts from."""

CAMERA = "there is no camera or stream"
DAYS = "trains on J-HMDB for hours"
MACHINES = "wants a cluster; test_flow_cluster extracts on one"

FOLLOWED = {
    "bulk.md": Page(
        {"FOLDER": "my_videos/golf", "RUN": "runs/rgb", "RGB": "runs/rgb", "FLOW": "runs/flow"},
        needs="pyarrow",
    ),
    "explain.md": Page(),
    "export.md": Page(
        {"runs/spatial": "runs/rgb", "runs/temporal": "runs/flow", "VIDEO": "a.mp4"},
        left={"export runs/streams": DAYS},
        needs="onnx",
    ),
    "fusion.md": Page({"VIDEOS": "ucf101"}, TSN),
    "guide/cameras.md": Page(left={"watch 0": CAMERA, "watch rtsp": CAMERA}),
    "guide/fine_tuning.md": Page(small=I3D),
    "guide/flow_at_scale.md": Page(left={"flow work --ray": MACHINES}),
    "guide/own_data.md": Page(small=("train.epochs=1",)),
    "guide/own_intervals.md": Page({"DATA": "days"}, ("train.epochs=1",)),
    "guide/page.md": Page({"8001": "0"}, needs="fastapi"),
    "guide/ucf101.md": Page(small=TSN),
    "idt.md": Page(
        {"DATA": "work", "VIDEO": "a.mp4", "FOLDER": "found", "few": "work", "jhmdb": "work"},
        ("encoding.gaussians=4", "encoding.samples=400"),
        left={"test 1": DAYS},
        before=("test runs/flow",),
        needs="dualstream.flow._trajectories",
    ),
    "index.md": Page({"arm_wrestling.mp4": "a.mp4"}, left={"demo": "test_readme runs it"}),
    "intervals.md": Page(
        {"DATA": "days"},
        ("train.epochs=1",),
        left={
            "prepare long": "wants J-HMDB",
            "train work --recipe jhmdb_i3d": DAYS,
            "test runs/long": DAYS,
        },
    ),
    "long_video.md": Page(left={"watch rtsp": CAMERA}),
    "serve.md": Page(needs="fastapi"),
    "teach.md": Page({"runs/my_rgb": "runs/rgb", "runs/my_flow": "runs/flow"}),
    "timelines.md": Page(),
}
"""Page -> how it is run."""

TRAINS = "trains published networks; test_recipes_train trains each recipe, made small"

LEFT = {
    "explained.md": "explains clips of J-HMDB; explain.md's commands are the same and run",
    "guide/many_gpus.md": "wants several GPUs; test_train_processes trains in two processes",
    "hub.md": "wants an account at the Hugging Face Hub",
    "networks.md": TRAINS,
    "results.md": DAYS,
    "speed.md": "measures, on the demo's videos",
    **{f"networks/{page.name}": TRAINS for page in (DOCS / "networks").glob("*.md")},
}
"""Page of which no command is run -> why."""


def acted(seconds: float, *, fps: int = 10, seed: int = 0) -> np.ndarray:
    """(T, 64, 80, 3) frames of a square that moves right and down by turns of 4 s."""
    texture = np.random.default_rng(seed).integers(60, 255, (24, 24, 3), dtype=np.uint8)
    frames = np.full((round(seconds * fps), 64, 80, 3), 25, np.uint8)
    for t, frame in enumerate(frames):
        x, y = (3 * t % 56, 4) if t // (4 * fps) % 2 == 0 else (4, 2 * t % 40)
        frame[y : y + 24, x : x + 24] = texture
    return frames


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader of any page has; do not change it."""
    folder = tmp_path_factory.mktemp("reader")
    rng = np.random.default_rng(0)
    for label in LABELS:
        for number in range(10):
            file = folder / "my_videos" / label / f"{label}_{number:02}.mp4"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_video(file, rng.integers(0, 255, (18, 64, 80, 3), dtype=np.uint8), fps=25)
    write_video(folder / "a.mp4", acted(2), fps=10)
    for name in (
        "bar",
        "recorded",
        "swing",
        "v_SoccerJuggling_g23_c01",
        "video",
        "day",
        "day3",
        "six",
    ):
        suffix = ".avi" if name.startswith("v_") else ".mp4"
        shutil.copyfile(folder / "a.mp4", folder / f"{name}{suffix}")
    for name in ("list.txt", "clips.txt"):
        (folder / name).write_text("a.mp4\nbar.mp4\n")
    write_video(folder / "videos/day_1.mp4", acted(30), fps=10)
    write_video(folder / "videos/day_2.mp4", acted(12), fps=10)
    write_video(folder / "videos/day_3.mp4", acted(40), fps=10)
    rows = "day_1.mp4,8,11,golf\nday_2.mp4,0,4,golf\nday_2.mp4,4,8,brushing hair\n"
    (folder / "marks.csv").write_text(f"path,start_seconds,end_seconds,label\n{rows}")
    rows = []
    for number in range(1, 5):
        write_video(folder / f"days/day{number}.mp4", acted(24, seed=number), fps=10)
        for start in range(0, 20, 4):
            label = ("wave", "walk")[start // 4 % 2]
            rows.append(f"day{number}.mp4,{start},{start + 2.5},{label}")
    text = "\n".join(["path,start_seconds,end_seconds,label", *rows, ""])
    (folder / "days" / "scored.csv").write_text(text)
    ucf101(folder)
    succeed("prepare", folder / "my_videos", "--out", folder / "work", "--test-fraction", "0.25")
    succeed("flow", folder / "work")
    return folder


def ucf101(folder: Path) -> None:
    """A folder in the form of UCF-101, with two classes and the lists of three splits."""
    lists = folder / "ucf101" / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    lists.joinpath("classInd.txt").write_text("1 Golf\n2 Wave\n")
    names = []
    for number, label in enumerate(("Golf", "Wave"), start=1):
        for group in range(1, 8):
            name = f"v_{label}_g{group:02}_c01.avi"
            names.append((group, f"{label}/{name}", number))
            file = folder / "ucf101" / "videos" / name
            file.parent.mkdir(exist_ok=True)
            shutil.copyfile(
                folder / f"my_videos/{label.lower()}/{label.lower()}_0{group}.mp4", file
            )
    for split in (1, 2, 3):
        train = [f"{name} {label}\n" for group, name, label in names if group > 2 + split % 2]
        test = [f"{name}\n" for group, name, _ in names if group <= 2 + split % 2]
        lists.joinpath(f"trainlist0{split}.txt").write_text("".join(train))
        lists.joinpath(f"testlist0{split}.txt").write_text("".join(test))


def stand_in(name: str, patch: pytest.MonkeyPatch) -> None:
    """Random weights in the place of published ones."""
    entry = WEIGHTS[name]
    torch.manual_seed(0)
    state = create_model(entry.model, **{"num_classes": 400, **entry.options}).state_dict()
    cached_path(name).parent.mkdir(parents=True, exist_ok=True)
    from safetensors.torch import save_file

    save_file(state, cached_path(name))
    patch.setitem(WEIGHTS, name, replace(entry, tensors_sha256=state_sha256(state)))


@pytest.fixture
def desk(reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the reader's files, in which commands run, with trained networks in `runs`."""
    folder = tmp_path / "desk"
    shutil.copytree(reader, folder)
    untrained_pair(folder / "work", folder / "runs", Fusion("mean", 2))
    (folder / "cache").mkdir()
    monkeypatch.setenv("DUALSTREAM_CACHE", str(folder / "cache"))
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.stdin", io.StringIO("a.mp4\nbar.mp4\n"))
    return folder


def changed(words: list[str], page: Page) -> list[str]:
    """A command of a page as it is run."""
    found = [page.put.get(word, word) for word in words]
    for number, word in enumerate(found[:-1]):
        if word == "--workers":
            found[number + 1] = "2"
        if word == "--weights":  # no test can download them; a run is used in the same way
            found[number : number + 2] = ["--checkpoint", "runs/rgb"]
    return [*found, *page.small] if words[0] == "train" else found


def run(words: list[str], desk: Path) -> None:
    """Run a command; what another one of the page wrote to the same place goes first."""
    if words[0] == "serve":
        from tests.serve.service import Running

        service = Running(None, desk / "served", *words[1:])
        with service.client() as client:
            assert client.get("/healthz").json()["status"] == "ok"
        assert service.end() == 0
        return
    if words[0] in ("train", "predict") and "--out" in words:
        out = Path(words[words.index("--out") + 1])
        shutil.rmtree(out, ignore_errors=True)
        for file in Path().glob(f"{out.stem}.*"):
            file.unlink()
    succeed(*words)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLLOWED)
def test_a_page_is_followed(name: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = FOLLOWED[name]
    if page.needs:
        pytest.importorskip(page.needs)
    if name == "guide/fine_tuning.md":
        for weights in PUBLISHED:
            stand_in(weights, monkeypatch)
    if name.startswith(("guide/own", "intervals.md")):
        shutil.rmtree(desk / "work")
        shutil.rmtree(desk / "runs")
    if name in ("teach.md", "guide/page.md"):
        Teacher(desk / "sports", TeachSettings(rgb=str(desk / "runs/rgb")))
    for line in page.before:
        succeed(*line.split())
    num_run = 0
    for words in commands(DOCS / name):
        if not " ".join(words).startswith(tuple(page.left)):
            run(changed(words, page), desk)
            num_run += 1
    assert num_run
    if name == "guide/own_data.md":
        assert (desk / "runs" / "report.html").is_file()


def test_every_page_is_followed_or_says_why_not() -> None:
    told = {name_of(page).removeprefix("docs/") for page in PAGES if any(commands(page))}
    assert told == {*FOLLOWED, *LEFT, "README.md"}
    for name, page in FOLLOWED.items():
        typed = [" ".join(words) for words in commands(DOCS / name)]
        for start in page.left:
            assert any(line.startswith(start) for line in typed), (name, start)
