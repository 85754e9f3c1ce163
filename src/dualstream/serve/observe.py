"""What operators see: structured logs, and numbers for Prometheus."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

LOGGER = logging.getLogger("dualstream.serve")


def log(event: str, **facts: object) -> None:
    """Write one line of JSON: an event and its facts, never what is in a video or its name."""
    LOGGER.info(event, extra={"facts": facts})


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry = {"time": moment, "level": record.levelname.lower(), "event": record.getMessage()}
        entry |= getattr(record, "facts", {})
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def start_logging(stream: TextIO | None = None) -> None:
    """Send the service's log, and what uvicorn has to say, to a stream; stderr by default."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonLines())
    for name, level in {"dualstream.serve": "INFO", "uvicorn": "WARNING"}.items():
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


class Metrics:
    """Numbers of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = self._counter("requests", "Requests.", ("method", "route", "code"))
        self.request_seconds = Histogram(
            "dualstream_request_seconds",
            "Time from a request to the end of its answer.",
            ("route",),
            registry=self.registry,
        )
        self.jobs = self._counter("jobs", "Jobs that came to an end.", ("state",))
        self.job_seconds = Histogram(
            "dualstream_job_seconds",
            "Time that work on a job took.",
            buckets=(0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000),
            registry=self.registry,
        )
        self.video_seconds = self._counter("video_seconds", "Length of the videos that are done.")
        self.uploaded = self._counter("uploaded_bytes", "Bytes of uploads.")
        self.queued = self._gauge("jobs_queued", "Jobs that wait.")
        self.running = self._gauge("jobs_running", "Jobs that are worked on.")
        self.batch = Histogram(
            "dualstream_batch_windows",
            "Windows that a network saw at once.",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )
        self.worker_deaths = self._counter("worker_deaths", "Worker processes that died.")

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"dualstream_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"dualstream_{name}", text, registry=self.registry)

    def text(self) -> bytes:
        """Return all numbers in Prometheus' text format."""
        return generate_latest(self.registry)
