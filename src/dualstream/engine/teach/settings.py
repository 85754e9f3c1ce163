"""Settings of a project of one's own actions."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dualstream.errors import InputError, UnknownNameError, check_choice, check_least
from dualstream.types import Labels

HISTOGRAMS = "histograms"
"""Motion that needs no training: `flow.histograms`."""

_LAYOUT = 1
"""Of features; another one lets all be computed anew."""


@dataclass(frozen=True, kw_only=True)
class TeachSettings:
    """What the windows of videos are described by, and how they are cut."""

    labels: Labels = "one"
    """Whether one action is there at a time, or several."""
    rgb: str = "i3d_rgb_kinetics400"
    """Frozen network that sees frames: name of published weights, or a run folder."""
    motion: str = HISTOGRAMS
    """`histograms` of flow and of its boundaries (HOF, MBH), or the run folder of a flow stream."""
    window_seconds: float = 2.0
    """Length of a window, which has one answer; a multiple of `step_seconds`."""
    step_seconds: float = 1.0
    """From a window's start to the next one's."""
    side: int = 128
    """Pixels of the square, out of the middle of the picture, that published weights see."""
    frames: int = 16
    """Frames of each step that they see; the flow of histograms leads from each to the next."""

    def __post_init__(self) -> None:
        check_choice("labels", self.labels, Labels)
        check_least(32, side=self.side)
        check_least(2, frames=self.frames)
        if not 0 < self.step_seconds <= self.window_seconds < float("inf"):
            raise InputError(
                "0 < step_seconds <= window_seconds must hold, got "
                f"{self.step_seconds:g} and {self.window_seconds:g}."
            )
        if abs(self.steps * self.step_seconds - self.window_seconds) > 1e-6:
            raise InputError(
                f"window_seconds must be a multiple of step_seconds, got {self.window_seconds:g} "
                f"and {self.step_seconds:g}."
            )
        for name, value in (("rgb", self.rgb), ("motion", self.motion)):
            if not value:
                raise InputError(f"{name} must name weights or a run folder, got nothing.")

    @property
    def steps(self) -> int:
        """Steps of a window."""
        return round(self.window_seconds / self.step_seconds)

    @property
    def fps(self) -> float:
        """Frames a second that published weights and histograms see."""
        return self.frames / self.step_seconds

    def entry(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        return asdict(self)

    def features_digest(self) -> str:
        """Return what tells the features of these settings from others, networks by checksums.

        Raises:
            CheckpointError: a run folder that cannot be used.
            UnknownNameError: neither weights nor a run folder.
        """
        matters: dict[str, Any] = {
            "layout": _LAYOUT,
            "rgb": _network_digest(self.rgb),
            "motion": HISTOGRAMS if self.motion == HISTOGRAMS else _network_digest(self.motion),
            "step_seconds": self.step_seconds,
            "side": self.side,
            "frames": self.frames,
        }
        return hashlib.sha256(json.dumps(matters, sort_keys=True).encode()).hexdigest()


def is_run(network: str) -> bool:
    """Whether a network is named by its run folder, not by the name of published weights."""
    from dualstream.models import list_weights

    return network not in list_weights() and Path(network).is_dir()


def _network_digest(network: str) -> str:
    if is_run(network):
        from dualstream.engine.run.checkpoint import run_sha256

        return run_sha256(network)
    from dualstream.models.weights import weights_entry

    entry = weights_entry(network)
    return f"{entry.name} {entry.tensors_sha256}"


def checked_networks(settings: TeachSettings) -> TeachSettings:
    """Return the settings with absolute paths of run folders, which then serve from anywhere.

    Raises:
        UnknownNameError: a network is neither weights nor a run folder.
    """
    from dualstream.models import list_weights

    for name, network in (("rgb", settings.rgb), ("motion", settings.motion)):
        if is_run(network):
            changed: dict[str, Any] = {name: os.path.abspath(network)}
            settings = replace(settings, **changed)
        elif network not in list_weights() and (name, network) != ("motion", HISTOGRAMS):
            usual = (HISTOGRAMS,) if name == "motion" else list_weights()
            raise UnknownNameError(name, network, (*usual, "a run folder"))
    return settings
