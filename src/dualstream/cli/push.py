"""`dualstream push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dualstream.cli.options import Json
from dualstream.cli.output import print_json, stderr


def push(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    repository: Annotated[str, typer.Argument(help="OWNER/NAME on the Hugging Face Hub.")],
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository for its owner only.")
    ] = False,
    with_trainer: Annotated[
        bool, typer.Option("--with-trainer", help="Push trainer.ckpt too, to go on training from.")
    ] = False,
    license: Annotated[
        str | None, typer.Option(help="Of the weights, such as apache-2.0, for the model card.")
    ] = None,
    message: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
    json: Json = False,
) -> None:
    """Push a run to the Hugging Face Hub, for `--checkpoint hf://OWNER/NAME` anywhere."""
    from dualstream.engine.run.push import push_to_hub

    with stderr().status(f"pushing {run}"):
        page = push_to_hub(
            run,
            repository,
            private=private,
            with_trainer=with_trainer,
            license=license,
            message=message,
        )
    if json:
        print_json({"repository": repository, "page": page, "checkpoint": f"hf://{repository}"})
        return
    print(page)
    print(f"dualstream predict VIDEO --checkpoint hf://{repository}")
