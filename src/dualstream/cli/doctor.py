"""`dualstream doctor`."""

from __future__ import annotations

from dataclasses import asdict

import typer

from dualstream.cli.options import Json
from dualstream.cli.output import print_json, stderr, stdout

SIGNS = {"ok": "ok", "note": "note", "broken": "BROKEN"}
STYLES = {"ok": "green", "note": "yellow", "broken": "bold red"}


def doctor(json: Json = False) -> None:
    """Examine the installation: what is there, what works, what to do about what does not."""
    from rich.markup import escape
    from rich.table import Table

    from dualstream.engine.doctor import examine

    with stderr().status("looking"):
        checks = list(examine())
    broken = [check for check in checks if check.state == "broken"]
    if json:
        print_json({"ok": not broken, "checks": [asdict(check) for check in checks]})
    else:
        table = Table("part", "state", "found", show_lines=True)
        for check in checks:
            style = STYLES[check.state]
            remedy = f"\n-> {escape(check.remedy)}" if check.remedy else ""
            sign = f"[{style}]{SIGNS[check.state]}[/]"
            table.add_row(check.name, sign, f"{escape(check.found)}{remedy}")
        stdout().print(table)
    if broken:
        raise typer.Exit(1)
