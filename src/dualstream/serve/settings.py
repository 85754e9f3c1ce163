"""Settings of the service: its networks, its limits, who may reach it, where it keeps its jobs."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dualstream.errors import InputError, check_least

if TYPE_CHECKING:
    from dualstream.engine.infer.predictor import PredictorOptions

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names by which a machine calls itself."""


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Networks of the service, which its worker process loads by name."""

    runs: tuple[Path, ...] = ()
    """Run folders."""
    weights: tuple[str, ...] = ()
    """Names of published weights, after the runs."""
    exported: Path | None = None
    """File of `dualstream export`, in place of both."""
    device: str = "cpu"
    options: PredictorOptions = field(default_factory=dict)  # type: ignore[assignment]
    """Of `Predictor`; requests may ask for other windows."""

    def __post_init__(self) -> None:
        if not (self.runs or self.weights or self.exported):
            raise InputError("The service needs at least one network: give runs or weights.")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the service takes in, and how long it keeps it."""

    upload_bytes: int = 1000 * 10**6
    """Of a video that is uploaded."""
    video_seconds: float = 3600.0
    """Length of a video."""
    side_px: int = 4096
    """Longer side of its pictures."""
    frames_per_second: float = 240.0
    """So many frames may a video of the longest length have in each second."""
    concurrency: int = 2
    """Videos that are worked on at once."""
    queue: int = 32
    """Videos that come in or wait."""
    answer_seconds: float = 15.0
    """Videos up to this length are answered in the same call."""
    wait_seconds: float = 60.0
    """How long such a call waits before it answers with the job instead."""
    keep_seconds: float = 3600.0
    """How long a finished job, its video and its answer are kept."""
    grace_seconds: float = 10.0
    """How long running jobs may go on when the service is told to end."""

    def __post_init__(self) -> None:
        check_least(1, upload_bytes=self.upload_bytes, side_px=self.side_px)
        check_least(1, concurrency=self.concurrency, queue=self.queue)
        for name in ("video_seconds", "frames_per_second", "keep_seconds"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0, got {getattr(self, name):g}.")
        check_least(0, answer_seconds=self.answer_seconds, wait_seconds=self.wait_seconds)
        check_least(0, grace_seconds=self.grace_seconds)

    @property
    def frames(self) -> int:
        """Frames of the longest video."""
        return int(self.video_seconds * self.frames_per_second)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a service.

    Raises:
        InputError: a port that there is not, an empty token, a root that is no folder, or an
            address that others can reach without a token.
    """

    networks: NetworkSettings
    folder: Path
    """Where jobs are kept; one service at a time."""
    limits: Limits = field(default_factory=Limits)
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    """That requests must bring; None lets everybody in who reaches the address."""
    root: Path | None = None
    """Folder of videos that requests may name by path."""
    allows_urls: bool = False
    """Whether requests may name videos by http and https addresses."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names by which browsers may call the service."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InputError(f"port must be in 0..65535, got {self.port}.")
        if self.token is not None and not (self.token.isascii() and self.token.strip()):
            raise InputError("token must be ASCII characters, at least one.")
        if self.root is not None and not self.root.is_dir():
            raise InputError(f"root: there is no folder {str(self.root)!r}.")
        if self.token is None and not is_loopback(self.host):
            raise InputError(
                f"{self.host} can be reached from other machines: give a token too, or leave the "
                "host at 127.0.0.1."
            )


def is_loopback(host: str) -> bool:
    """Whether an address or name is that of this machine for itself."""
    if host in LOOPBACK_NAMES:
        return True
    address = ip_address(host)
    return address is not None and address.is_loopback


def ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a text is, None where it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
