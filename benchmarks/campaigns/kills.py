"""Processes killed at any point, and run again to their end: nothing is lost, nothing is half."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .tiny import tiny_recipe, tiny_run, tiny_videos
from .videos import MEMORY

_MOST_SECONDS = 600.0


@dataclass(frozen=True)
class Verb:
    """A command that is killed: its arguments in a work folder, and what it must leave."""

    command: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]]
    """The command that goes on after a kill."""
    result: Callable[[Path], Any]
    """What must be the same as of a run that was never killed."""


def _files(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, and its checksum."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _flow(work: Path) -> list[str]:
    return ["flow", str(work / "data"), "--out", str(work / "out"), "--workers", "2", "--json"]


def _prepare(work: Path) -> list[str]:
    return ["prepare", str(work / "data"), "--out", str(work / "out"), "--workers", "2", "--json"]


def _prepared(work: Path) -> Any:
    """The manifest and the problems, without the folder that they lie in."""
    names = ("manifest.csv", "classes.txt", "problems.csv")
    return {name: (work / "out" / name).read_text().replace(str(work), "") for name in names}


def _train(work: Path) -> list[str]:
    recipe = work / "recipe.yaml"
    return ["train", str(work / "data"), "--recipe", str(recipe), "--out", str(work / "out")]


def _train_on(work: Path) -> list[str]:
    """A run that has not come as far as its folder is begun anew."""
    if (work / "out" / "recipe.yaml").is_file():
        return ["train", "--resume", str(work / "out")]
    shutil.rmtree(work / "out", ignore_errors=True)
    return _train(work)


def _trained(work: Path) -> Any:
    rows = list(csv.reader((work / "out" / "log.csv").read_text().splitlines()))
    weights = (work / "out" / "model.safetensors").read_bytes()
    return [hashlib.sha256(weights).hexdigest(), rows]


def _predict(work: Path) -> list[str]:
    out = str(work / "out" / "p.jsonl")
    return [
        "predict",
        str(work / "data" / "videos"),
        "--checkpoint",
        str(work / "run"),
        "--out",
        out,
    ]


def _predicted(work: Path) -> Any:
    lines = (work / "out" / "p.jsonl").read_text().replace(str(work), "").splitlines()
    entries = [json.loads(line) for line in lines]
    return sorted(map(json.dumps, entries))


VERBS: dict[str, Verb] = {
    "flow": Verb(_flow, _flow, lambda work: _files(work / "out")),
    "prepare": Verb(_prepare, _prepare, _prepared),
    "train": Verb(_train, _train_on, _trained),
    "predict": Verb(_predict, _predict, _predicted),
}


def write_data(folder: Path, verb: str) -> None:
    """Write what a command works on; runs of it last for some seconds."""
    from dualstream.clips.data.prepare import prepare, split_by_source
    from dualstream.engine.recipe import dump_recipe

    tiny_videos(folder / "data", per_class=3, num_frames=20)
    if verb == "train":
        report = prepare(folder / "data").report()
        split_by_source(report.manifest, test_fraction=0.34).write(folder / "data")
        (folder / "recipe.yaml").write_text(dump_recipe(tiny_recipe("rgb")))
    if verb == "predict":
        tiny_run(folder / "run", "rgb")
    (folder / "out").mkdir()
    if verb == "train":
        (folder / "out").rmdir()


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    """Begin a command, in a group of processes of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "dualstream", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def unbroken(verb: str, work: Path) -> tuple[Any, float]:
    """Result of a run that nobody kills, and its seconds; data are made on the first call."""
    folder = work / f"kills-{verb}"
    kept = folder / "unbroken.json"
    if kept.is_file():
        found = json.loads(kept.read_text())
        return found["result"], found["seconds"]
    shutil.rmtree(folder, ignore_errors=True)
    write_data(folder / "sound", verb)
    trial = _copy(folder / "sound", folder / "trial")
    begun = time.monotonic()
    process = start(VERBS[verb].command(trial))
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{verb} fails without a kill: {errors.decode()[-500:]}")
    seconds = time.monotonic() - begun
    result = json.loads(json.dumps(VERBS[verb].result(trial)))
    kept.write_text(json.dumps({"result": result, "seconds": seconds}))
    return result, seconds


def _copy(sound: Path, to: Path) -> Path:
    """The data in the folder where the command always works: results may name it."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(sound, to)
    return to


def record_of(seed: int, verb: str, work: Path) -> dict[str, Any]:
    """Kill one run, once to three times, let it go on to its end and compare.

    The moment is drawn evenly over the time that an unbroken run took; most of it is the start of
    Python, so half of the moments are counted from when the first file appeared.
    """
    expected, seconds = unbroken(verb, work)
    rng = random.Random(f"{verb} {seed}")
    folder = work / f"kills-{verb}"
    trial = _copy(folder / "sound", folder / "trial")
    kills = []
    for number in range(rng.choice((1, 1, 2, 3))):
        make = VERBS[verb].command if number == 0 else VERBS[verb].again
        process = start(make(trial))
        if rng.randrange(2):
            _wait_for_a_file(trial / "out", process)
            time.sleep(rng.uniform(0, 0.3 * seconds))
        else:
            time.sleep(rng.uniform(0, seconds))
        is_alive = process.poll() is None
        only_parent = rng.randrange(3) == 0
        if is_alive:
            (os.kill if only_parent else os.killpg)(process.pid, signal.SIGKILL)
        process.communicate()
        kills.append("parent" if only_parent and is_alive else "all" if is_alive else "late")
    process = start(VERBS[verb].again(trial))
    try:
        _, errors = process.communicate(timeout=_MOST_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return {"kills": kills, "verdict": "hung", "detail": ""}
    if process.returncode:
        return {"kills": kills, "verdict": "foreign", "detail": errors.decode()[-600:]}
    try:
        found = json.loads(json.dumps(VERBS[verb].result(trial)))
    except OSError as error:
        return {"kills": kills, "verdict": "lost", "detail": str(error)}
    if found != expected:
        return {"kills": kills, "verdict": "lost", "detail": _difference(found, expected)}
    return {"kills": kills, "verdict": "read"}


def _wait_for_a_file(folder: Path, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None and not (folder.is_dir() and any(folder.iterdir())):
        time.sleep(0.01)


def _difference(found: Any, expected: Any) -> str:
    if isinstance(found, dict) and isinstance(expected, dict):
        names = [k for k in {**found, **expected} if found.get(k) != expected.get(k)]
        return f"differ: {names[:5]}"
    return f"{str(found)[:250]} instead of {str(expected)[:250]}"


def work_folder(work: Path) -> Path:
    """Where runs are killed: memory, as nothing here is about the disk's own speed."""
    return Path(MEMORY or work) / "dualstream-kills"
