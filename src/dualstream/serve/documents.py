"""JSON documents of the service: what requests may ask for, and what answers look like."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dualstream.errors import InputError
from dualstream.scores.timeline import Thresholds, check_thresholds

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
FINISHED: frozenset[JobState] = frozenset({"done", "failed", "cancelled"})

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class PredictOptions(BaseModel):
    """How a video is looked at, and which segments come of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window_seconds: float | None = Field(
        None, ge=0.1, le=3600, description="Seconds of a window of the timeline."
    )
    step_seconds: float | None = Field(
        None, ge=0.1, le=3600, description="Seconds from a window's start to the next one's."
    )
    top: int = Field(5, ge=1, le=100, description="Classes to tell of each window.")
    enter: Share = Field(0.5, description="Probability at which a segment starts.")
    leave: Share | None = Field(None, description="Probability below which it ends.")
    merge_seconds: Seconds = Field(0, description="Join segments of a class so far apart.")
    least_seconds: Seconds = Field(0, description="Leave out shorter segments.")

    @model_validator(mode="after")
    def _check(self) -> PredictOptions:
        try:
            check_thresholds(**self.thresholds)
        except InputError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def thresholds(self) -> Thresholds:
        """Of `find_segments`."""
        found: Thresholds = {
            "enter": self.enter,
            "merge_seconds": self.merge_seconds,
            "least_seconds": self.least_seconds,
        }
        return found if self.leave is None else found | {"leave": self.leave}


class PredictQuery(PredictOptions):
    """The same, and whether the call waits for the answer."""

    wait: bool = Field(True, description="Answer a short video in this call; false gives the job.")


class Source(BaseModel):
    """A video that is not uploaded."""

    model_config = ConfigDict(extra="forbid")

    path: str | None = Field(
        None, min_length=1, description="Of a video under the folder that the service was given."
    )
    url: str | None = Field(
        None, min_length=1, description="http(s) address, where the service allows them."
    )

    @model_validator(mode="after")
    def _one(self) -> Source:
        if (self.path is None) == (self.url is None):
            raise ValueError("give either path or url")
        return self


class Ranked(BaseModel):
    """A class and its probability."""

    name: str = Field(alias="class")
    probability: float


class WindowDocument(BaseModel):
    """A window in time."""

    start: float
    end: float
    top: list[Ranked]


class SegmentDocument(BaseModel):
    """A stretch of time in which a class is there."""

    label: str
    start: float
    end: float
    confidence: float


class TotalDocument(BaseModel):
    """What the segments of a class come to."""

    label: str
    count: int
    seconds: float
    first_seconds: float
    longest_seconds: float


class VideoDocument(BaseModel):
    """Facts about a video."""

    width: int
    height: int
    fps: float
    frames: int
    seconds: float


class ResultDocument(BaseModel):
    """What was found in a video; `predict --json` has the same, but for the last three."""

    source: str
    top: list[Ranked]
    streams: dict[str, list[Ranked]]
    timeline: list[WindowDocument]
    segments: list[SegmentDocument]
    cuts: list[float]
    video: VideoDocument
    totals: list[TotalDocument]
    curves: dict[str, list[float]] = Field(
        description="Probability in each window, of the classes that come out highest anywhere."
    )


class ErrorDocument(BaseModel):
    """Why a request was not served."""

    error: str
    message: str


class ProgressDocument(BaseModel):
    """How far a running job is."""

    stage: Literal["cuts", "windows"]
    done: int
    total: int


class JobDocument(BaseModel):
    """A video and what becomes of it."""

    id: str
    state: JobState
    name: str = Field(description="Of the file, as the client called it.")
    created: str = Field(description="ISO 8601, UTC.")
    finished: str | None
    expires: str | None = Field(description="When video and answer are removed.")
    ahead: int | None = Field(description="Jobs that come before this one while it waits.")
    progress: ProgressDocument | None
    failure: ErrorDocument | None
    result: ResultDocument | None


class StreamDocument(BaseModel):
    """What a stream of a network sees."""

    name: str
    modality: str
    frames: int


class NetworkDocument(BaseModel):
    """A network of the service."""

    name: str
    streams: list[StreamDocument]


class ModelsDocument(BaseModel):
    """Networks of the service, its classes and its limits."""

    networks: list[NetworkDocument]
    classes: list[str]
    labels: Literal["one", "several"]
    window_seconds: float
    step_seconds: float | None
    explains: bool
    limits: dict[str, float]
    accepts: list[str] = Field(description="Of upload, path and url.")


class HealthDocument(BaseModel):
    """Whether the service works."""

    status: Literal["ok", "starting", "stopping"]
    version: str
    queued: int
    running: int


class PictureDocument(BaseModel):
    """A picture of an explanation."""

    seconds: float
    kind: Literal["frame", "flow", "map"]
    text: str
    href: str


class ExplanationDocument(BaseModel):
    """Where the streams looked in the window at a time."""

    start: float
    end: float
    label: str
    probability: float
    pictures: list[PictureDocument]
