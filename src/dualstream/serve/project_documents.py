"""JSON documents of taught actions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=200)]
Time = Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class MarkRequest(_Request):
    """An action is there from one time to another."""

    video: Name
    start: Time = Field(description="Seconds from the first frame.")
    end: Time
    label: Name
    replace: bool = Field(False, description="Erase other labels in that time first.")


class UnmarkRequest(_Request):
    """Marks in a stretch of a video are erased."""

    video: Name
    start: Time
    end: Time
    label: Name | None = None


class ReviewedRequest(_Request):
    """All actions of a video are marked, or not."""

    video: Name
    reviewed: bool


class SettingsRequest(_Request):
    """How a project looks at its videos; what is left out stays as it is."""

    labels: Literal["one", "several"] | None = None
    window_seconds: float | None = Field(None, gt=0, le=3600)
    step_seconds: float | None = Field(None, gt=0, le=3600)


class ProjectVideoDocument(BaseModel):
    """A video of a project."""

    name: str
    seconds: float
    reviewed: bool


class MarkDocument(BaseModel):
    """A mark."""

    video: str
    start: float
    end: float
    label: str


class TrainingDocument(BaseModel):
    """Where a training stands."""

    state: Literal["never", "running", "done", "failed", "cancelled"]
    phase: str | None = None
    done: int = 0
    total: int = 0
    message: str | None = None


class ProjectDocument(BaseModel):
    """Videos, marks and what came of the last training."""

    name: str
    settings: dict[str, Any]
    videos: list[ProjectVideoDocument]
    marks: list[MarkDocument]
    classes: list[str]
    trained: bool
    stale: bool = Field(description="Something has changed since the last training.")
    report: dict[str, Any] | None
    training: TrainingDocument


class ProjectsDocument(BaseModel):
    """Names of all projects."""

    projects: list[str]
    available: bool = Field(description="Whether this dualstream can teach.")


class SuggestionsDocument(BaseModel):
    """The windows that are least certain, to be looked at first."""

    windows: list[dict[str, Any]]
