"""The page in a real browser: a video goes in, its timeline comes out, and everybody can use it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    slider = page.get_by_role("slider", name="Time of the video")
    slider.wait_for()
    until(lambda: page.evaluate("document.querySelector('#lesson-video').readyState") >= 1)
    for label, start in (("begins", 0), ("ends", 2)):
        page.fill("#label", label)
        slider.focus()
        page.keyboard.press("Home")
        for second in range(start + 1):
            until(lambda at=second: slider.get_attribute("aria-valuenow") == f"{at}.0")
            if second < start:
                page.keyboard.press("ArrowRight")
        page.keyboard.press("i")
        page.keyboard.press("ArrowRight")
        until(lambda at=start + 1: slider.get_attribute("aria-valuenow") == f"{at}.0")
        page.keyboard.press("o")
        page.locator("#marks tbody").get_by_text(label, exact=True).wait_for()
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


def test_a_real_clip(shared: Path, browser: Any, tmp_path: Path) -> None:
    """I3D with its Kinetics weights, where they are."""
    from dualstream.files import cache_folder

    if not (cache_folder() / "weights" / "i3d_rgb_kinetics400.safetensors").is_file():
        pytest.skip("the weights i3d_rgb_kinetics400 are not in the cache folder")
    options = ["--weights", "i3d_rgb_kinetics400", "--segments", "1", "--window", "10"]
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
