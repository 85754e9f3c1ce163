"""Run folders of the Hugging Face Hub, wherever a checkpoint is taken: `hf://OWNER/NAME`.

    hf://OWNER/NAME              the run of a repository
    hf://OWNER/NAME@REVISION     at a branch, a tag or a commit
    hf://OWNER/NAME/rgb          the folder of one stream, or of one head (heads/NAME), in it

Only files that hold no code are fetched: weights as safetensors, YAML, JSON and text. They lie in
<cache>/hub/OWNER/NAME and serve without a network too. `engine.run.push` brings runs there.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from dualstream.engine.pair_recipe import PAIR_FILE
from dualstream.errors import CheckpointError, InputError
from dualstream.files import cache_folder
from dualstream.version import __version__

SCHEME = "hf://"

FETCHED = (
    *("model.safetensors", "recipe.yaml", "classes.txt", "run.json", "metrics.json"),
    *(PAIR_FILE, "fusion.json", "README.md"),
)
"""Names of files that are fetched, in whatever folder of a repository."""


@dataclass(frozen=True)
class HubAddress:
    """Place of a run on the Hub."""

    repository: str
    """OWNER/NAME."""
    revision: str | None = None
    """Branch, tag or commit; None is the main branch."""
    part: str = ""
    """Folder inside; empty for the whole."""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{SCHEME}{self.repository}{revision}{f'/{self.part}' if self.part else ''}"


def hub_address(path: str | os.PathLike[str]) -> HubAddress | None:
    """Return the address that a path is; None for an ordinary path.

    A `Path` made of an address serves too, although it has lost a slash (`hf:/owner/name`).

    Raises:
        InputError: it begins like an address and is none.
    """
    text = os.fspath(path).replace("\\", "/")
    if not re.match("hf:/", text):
        return None
    name = r"[A-Za-z0-9][A-Za-z0-9._-]*"
    found = re.fullmatch(rf"hf:/{{1,2}}({name}/{name})(?:@([^/@]+))?(?:/(.+?))?/?", text)
    if found is None or ".." in (found[3] or "").split("/"):
        raise InputError(
            f"{text!r} is no address of a run on the Hub: it is {SCHEME}OWNER/NAME, with @REVISION "
            "and /FOLDER after it where they are wanted."
        )
    return HubAddress(found[1], found[2], found[3] or "")


def local_run(path: str | os.PathLike[str]) -> Path:
    """Return the folder of a run: the path itself, or where that of an `hf://` address now lies.

    Files that are here already are not fetched again; without a network, or with HF_HUB_OFFLINE=1,
    those of the last time serve.

    Raises:
        InputError: an address that is none.
        CheckpointError: no such repository or revision, no network and nothing here, or a
            repository without a run.
    """
    address = hub_address(path)
    if address is None:
        return Path(path)
    from huggingface_hub import snapshot_download

    revision = f"@{address.revision}" if address.revision else ""
    place = cache_folder() / "hub" / f"{address.repository}{revision}"
    try:
        snapshot_download(
            address.repository,
            revision=address.revision,
            local_dir=place,
            allow_patterns=[pattern for name in FETCHED for pattern in (name, f"*/{name}")],
            library_name="dualstream",
            library_version=__version__,
        )
    except Exception as error:  # also its HTTP library's, which is another one in other versions
        raise hub_error(error, str(address), doing="fetched") from error
    folder = place / address.part
    if not any((folder / name).is_file() for name in ("recipe.yaml", PAIR_FILE)):
        raise CheckpointError(
            f"{address} holds no run: neither recipe.yaml nor {PAIR_FILE} is there. "
            "`dualstream push RUN OWNER/NAME` makes repositories that do."
        )
    return folder


def hub_error(error: Exception, what: str, *, doing: str) -> CheckpointError | InputError:
    """Return the error that says what huggingface_hub's means, and what to do.

    Args:
        error: any.
        what: address or repository.
        doing: "fetched" or "pushed".
    """
    from huggingface_hub import errors

    login = "log in with `hf auth login`, or set HF_TOKEN"
    status = getattr(getattr(error, "response", None), "status_code", None)
    first = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, errors.HFValidationError):
        return InputError(f"{what} is no name that the Hub takes: {first}")
    is_gated = isinstance(error, errors.GatedRepoError)
    is_missing = isinstance(error, errors.RepositoryNotFoundError) and not is_gated
    if is_gated or (status in (401, 403) and not (is_missing and doing == "fetched")):
        return CheckpointError(
            f"{what} cannot be {doing}: the Hub does not let this account ({first}). Ask for "
            f"access on its page, and {login}."
        )
    if is_missing:
        return CheckpointError(
            f"{what} cannot be {doing}: there is no such repository, or it is private. Check the "
            f"name; for a private one {login}."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return CheckpointError(
            f"{what} cannot be {doing}: the repository has no such revision. Leave @REVISION out "
            "for the newest."
        )
    if isinstance(error, errors.LocalTokenNotFoundError):
        return CheckpointError(f"{what} cannot be {doing}: there is no token. First {login}.")
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return CheckpointError(
            f"{what} cannot be {doing}: the Hub is not reached, and it is not in the cache "
            f"({cache_folder() / 'hub'}). Connect (and unset HF_HUB_OFFLINE), or copy the run "
            "folder here and give its path."
        )
    return CheckpointError(
        f"{what} cannot be {doing}: {type(error).__name__}, {first or 'no reason given'}. Check "
        "the connection and try again."
    )
