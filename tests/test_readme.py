"""README is true: its commands run in order, as they stand, and end well."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Lines `$ dualstream ...` of README's console blocks, in order."""
    blocks = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line[2:] for line in lines if line.startswith("$ dualstream")]


def run(command: str, folder: Path) -> str:
    arguments = shlex.split(command)[1:]
    if arguments[0] == "train":
        arguments.append("train.epochs=1")  # as README has it but for the time it takes
    result = subprocess.run(
        [sys.executable, "-m", "dualstream", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert result.returncode == 0, f"{command}\n{result.stderr}"
    return result.stdout


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_commands_run_and_the_demo_keeps_its_promise(tmp_path: Path) -> None:
    listed = commands()
    assert listed[0] == "dualstream demo --out demo"
    assert [line.split()[1] for line in listed].count("train") == 1
    for command in listed:
        printed = run(command, tmp_path)
        assert printed.strip(), command
    result = json.loads(run("dualstream demo --out demo --json", tmp_path))
    assert result["fused"]["top1"] >= 0.95
    for stream in ("spatial", "temporal"):
        assert 0.17 <= result[stream]["top1"] <= 0.33
    assert (tmp_path / result["page"]).is_file()


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\$ make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_linked_files_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    for link in links:
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link
