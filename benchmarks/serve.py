"""`dualstream serve` under load: many clients upload at once, beside `predict` on the same files.

    dualstream demo --out demo
    python benchmarks/serve.py VIDEO... --runs demo/runs/spatial demo/runs/temporal

Each of `--clients` clients uploads one of the files, all at the same moment, to a service with a
queue of `--queue`; those that are refused (429) come again as the answer tells them. Counted are
the codes of all answers, the seconds until the last job is done, and the largest memory of the
service's two processes together. `predict` is the same networks in this process over the same list
of files, one after the other, half of them before the service's turn and half after it.

With Chromium and playwright installed the page is timed too: its first paint, and the longest task
of the browser's main thread while it shows a timeline of ten minutes in windows of a second, on the
clock and in processor time, the medians of five pages. Without VIDEO only the page is timed.

Results go to benchmarks/results/serve.json; those of the page alone are only printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from dualstream.engine.infer.predictor import Predictor
from dualstream.engine.infer.recognizer import open_models
from measure import FOLDER, versions, write_json

PACKAGES = ("torch", "fastapi", "uvicorn", "dualstream")
TASKS = """
window.tasks = [];
new PerformanceObserver((list) => list.getEntries().forEach((e) => window.tasks.push(e.duration)))
  .observe({ type: "longtask", buffered: true });
