"""All verbs under one Typer application, and what becomes of their errors."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from dualstream.cli import output
from dualstream.cli.demo import demo
from dualstream.cli.doctor import doctor
from dualstream.cli.expand import expand
from dualstream.cli.explain import explain as explain_verb
from dualstream.cli.export import export
from dualstream.cli.flow import flow
from dualstream.cli.fuse import fuse
from dualstream.cli.inspect import inspect
from dualstream.cli.models import models, weights
from dualstream.cli.predict import predict
from dualstream.cli.prepare import prepare
from dualstream.cli.push import push
from dualstream.cli.serve import serve
from dualstream.cli.train import test, train, transfer
from dualstream.cli.watch import watch
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


for verb in (
    *(demo, prepare, flow, train, transfer, expand, test, fuse, predict, watch),
    *(explain_verb, serve, export, push, models, inspect, doctor),
):
    app.command()(verb)
app.add_typer(weights, name="weights")


def run() -> None:
    """Run the command line; exit code 0, 1 (the work failed) or 2 (the call was wrong).

    With --json, a failure is an object with `error` and `exit_code` on stdout, unless the verb
    has printed its own.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console without the letters of a path
            stream.reconfigure(errors="backslashreplace")
    output.json_printed = False
    try:
        app()
    except SystemExit as end:
        code = 1 if end.code == INTERRUPTED else end.code
        if code:
            _print_failure("The call was wrong or the work failed; stderr says why.", code)
        sys.exit(code)
    except Exception as error:
        found = explain(error)
        if found is None:
            raise
        message, code = found
        print(f"dualstream: {message}", file=sys.stderr)
        _print_failure(message, code)
        sys.exit(code)


def explain(error: Exception) -> tuple[str, int] | None:
    """Message and exit code of an error that users can do something about; None for others.

    Libraries have their own errors for what Python calls OSError and MemoryError.
    """
    if isinstance(error, InputError | RecipeError):
        return str(error), 2
    if isinstance(error, DualstreamError):
        return str(error), 1
    if isinstance(error, OSError):  # a folder that may not be read, a network drive that is gone
        return f"{error}. Check that path and run the command again.", 1
    text = str(error)
    is_torch = isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text
    )
    if isinstance(error, MemoryError) or is_torch:
        first = text.partition("\n")[0] or "the system gives no more"
        return (
            f"Not enough memory ({first}). Lower train.batch_size, data.workers or --workers, or "
            "end other programs, and run the command again."
        ), 1
    return None


def _print_failure(message: str, code: object) -> None:
    if "--json" in sys.argv and not output.json_printed:
        output.print_json({"error": message, "exit_code": code})
