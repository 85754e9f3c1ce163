"""All verbs under one Typer application, and what an error looks like."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dualstream.cli.demo import demo
from dualstream.cli.expand import expand
from dualstream.cli.flow import flow
from dualstream.cli.fuse import fuse
from dualstream.cli.inspect import inspect
from dualstream.cli.models import models
from dualstream.cli.predict import predict
from dualstream.cli.prepare import prepare
from dualstream.cli.test import test
from dualstream.cli.train import train
from dualstream.cli.transfer import transfer
from dualstream.cli.weights import weights
from dualstream.errors import DualstreamError, InputError, RecipeError
from dualstream.version import __version__

app = typer.Typer(
    name="dualstream",
    help="Two-stream action recognition in video: what a frame shows, and how it moves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


INTERRUPTED = 130
"""Exit code that Typer makes of Ctrl-C."""


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"dualstream {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print and leave."),
    ] = False,
) -> None:
    """Options before the verb."""


for verb in (demo, prepare, flow, train, transfer, expand, test, fuse, predict, models, inspect):
    app.command()(verb)
app.add_typer(weights, name="weights")


def run() -> None:
    """Run the command line; exit code 0, 1 (the work failed) or 2 (the call was wrong)."""
    try:
        app()
    except (InputError, RecipeError) as error:
        print(f"dualstream: {error}", file=sys.stderr)
        sys.exit(2)
    except DualstreamError as error:
        print(f"dualstream: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that may not be written
        print(f"dualstream: {error}. Mend this and run the command again.", file=sys.stderr)
        sys.exit(1)
    except SystemExit as end:
        sys.exit(1 if end.code == INTERRUPTED else end.code)
