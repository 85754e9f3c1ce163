"""The command line in this process: another one imports torch for seconds."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from unittest import mock

from dualstream.cli.app import run


@dataclass(frozen=True)
class Done:
    """Exit code of a command, and what it printed."""

    code: int
    stdout: str
    stderr: str


def dualstream(*arguments: object) -> Done:
    """Run `dualstream` with these arguments."""
    stdout, stderr = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        mock.patch("sys.argv", ["dualstream", *map(str, arguments)]),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            run()
        except SystemExit as end:
            code = end.code or 0
    assert isinstance(code, int)
    return Done(code, stdout.getvalue(), stderr.getvalue())


def succeed(*arguments: object) -> str:
    """Run `dualstream`, which must end well, and return what it printed on stdout."""
    done = dualstream(*arguments)
    assert done.code == 0, done.stderr
    return done.stdout
