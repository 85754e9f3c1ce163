"""Run folders to the Hugging Face Hub.

Only files that hold no code travel, unless the state of the training is asked for: weights as
safetensors, YAML, JSON and text.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dualstream.engine.pair_recipe import PAIR_FILE, load_pair
from dualstream.engine.run.card import folder_name, model_card
from dualstream.engine.run.hub import hub_error
from dualstream.engine.run.info import FlowOrigin, RunInfo, read_run
from dualstream.errors import CheckpointError, InputError
from dualstream.version import __version__

TRAINER = "trainer.ckpt"

Content = Path | bytes
"""A file as it is, or what it is to hold."""


def push_to_hub(
    run: str | os.PathLike[str],
    repository: str,
    *,
    private: bool = False,
    with_trainer: bool = False,
    license: str | None = None,
    message: str | None = None,
    token: str | None = None,
) -> str:
    """Push a run, of one network or of several streams, to a repository of the Hub.

    Weights travel as safetensors with recipe, classes, origin and metrics, and a model card
    (README.md) that is written from them. In `run.json` the folders of this machine are cut to
    their names. The repository is made if it is not there; all files come in one commit.

    Args:
        run: run folder.
        repository: OWNER/NAME.
        private: whether a new repository is only for its owner.
        with_trainer: push `trainer.ckpt` too, for others to go on with the training.
        license: of the weights, as the Hub names it ("apache-2.0"); stands in the card.
        message: of the commit.
        token: of the Hub; None takes HF_TOKEN, or that of `hf auth login`.

    Returns:
        Address of the repository's page.

    Raises:
        InputError: `repository` is not OWNER/NAME.
        CheckpointError: no run folder, one without weights, or the Hub refuses or is not reached.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise InputError(f"A repository of the Hub is OWNER/NAME, got {repository!r}.")
    root = Path(run)
    files = run_files(root, with_trainer=with_trainer)
    files["README.md"] = model_card(root, repository, license=license).encode()
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(token=token, library_name="dualstream", library_version=__version__)
    operations = [
        CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
        for name, content in files.items()
    ]
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        api.create_commit(
            repository,
            operations,
            commit_message=message or f"Run {root.absolute().name}, dualstream {__version__}",
        )
    except Exception as error:  # as in `local_run`
        raise hub_error(error, repository, doing="pushed") from error
    return f"{getattr(api, 'endpoint', 'https://huggingface.co')}/{repository}"


def run_files(root: Path, *, with_trainer: bool = False) -> dict[str, Content]:
    """Return the files of a run that are pushed: name in the repository -> content.

    Of several streams these are the run of each, without those of folds, and the fusion.

    Raises:
        CheckpointError: no run folder, or one without readable weights.
    """
    if not (root / PAIR_FILE).is_file():
        return _files_of_one(root, with_trainer=with_trainer)
    files: dict[str, Content] = {PAIR_FILE: root / PAIR_FILE}
    if (root / "fusion.json").is_file():
        files["fusion.json"] = root / "fusion.json"
    for stream in load_pair(root / PAIR_FILE).streams:
        of_stream = _files_of_one(root / stream, with_trainer=with_trainer)
        files |= {f"{stream}/{name}": content for name, content in of_stream.items()}
    return files


def _files_of_one(root: Path, *, with_trainer: bool) -> dict[str, Content]:
    from safetensors import SafetensorError, safe_open

    _, _, info = read_run(root)
    if info.run_folder(root) != root:
        raise CheckpointError(
            f"{root} is a head of {info.run_folder(root)}; push that folder, which has the weights."
        )
    weights = root / "model.safetensors"
    if not weights.is_file():
        raise CheckpointError(
            f"{root} has no weights yet: finish it with `dualstream train --resume {root}`."
        )
    try:
        with safe_open(weights, "pt"):
            pass
    except SafetensorError as error:
        raise CheckpointError(f"{weights} is broken ({error}). Train again.") from error
    files: dict[str, Content] = {}
    for folder in {root, *info.head_folders(root).values()}:
        inside = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
        for name in ("recipe.yaml", "classes.txt", "metrics.json"):
            if (folder / name).is_file():
                files[inside + name] = folder / name
        files[f"{inside}run.json"] = _without_places(read_run(folder)[2])
    files["model.safetensors"] = weights
    if with_trainer and (root / TRAINER).is_file():
        files[TRAINER] = root / TRAINER
    return files


def _without_places(info: RunInfo) -> bytes:
    """The `run.json` of a run, the folders of this machine cut to their names."""

    def cut(origin: FlowOrigin) -> FlowOrigin:
        backward = origin.backward_store
        return dataclasses.replace(
            origin,
            store=folder_name(origin.store),
            backward_store=None if backward is None else folder_name(backward),
        )

    flow: Mapping[str, FlowOrigin] = {name: cut(origin) for name, origin in info.flow.items()}
    told = dataclasses.replace(info, manifest=folder_name(info.manifest), flow=flow)
    values: dict[str, Any] = dataclasses.asdict(told)
    return (json.dumps(values, indent=2) + "\n").encode()
