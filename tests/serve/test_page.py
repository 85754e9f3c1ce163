"""The page in a real browser: a video goes in, its timeline comes out, and everybody can use it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serve.service import Running, until, upload

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium with a camera that shows a test picture."""
    flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    flags += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield found
        found.close()


@pytest.fixture(scope="module")
def service(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    found = Running(run, tmp_path_factory.mktemp("page"), "--token", "open")
    yield found
    found.end()


@pytest.fixture
def page(browser: Any, service: Running) -> Iterator[Any]:
    """The page, on which nothing may go wrong."""
    found = browser.new_page(viewport={"width": 1200, "height": 900})
    found.set_default_timeout(0)  # pytest ends what hangs
    wrong: list[str] = []
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.on(
        "console",
        lambda message: (
            wrong.append(message.text)
            if message.type == "error" and "Failed to load resource" not in message.text
            else None
        ),
    )
    found.goto(service.url)
    found.fill("#token", "open")
    found.click("#token-form button")
    found.wait_for_selector("#networks:has-text('2 classes')")
    yield found
    found.close()
    assert wrong == []


def violations(page: Any) -> str:
    """What axe-core has to say, empty where all is well."""
    found = axe.Axe().run(page)
    return found.generate_report() if found.violations_count else ""


def test_an_upload_shows_its_timeline(page: Any, service: Running, videos: Path) -> None:
    assert violations(page) == ""
    page.set_input_files("#file", videos / "long.mp4")
    page.wait_for_selector("#answer:visible")
    with service.client(authorization="Bearer open") as client:
        job = page.evaluate("location.hash").removeprefix("#job=")
        found = client.get(f"/v1/jobs/{job}").json()["result"]
    assert len(found["timeline"]) == 30
    rows = page.locator("#pieces tbody tr")
    assert rows.count() == len(found["segments"])
    first = found["segments"][0]
    told = rows.first.inner_text().split("\t")
    assert told[0] == f"0:{first['start']:04.1f}"
    assert told[2] == first["label"]
    totals = page.locator("#totals tbody tr").first.inner_text().split("\t")
    assert totals[:2] == [found["totals"][0]["label"], str(found["totals"][0]["count"])]
    legend = page.locator("#legend").inner_text().split()
    assert sorted(legend) == ["down", "right"]

    slider = page.get_by_role("slider", name="Timeline")
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#clock:text('2.0 s')")
    here = found["timeline"][20]["top"][0]
    assert slider.get_attribute("aria-valuetext").startswith("2.0 s: ")
    assert page.locator("#ranking li").first.inner_text().split()[0] == here["class"]
    page.keyboard.press("Home")
    page.wait_for_selector("#clock:text('0.0 s')")

    page.get_by_role("button", name="Show motion").click()
    page.wait_for_selector("#pictures figure:nth-child(2) img")
    texts = page.locator("figcaption").all_inner_texts()
    assert texts[0].startswith(("where rgb looked", "optical flow"))
    assert page.locator("#pictures img").first.evaluate("image => image.naturalWidth") > 0

    with page.expect_download() as download:
        page.get_by_role("button", name="Save CSV").click()
    assert download.value.suggested_filename == "long.csv"
    assert Path(download.value.path()).read_text().startswith("source,label,start_seconds")
    for scheme, size in (("light", 1200), ("dark", 1200), ("dark", 390)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": size, "height": 800})
        assert violations(page) == "", scheme
        assert page.evaluate("document.documentElement.scrollWidth") <= size

    page.get_by_role("button", name="Forget this video").click()
    page.wait_for_selector("#answer", state="hidden")
    with service.client(authorization="Bearer open") as client:
        until(lambda: client.get(f"/v1/jobs/{job}").status_code == 404)


def test_what_is_no_video_is_explained(page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("no video")
    page.set_input_files("#file", tmp_path / "notes.mp4")
    alert = page.get_by_role("alert")
    alert.filter(has_text="not a media file").wait_for()
    assert page.locator("#work").is_hidden()


def test_the_camera_is_recorded(page: Any) -> None:
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_role("button", name="Record", exact=True).click()
    # By the camera's own clock, as a busy machine takes fewer pictures.
    until(lambda: page.evaluate("document.getElementById('preview').currentTime") > 2)
    page.get_by_role("button", name="Stop, and look at it").click()
    page.wait_for_selector("#answer:visible, #problem:visible")
    assert page.locator("#problem").inner_text() == ""
    assert page.locator("#ranking li").count() == 2
    assert page.locator("#recorder").is_hidden()


def test_a_job_is_found_again_by_its_address(browser: Any, service: Running, videos: Path) -> None:
    with service.client(authorization="Bearer open") as client:
        job = upload(client, videos / "short.mp4").json()["id"]
    page = browser.new_page()
    page.goto(f"{service.url}/#job={job}")
    page.fill("#token", "open")
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer:visible")
    assert re.match(r"(right|down)", page.locator("#ranking li").first.inner_text())
    page.close()


def test_the_curves_of_a_long_video(browser: Any, service: Running) -> None:
    windows = 6000  # more than there are columns on the screen, so that several share one
    values = [1.0] * (windows // 2) + [0.0] * (windows // 2)
    values[windows // 4] = 0.5  # a single window, which must not be lost
    ranked = [{"class": "here", "probability": 1.0}]
    result = {
        "source": "long.mp4",
        "top": ranked,
        "streams": {},
        "timeline": [{"start": n, "end": n + 1, "top": ranked} for n in range(windows)],
        "segments": [],
        "cuts": [],
        "video": {"width": 64, "height": 48, "fps": 25, "frames": 150000, "seconds": windows},
        "totals": [],
        "curves": {"here": values},
    }
    job = {"id": "0" * 32, "state": "done", "name": "long.mp4", "result": result}
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(0)
    page.route("**/v1/jobs/*", lambda route: route.fulfill(json=job))
    page.route("**/v1/jobs/*/video", lambda route: route.fulfill(body=""))
    page.goto(f"{service.url}/#job={'0' * 32}")
    page.fill("#token", "open")
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer:visible")

    # Of columns at shares of the time: the rows that have the first label's colour, as shares.
    rows = """shares => {
        const canvas = document.getElementById("curves");
        const { width, height } = canvas;
        const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
        return shares.map(share => {
            const x = Math.min(Math.floor(share * width), width - 1);
            const found = [];
            for (let y = 0; y < height; y += 1) {
                const at = 4 * (y * width + x);
                if (data[at] === 11 && data[at + 1] === 111 && data[at + 2] === 164) found.push(y);
            }
            return found.length ? [found[0] / height, found.at(-1) / height] : null;
        });
    }"""
    page.emulate_media(color_scheme="light")  # --c0 is #0b6fa4: 11, 111, 164
    until(lambda: page.evaluate(rows, [0.1])[0])
    up, dip, jump, down = page.evaluate(rows, [0.1, 0.25, 0.5, 0.9])
    assert up[1] < 0.05
    assert dip[0] < 0.05
    assert 0.45 < dip[1] < 0.55
    assert down[0] > 0.93
    assert jump[1] > 0.93
    assert page.evaluate("document.querySelectorAll('#pieces tbody tr').length") == 0
    page.close()


def mark(page: Any, label: str, start: int, end: int) -> None:
    """Mark whole seconds of the video of a project that is shown, by the keyboard alone."""
    slider = page.get_by_role("slider", name="Time of the video")
    slider.wait_for()
    until(lambda: page.evaluate("document.querySelector('#lesson-video').readyState") >= 1)
    page.fill("#label", label)
    slider.focus()
    page.keyboard.press("Home")
    for second in range(end + 1):
        until(lambda at=second: slider.get_attribute("aria-valuenow") == f"{at}.0")
        if second == start:
            page.keyboard.press("i")
        page.keyboard.press("ArrowRight" if second < end else "o")
    page.get_by_role("button", name=f"Erase {label} from 0:{start:04.1f}").wait_for()


def test_actions_are_taught(page: Any, service: Running, run: Path, videos: Path) -> None:
    pytest.importorskip("dualstream.engine.teach", reason="this dualstream cannot teach")
    from dualstream.engine.teach.settings import TeachSettings
    from dualstream.engine.teach.teacher import Teacher

    Teacher(service.folder / "projects" / "squares", TeachSettings(rgb=str(run)))
    page.get_by_role("button", name="Teach your own actions").click()
    page.fill("#project", "squares")
    page.keyboard.press("Enter")
    page.wait_for_selector("#lesson:visible")
    page.set_input_files("#lesson-files", videos / "long.mp4")
    mark(page, "begins", 0, 1)
    mark(page, "ends", 2, 3)
    marks = [row.split("\t")[:4] for row in page.locator("#marks tbody tr").all_inner_texts()]
    assert marks == [["0:00.0", "0:01.0", "begins", "you"], ["0:02.0", "0:03.0", "ends", "you"]]
    page.get_by_role("button", name="Train", exact=True).click()
    page.locator("#review-block").wait_for()
    page.locator("#marks tbody").get_by_text("machine").first.wait_for()
    assert violations(page) == ""
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="Erase begins from 0:00.0").click()
    page.get_by_text("Something has changed since").wait_for()


@pytest.fixture
def kinetics() -> str:
    """Name of I3D's Kinetics weights, where they are."""
    from dualstream.files import cache_folder

    if not (cache_folder() / "weights" / "i3d_rgb_kinetics400.safetensors").is_file():
        pytest.skip("the weights i3d_rgb_kinetics400 are not in the cache folder")
    return "i3d_rgb_kinetics400"


def test_a_real_clip(shared: Path, kinetics: str, browser: Any, tmp_path: Path) -> None:
    options = ["--weights", kinetics, "--segments", "1", "--window", "10"]
    service = Running(None, tmp_path, *options)
    try:
        page = browser.new_page()
        page.set_default_timeout(0)
        page.goto(service.url)
        page.set_input_files("#file", shared / "clips" / "arm_wrestling.mp4")
        page.wait_for_selector("#answer:visible")
        told = page.locator("#pieces tbody tr").all_inner_texts()
        assert [row.split("\t")[2] for row in told] == ["arm wrestling"]
        assert told[0].startswith("0:00.0\t")
        page.close()
    finally:
        service.end()


PLANS = {
    "first.mp4": (("golf", 5), ("pullup", 5)),
    "second.mp4": (("pullup", 5), ("golf", 5)),
    "new.mp4": (("golf", 4), ("pullup", 4), ("golf", 4)),
}
"""Video -> classes of J-HMDB in their order, and for how many seconds; new.mp4 is not marked."""


def pieces_of(name: str) -> list[tuple[str, int, int]]:
    """Class, start and end of each part of a video of `PLANS`."""
    ends = accumulate((seconds for _, seconds in PLANS[name]), initial=0)
    parts = zip(PLANS[name], pairwise(ends), strict=True)
    return [(label, start, end) for (label, _), (start, end) in parts]


def clips_of(jhmdb: Path, label: str, part: str) -> Iterator[np.ndarray]:
    """Frames (T, 240, 320, 3) of one clip of each source in part 1 (train) or 2 (test) of split 1.

    Clips of one source show the same person at the same place: `Golfswing_golf_f_cm_np1_ri_goo_1`.
    """
    from dualstream.video import read_video

    seen = set()
    for line in (jhmdb / "splits" / f"{label}_test_split1.txt").read_text().splitlines():
        name, of = line.split()
        source = name.partition(f"_{label}_")[0]
        if of == part and source not in seen:
            data = read_video(jhmdb / "videos" / label / name.replace(".avi", ".mp4")).data
            if data.shape[1:3] == (240, 320):
                seen.add(source)
                yield data


def frames_of(name: str, clips: dict[str, Iterator[np.ndarray]]) -> Iterator[np.ndarray]:
    """Frames of a video of `PLANS`: clips one after the other, at 30 a second, each used once."""
    for label, start, end in pieces_of(name):
        left = 30 * (end - start)
        while left:
            found = next(clips[label])[:left]
            yield from found
            left -= len(found)


def test_real_actions_are_taught(
    shared: Path, kinetics: str, page: Any, service: Running, tmp_path: Path
) -> None:
    """Two files are marked, a third one of clips of J-HMDB's test part is told."""
    from dualstream.video import write_video

    for part, names in (("1", ("first.mp4", "second.mp4")), ("2", ("new.mp4",))):
        clips = {one: clips_of(shared / "jhmdb", one, part) for one in ("golf", "pullup")}
        for name in names:
            write_video(tmp_path / name, frames_of(name, clips), fps=30)
    page.get_by_role("button", name="Teach your own actions").click()
    page.fill("#project", "sports")
    page.keyboard.press("Enter")
    page.wait_for_selector("#lesson:visible")
    page.set_input_files("#lesson-files", [tmp_path / name for name in PLANS])
    page.get_by_role("button", name="Open new.mp4").wait_for()
    for name in ("first.mp4", "second.mp4"):
        page.get_by_role("button", name=f"Open {name}").click()
        page.get_by_role("heading", name=f"Mark {name}").wait_for()
        for piece in pieces_of(name):
            mark(page, *piece)
    page.get_by_role("button", name="Train", exact=True).click()
    page.wait_for_selector("#review-block:visible")
    page.get_by_role("button", name="Open new.mp4").click()
    page.get_by_role("heading", name="Mark new.mp4").wait_for()
    page.locator("#marks tbody").get_by_text("machine").first.wait_for()
    rows = [row.split("\t")[:4] for row in page.locator("#marks tbody tr").all_inner_texts()]
    assert all(by.startswith("machine, ") for *_, by in rows)
    told = [
        (label, *(float(clock.removeprefix("0:")) for clock in clocks))
        for *clocks, label, _ in rows
    ]
    for label, start, end in pieces_of("new.mp4"):
        for second in np.arange(start + 1, end - 0.5, 0.5):  # a window of 2 s lies over a change
            assert [one for one, since, until in told if since <= second < until] == [label], told
    assert violations(page) == ""
