"""The journal of a long job: whole lines, one a source, whatever ends the process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dualstream.engine.infer.journal import open_journal, settings_path
from dualstream.errors import DiskError, InputError
from dualstream.files import in_use

SETTINGS = {"networks": ["rgb 12ab"], "top": 5, "window_seconds": 10.0}
ENTRIES = [{"source": "a.mp4", "top": [1]}, {"source": "b é.mp4", "error": "no"}, {"source": "c"}]


def written(path: Path, entries: list[dict[str, object]] = ENTRIES) -> bytes:
    with open_journal(path, SETTINGS) as journal:
        for entry in entries:
            journal.append(entry)
    return path.read_bytes()


def test_lines_are_kept_and_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.jsonl"
    written(path, ENTRIES[:2])
    with open_journal(path, SETTINGS) as journal:
        assert journal.kept == {"a.mp4": None, "b é.mp4": "no"}
        journal.append(ENTRIES[2])
        assert list(journal.entries()) == ENTRIES
    assert [json.loads(line) for line in path.read_text("ascii").splitlines()] == ENTRIES
    assert sorted(file.name for file in path.parent.iterdir()) == ["a.jsonl", "a.settings.json"]


def test_half_of_a_line_is_cut_off_wherever_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    whole = written(path)
    before = whole.rindex(b"\n", 0, -1) + 1
    for end in range(before, len(whole)):
        path.write_bytes(whole[:end])
        with open_journal(path, SETTINGS) as journal:
            assert list(journal.kept) == ["a.mp4", "b é.mp4"]
            journal.append(ENTRIES[2])
        assert path.read_bytes() == whole


def test_a_killed_process_leaves_whole_lines_in_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    code = (
        "import sys; from pathlib import Path\n"
        "from dualstream.engine.infer.journal import open_journal\n"
        "with open_journal(Path(sys.argv[1]), {}) as journal:\n"
        "    for n in range(len(journal.kept), 10**9):\n"
        "        journal.append({'source': str(n), 'more': 'x' * (n % 7000)})\n"
    )
    for _ in range(3):
        size = path.stat().st_size if path.exists() else 0
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
        while not path.exists() or path.stat().st_size < size + 200_000:
            time.sleep(0.001)
        writer.kill()
        writer.wait()
    with open_journal(path, {}) as journal:
        assert list(journal.kept) == [str(n) for n in range(len(journal.kept))]
        assert len(path.read_bytes().splitlines()) == len(journal.kept) > 100


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    whole = written(path)
    others = {**SETTINGS, "top": 3, "crops": "ten"}
    with (
        pytest.raises(
            InputError, match=r'a\.jsonl was made with .*: top was 5, now 3; crops was null, now "t'
        ),
        open_journal(path, others),
    ):
        pass
    assert path.read_bytes() == whole


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("mine\n")
    for _ in range(2):
        with (
            pytest.raises(
                InputError, match=r"a\.settings\.json, which says how it was made, is not"
            ),
            open_journal(path, SETTINGS),
        ):
            pass
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]
    assert path.read_text() == "mine\n"


def test_a_line_of_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    written(path)
    for line in (
        *("{", "[]", '{"top": 1}', "\0\0", '{"source": {}}', '{"source": 1}'),
        *('{"source": "a", "error": {}}', "[" * 100_000),
    ):
        path.write_text(f'{{"source": "a"}}\n{line}\n')
        with (
            pytest.raises(InputError, match=r"a\.jsonl:2: .*Remove it"),
            open_journal(path, SETTINGS),
        ):
            pass


def test_settings_count_from_the_first_line_on(tmp_path: Path) -> None:
    """A process that was killed before it wrote a line has left nothing to be true to."""
    path = tmp_path / "a.jsonl"
    written(path, [])
    settings_path(path).write_text('{"vers')
    with open_journal(path, {"top": 3}) as journal:
        journal.append(ENTRIES[0])
    assert json.loads(settings_path(path).read_text())["settings"] == {"top": 3}
    with pytest.raises(InputError, match="top was 3, now 5"):
        written(path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_two_processes_cannot_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    written(path)
    with (
        in_use(settings_path(path)),
        pytest.raises(InputError, match="another process is writing it"),
    ):
        written(path)


def test_what_failed_can_be_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    written(path)
    with open_journal(path, SETTINGS, retry_failed=True) as journal:
        assert list(journal.kept) == ["a.mp4", "c"]
        journal.append({"source": "b é.mp4"})
    with open_journal(path, SETTINGS) as journal:
        assert journal.kept == {"a.mp4": None, "c": None, "b é.mp4": None}


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot be written"):
        written(tmp_path / "file" / "a.jsonl")
