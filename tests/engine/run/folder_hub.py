"""A folder that stands in for the Hugging Face Hub."""

from __future__ import annotations

import fnmatch
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest


class FolderHub:
    """The Hub as a folder: OWNER/NAME/files. `failing` is raised instead of doing anything."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.failing: Exception | None = None
        self.made: list[dict[str, Any]] = []
        self.messages: list[str] = []

    # as `huggingface_hub.HfApi`

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        if self.failing is not None:
            raise self.failing
        assert exist_ok
        self.made.append({"repo_id": repo_id, "private": private})
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)

    def create_commit(self, repo_id: str, operations: list[Any], *, commit_message: str) -> None:
        self.messages.append(commit_message)
        for operation in operations:
            target = self.root / repo_id / operation.path_in_repo
            target.parent.mkdir(parents=True, exist_ok=True)
            with operation.as_file() as file:
                target.write_bytes(file.read())

    # as `huggingface_hub.snapshot_download`

    def snapshot_download(
        self,
        repo_id: str,
        *,
        revision: str | None,
        local_dir: Path,
        allow_patterns: list[str],
        **_: object,
    ) -> str:
        if self.failing is not None:
            if local_dir.is_dir():  # what was fetched before serves
                return str(local_dir)
            raise self.failing
        repository = self.root / repo_id
        for file in repository.rglob("*"):
            name = file.relative_to(repository).as_posix()
            if file.is_file() and any(fnmatch.fnmatch(name, one) for one in allow_patterns):
                (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, local_dir / name)
        return str(local_dir)


def hub_in(folder: Path, patch: pytest.MonkeyPatch) -> FolderHub:
    """What `huggingface_hub` reaches from now on."""
    found = FolderHub(folder)
    patch.setattr(huggingface_hub, "HfApi", lambda **_: found)
    patch.setattr(huggingface_hub, "snapshot_download", found.snapshot_download)
    return found
