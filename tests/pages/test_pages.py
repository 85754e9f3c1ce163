"""What the documentation tells to type is typed: page by page, in order, on tiny videos.

A page's own commands run, with small stand-ins for what a reader brings (videos, trained networks,
published weights) and for what takes hours (epochs, pixels, cores). README's are run by
`test_readme`.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cli.command import succeed
from tests.engine.small_recipes import small_changes
from tests.engine.tiny import untrained_pair
from tests.pages.desk import fill, stand_in
from tests.pages.table import FOLLOWED, PROCESSES, TSN, Page
from tests.test_docs import DOCS, PAGES, commands, name_of
from tests.video.live_server import served, transport_stream

from dualstream.engine.pair_recipe import holds_streams
from dualstream.engine.teach.settings import TeachSettings
from dualstream.engine.teach.teacher import Teacher
from dualstream.scores import Fusion

EPOCHS = {"cross_attention": 5}
"""Recipe -> epochs where one does not reach all its phases."""


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader of any page has; do not change it."""
    folder = tmp_path_factory.mktemp("reader")
    fill(folder)
    return folder


@pytest.fixture
def desk(reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the reader's files, in which commands run, with trained networks in `runs`."""
    folder = tmp_path / "desk"
    shutil.copytree(reader, folder)
    untrained_pair(folder / "work", folder / "runs", Fusion("mean", 2))
    (folder / "cache").mkdir()
    monkeypatch.setenv("DUALSTREAM_CACHE", str(folder / "cache"))
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.stdin", io.StringIO("a.mp4\nbar.mp4\n"))
    return folder


@pytest.fixture
def camera(desk: Path) -> Iterator[dict[str, str]]:
    """A stream in place of a camera's; three may call it."""
    with served([[transport_stream(desk / "a.mp4")]] * 3) as address:
        yield {"rtsp://camera/1": address}


@pytest.fixture
def cluster(ray_cluster: str) -> dict[str, str]:
    """A cluster of this machine's processes."""
    return {"auto": ray_cluster, "head-node:6379": ray_cluster}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A folder in place of the Hub."""
    from tests.engine.run.folder_hub import hub_in

    hub_in(tmp_path / "hub", monkeypatch)
    return {}


def small(words: list[str], page: Page) -> list[str]:
    """The command of a training, made one of seconds; what the page says of it stays."""
    if page.small is not None:
        return [*words, *page.small]
    recipe = words[words.index("--recipe") + 1]
    if holds_streams(recipe):
        return [*words, *TSN]
    own = [word for word in words[2:] if word.startswith(("model.name=", "input.modality="))]
    # What a page may not make larger comes last.
    last = [f"train.epochs={EPOCHS.get(recipe, 1)}", "train.batch_size=4", "data.workers=0"]
    return [*words[:2], *small_changes(recipe, own), *words[2:], *last]


def changed(words: list[str], page: Page) -> list[str]:
    """A command of a page as it is run."""
    found = [page.put.get(word, word) for word in words]
    for number, word in enumerate(found[:-1]):
        if word == "--workers":
            found[number + 1] = "2"
        if word == "--weights":  # no test can download them; a run is used in the same way
            found[number : number + 2] = ["--checkpoint", "runs/rgb"]
    if "--recipe" in found:
        return small(found, page)
    return [*found, "--reconnect", "0"] if found[0] == "watch" else found


def run(words: list[str], desk: Path) -> None:
    """Run a command; what another one of the page wrote to the same place goes first."""
    if words[0] == "serve":
        from tests.serve.service import Running

        service = Running(None, desk / "served", *words[1:])
        with service.client() as client:
            assert client.get("/healthz").json()["status"] == "ok"
        assert service.end() == 0
        return
    if words[0] in ("train", "predict", "transfer") and "--out" in words:
        out = Path(words[words.index("--out") + 1])
        shutil.rmtree(out, ignore_errors=True)
        for file in Path().glob(f"{out.stem}.*"):
            file.unlink()
    succeed(*words)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLLOWED)
def test_a_page_is_followed(
    name: str, desk: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    page = FOLLOWED[name]
    if page.needs:
        pytest.importorskip(page.needs)
    if page.meets:
        page = replace(page, put={**page.put, **request.getfixturevalue(page.meets)})
    for weights in page.weights:
        stand_in(weights, monkeypatch)
    if name.startswith(("guide/own", "intervals.md")):
        shutil.rmtree(desk / "work")
        shutil.rmtree(desk / "runs")
    if name in ("teach.md", "guide/page.md"):
        Teacher(desk / "sports", TeachSettings(rgb=str(desk / "runs/rgb")))
    for line in page.before:
        run(changed(line.split(), page), desk)
    num_run = 0
    for words in commands(DOCS / name):
        if not " ".join(words).startswith(tuple(page.left)):
            run(changed(words, page), desk)
            num_run += 1
    assert num_run
    if name == "guide/own_data.md":
        assert (desk / "runs" / "report.html").is_file()


def test_every_page_is_followed() -> None:
    told = {name_of(page).removeprefix("docs/") for page in PAGES if any(commands(page))}
    assert told == {*FOLLOWED, *PROCESSES, "README.md"}
    for name, page in FOLLOWED.items():
        typed = [" ".join(words) for words in commands(DOCS / name)]
        for start in page.left:
            assert any(line.startswith(start) for line in typed), (name, start)