"""


def main() -> None:
    """Measure, print a table, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--runs", nargs="+", required=True)
    parser.add_argument("--window", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--queue", type=int, default=24)
    given = parser.parse_args()
    if not given.videos:
        with served(given) as (_, url):
            print_page(page_times(url))
        return
    files = [given.videos[number % len(given.videos)] for number in range(given.clients)]
    predictor = Predictor(open_models(given.runs), window_seconds=given.window)
    predictor.predict(given.videos[0])  # warms up
    expected = predict_seconds(predictor, files[::2])
    with served(given) as (pid, url):
        codes, seconds, peak = load(url, pid, files)
        page = page_times(url)
    expected += predict_seconds(predictor, files[1::2])
    results: dict[str, Any] = {
        "codes": codes,
        "videos_per_minute": {
            "serve": 60 * len(files) / seconds,
            "predict": 60 * len(files) / expected,
        },
        "share_of_predict": expected / seconds,
        "peak_mib": peak / 2**20,
        **page,
    }
    print(f"answers            {', '.join(f'{n} x {code}' for code, n in sorted(codes.items()))}")
    print(f"serve              {60 * len(files) / seconds:.1f} videos a minute")
    print(f"predict            {60 * len(files) / expected:.1f} videos a minute")
    print(f"serve / predict    {expected / seconds:.2f}")
    print(f"largest memory     {peak / 2**20:.0f} MiB")
    print_page(page)
    write_json(
        FOLDER / "results" / "serve.json",
        seconds={"serve": [seconds], "predict": [expected]},
        settings={key: str(value) for key, value in vars(given).items()},
        results=results,
        packages=versions(*PACKAGES),
    )


def predict_seconds(predictor: Predictor, files: list[Path]) -> float:
    """Seconds that `predict` takes for these files."""
    begun = time.perf_counter()
    for file in files:
        predictor.predict(file)
    return time.perf_counter() - begun


@contextlib.contextmanager
def served(given: argparse.Namespace) -> Iterator[tuple[int, str]]:
    """The service while the block runs: id of its process and address."""
    command = [sys.executable, "-m", "dualstream", "serve", *given.runs, "--port", "0"]
    command += ["--window", str(given.window), "--max-queue", str(given.queue)]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [*command, "--data", folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        try:
            yield process.pid, process.stdout.readline().split()[-1]
        finally:
            process.terminate()
            process.wait()


def load(url: str, pid: int, files: list[Path]) -> tuple[dict[int, int], float, int]:
    """Upload all files at once; returns codes, seconds until all are done, and peak memory."""
    codes: Counter[int] = Counter()
    at_once = threading.Barrier(len(files))
    contents = {file: file.read_bytes() for file in set(files)}
    clients = [
        threading.Thread(target=_client, args=(url, file, contents[file], at_once, codes))
        for file in files
    ]
    begun = time.perf_counter()
    for client in clients:
        client.start()
    peak = 0
    while any(client.is_alive() for client in clients):
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        peak = max(peak, sum(process.memory_info().rss for process in processes))
        time.sleep(0.2)
    return dict(codes), time.perf_counter() - begun, peak


def _client(
    url: str, file: Path, content: bytes, at_once: threading.Barrier, codes: Counter[int]
) -> None:
    with httpx.Client(base_url=url, timeout=600) as client:
        at_once.wait()
        while True:
            answer = client.post("/v1/predict", files={"file": (file.name, content)})
            codes[answer.status_code] += 1
            if answer.status_code != 429:
                break
            time.sleep(int(answer.headers["retry-after"]) * random.uniform(0.5, 1))
        job = answer.json()
        while job.get("state") in ("queued", "running"):
            time.sleep(0.5)
            job = client.get(f"/v1/jobs/{job['id']}").json()
        assert job["state"] == "done", job


def page_times(url: str) -> dict[str, float]:
    """First paint of the page, and its longest task with ten minutes of timeline, milliseconds."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {}
    if chromium is None:
        return {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        rounds = [_page_round(browser, url) for _ in range(5)]
        browser.close()
    names = ("first paint, ms", "longest task, ms", "processor, ms")
    return {
        name: statistics.median(values)
        for name, values in zip(names, zip(*rounds, strict=True), strict=True)
    }


def print_page(page: dict[str, float]) -> None:
    """Print what `page_times` found."""
    for name, value in page.items():
        print(f"{name:18} {value:.0f}")


def _page_round(browser: Any, url: str) -> tuple[float, float, float]:
    """First paint and longest task of a page that is opened anew, on the clock and by processor."""
    page = browser.new_page()
    page.add_init_script(TASKS)
    job = json.dumps(ten_minutes())
    page.route("**/v1/jobs/*", lambda route: route.fulfill(body=job))
    browser.start_tracing(page=page, categories=["-*", "toplevel"])
    page.goto(f"{url}#job={'0' * 32}")
    page.wait_for_selector("#answer:visible")
    page.focus("#timeline")
    for key in ("ArrowRight", "PageDown", "End", "Home") * 10:
        page.keyboard.press(key)
    page.wait_for_timeout(500)
    paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    tasks = "Math.max(0, ...window.tasks)"
    found = float(page.evaluate(paint)), float(page.evaluate(tasks))
    events = json.loads(browser.stop_tracing())["traceEvents"]
    page.close()
    return *found, _longest_by_processor(events)


def _longest_by_processor(events: list[dict[str, Any]]) -> float:
    """Processor milliseconds of the longest task of any page's main thread in a Chromium trace."""
    mains = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    return max(
        event.get("tdur", 0) / 1000  # microseconds
        for event in events
        if event.get("ph") == "X" and (event["pid"], event["tid"]) in mains
    )


def ten_minutes() -> dict[str, Any]:
    """A finished job of ten minutes: 600 windows, 300 segments, eight classes."""
    names = [f"class {number}" for number in range(8)]
    ranked = [{"class": name, "probability": 0.125} for name in names[:5]]
    segments = [
        {"label": names[n % 8], "start": 2.0 * n, "end": 2.0 * n + 1.5, "confidence": 0.9}
        for n in range(300)
    ]
    result = {
        "source": "long.mp4",
        "top": ranked,
        "streams": {},
        "timeline": [{"start": n, "end": n + 1.0, "top": ranked} for n in range(600)],
        "segments": segments,
        "cuts": [],
        "video": {"width": 64, "height": 48, "fps": 25, "frames": 15000, "seconds": 600.0},
        "totals": [
            {"label": n, "count": 38, "seconds": 57, "first_seconds": 0, "longest_seconds": 1.5}
            for n in names
        ],
        "curves": {name: [random.random() for _ in range(600)] for name in names},
    }
    return {"id": "0" * 32, "state": "done", "name": "long.mp4", "result": result}


if __name__ == "__main__":
    main()
