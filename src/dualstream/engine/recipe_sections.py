"""Sections of a recipe: their fields, defaults and checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from dualstream.flow.methods.lookup import check_flow_name
from dualstream.types import BeyondEnd, Labels, Modality, Stacking, StreamSpec

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
Numbers = Annotated[
    tuple[float, ...], BeforeValidator(lambda value: () if value is None else value)
]
"""Numbers of a stream's channels; null, as version 0.1 wrote where none were given, is ()."""
Crops = Literal["center", "three", "ten"]
"""Views of a snippet in a test."""


def _check_trainable(value: object) -> object:
    if isinstance(value, Mapping):
        return {
            stream: part if part == "none" else _check_part(part) for stream, part in value.items()
        }
    return _check_part(value)


def _check_part(value: object) -> object:
    if value in ("all", "last_layer") or (type(value) is int and value >= 1):
        return value
    raise ValueError("must be all, last_layer, or a number of stages from 1; of a tower also none")


Trainable = Literal["all", "last_layer", "none"] | Positive


class Section(BaseModel):
    """A part of a recipe: fixed once read; unknown keys, infinity and NaN are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


_DECIDED_ELSEWHERE = {
    "name": "give model.name",
    "weights": "give model.weights",
    "num_classes": "the data decide it",
    "in_channels": "the modality of the inputs decides it",
}
"""Arguments of `create_model` that are no options of a network."""


class ModelSection(Section):
    """Which network, and where its weights start."""

    name: str
    """A name of `dualstream models`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the network besides num_classes, in_channels, and the length and
    image_size that fully connected layers fix: those are the inputs'."""
    weights: str | dict[str, str] | None = None
    """A name of `dualstream weights`, or the folder of a run of the same network (its classifier
    is taken over where it has as many classes); of a network with towers also stream -> one of
    these, of that tower's network. None starts from random numbers. Either serves other input
    channels than its own: the first layer then starts from the mean over the weights' channels."""
    trainable: Annotated[Trainable | dict[str, Trainable], BeforeValidator(_check_trainable)] = (
        "all"
    )
    """The trained part: everything, the head, or the head and that many last stages; of a network
    with towers also stream -> one of these or none, which freezes the tower."""

    @field_validator("options")
    @classmethod
    def _options_are_the_networks_own(cls, options: dict[str, Any]) -> dict[str, Any]:
        for option, place in _DECIDED_ELSEWHERE.items():
            if option in options:
                raise ValueError(f"{option} is no option here: {place}")
        return options


class ClipSection(Section):
    """Fields that all streams share, those of `ClipSpec`."""

    short_side: Positive = 256
    crop_size: Positive = 224
    fps: float | None = Field(None, gt=0)
    beyond_end: BeyondEnd = "hold"
    """How a video shorter than a snippet goes on: its last frame is held, or it starts again."""


class StreamSection(Section):
    """Input of one stream; the fields are those of `StreamSpec`."""

    modality: Modality
    """Default: the name of the stream."""
    num_frames: Positive = 1
    frame_stride: Positive = 1
    mean: Numbers = ()
    """Default: ImageNet's for rgb, zeros for the others."""
    std: Numbers = ()
    """Default: ImageNet's for rgb, ones for the others."""
    stacking: Stacking = "flow"
    subtract_mean_flow: bool = False
    flow_method: Annotated[str, AfterValidator(check_flow_name)] = "tvl1-fast"
    flow_bound_px: float = Field(20.0, gt=0)
    flow_short_side: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _fits_stream_spec(self) -> StreamSection:
        self.spec()
        return self

    def spec(self) -> StreamSpec:
        """Return the same as a `StreamSpec`."""
        return StreamSpec(**self.model_dump())


class AugmentSection(Section):
    """Random changes of training samples; tests see none of them."""

    crop: Literal["center", "random", "multi_scale"] = "multi_scale"
    scales: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1.0, 0.875, 0.75, 0.66), min_length=1
    )
    """Sides of multi-scale crops as parts of the short side (TSN)."""
    zoom: tuple[float, float] = (1.0, 1.0)
    """Random crops are cut out of the picture enlarged by a factor from this range: with a short
    side of 256, (1, 1.25) draws short sides of 256 to 320 (SlowFast)."""
    flip: bool = True
    """Mirror half of the samples; switch off where left and right are classes."""
    brightness: float = Field(0.0, ge=0, le=1)
    """Factors of brightness, contrast and saturation are drawn from 1 - x .. 1 + x."""
    contrast: float = Field(0.0, ge=0, le=1)
    saturation: float = Field(0.0, ge=0, le=1)
    hue_turns: float = Field(0.0, ge=0, le=0.5)
    """Turns of the colour circle are drawn from -x .. x."""


class SplitSection(Section):
    """Which videos are trained on, and how many processes read them."""

    split: Positive = 1
    hold_out: Fraction = 0.0
    """Part of the training videos kept for validation (whole source groups)."""
    folds: int = Field(0, ge=0)
    """Parts that the training videos are dealt into (whole source groups), 2 or more, of which
    number `fold` is kept for validation instead of `hold_out`; 0 deals none."""
    fold: Positive = 1
    hold_out_seed: int = 0
    """Of `hold_out` and `folds`."""
    workers: int = Field(2, ge=0)

    @model_validator(mode="after")
    def _one_way_to_hold_out(self) -> SplitSection:
        if self.folds and (self.folds < 2 or self.fold > self.folds or self.hold_out):
            raise ValueError(
                f"folds must be 2 or more, fold one of them and hold_out 0, got folds {self.folds},"
                f" fold {self.fold}, hold_out {self.hold_out}"
            )
        return self


class DataSection(SplitSection):
    """Which videos, and how they are drawn."""

    frozen_views: int = Field(0, ge=0)
    """Random views of each training video that go through the frozen stages once, before training;
    each epoch draws one of them (see `engine.frozen`). 0: every epoch computes new ones."""
    class_balanced: bool = False
    """Draw samples uniformly over classes (two-stream paper) instead of over videos."""
    shares: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Data set -> its part of every batch in relation to the others', where several are trained on
    (`dualstream train --also`); 1 for those that are not named."""


class OptimizerSection(Section):
    """The optimiser; `lr` is for one step over `batch_size` samples."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    """Nesterov's momentum; for sgd only."""
    weight_decay: float = Field(5e-4, ge=0)
    lr_factors: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Part of the network -> factor of its learning rate, for instance {motion: 0.001} (the parts
    are the network's modules)."""


class ScheduleSection(Section):
    """How the learning rate moves; all in epochs."""

    name: Literal["step", "cosine", "constant"] = "step"
    milestones: tuple[Positive, ...] = ()
    """Epochs after which a step schedule multiplies by `gamma`."""
    gamma: float = Field(0.1, gt=0, le=1)
    warmup_epochs: float = Field(0.0, ge=0)
    warmup_start: Fraction = 0.0
    """Part of the learning rate that warm-up rises from."""
    cosine_over: Literal["rest", "all"] = "rest"
    """rest: the cosine falls over the epochs after warm-up; all: over every epoch, and warm-up
    rises to where it then is (PySlowFast)."""


class AttentionSection(Section):
    """How the streams of a network that exchanges attention maps learn from each other.

    The last epochs train the attention networks alone, which give the maps in a test. Before,
    the towers are trained with maps by Grad-CAM, by `schedule`.
    """

    schedule: Literal["two_phase", "end_to_end"] = "two_phase"
    """two_phase: for `constant_epochs` the maps are .1 everywhere, then they are those of the
    networks as these were then; end_to_end: those of the networks as they are, from the start."""
    constant_epochs: int = Field(0, ge=0)
    """Epochs with the constant map, until the networks are saturated; for two_phase only."""
    network_epochs: Positive
    """Epochs of the attention networks."""
    network_lr: float = Field(1e-3, gt=0)
    """Learning rate of their Adam."""
    hold_out: float = Field(0.2, gt=0, lt=1)
    """Part of the training videos that attention networks are measured on, not trained."""


class TrainSection(Section):
    """The training run."""

    epochs: Positive
    batch_size: Positive
    """Samples of one step over all devices, before accumulation."""
    segments: Positive = 1
    """Snippets drawn from a video (TSN's K)."""
    optimizer: OptimizerSection
    schedule: ScheduleSection = ScheduleSection()
    accumulate: Positive = 1
    """Steps whose gradients are added before the weights move."""
    clip_norm: float | None = Field(None, gt=0)
    labels: Labels = "one"
    """Classes of a video: one, by cross entropy of the softmax, or several, each by binary cross
    entropy of its sigmoid; tests and prediction follow it."""
    label_smoothing: Fraction = 0.0
    losses: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Name of a loss -> its weight: a head of the network, for the cross entropy of its logits, or
    a loss of the network's own; {} is 1 on what the network answers. `two_stream` has the heads
    fused, and one a stream under the stream's name. Networks that estimate motion have the loss
    motion, which needs no labels: {motion: 1} trains without labels, {answer: 1, motion: 0.1} end
    to end."""
    modality_dropout: Fraction = 0.0
    """Part of the samples that are judged without one of their streams, drawn at random, so that
    the network does not learn to look at one stream only (Neverova et al. 2015, ModDrop)."""
    attention: AttentionSection | None = None
    """For networks that exchange attention maps, `cross_attention`."""
    ema_decay: Fraction = 0.0
    """Decay of the running mean of the weights that is tested and saved; 0 is off."""
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Positive = 1
    """Of one machine."""
    nodes: Positive = 1
    """Machines with so many devices each; torchrun or SLURM starts their processes."""
    strategy: Literal["auto", "ddp"] = "auto"
    seed: int = Field(0, ge=0)
    validate_every: Positive = 1
    """Epochs between two validations on the held-out videos."""
    early_stop_patience: int | None = Field(None, ge=1)
    """Validations without a gain after which training stops."""

    @property
    def processes(self) -> int:
        """Processes of a run, one for each device of each machine."""
        return self.devices * self.nodes


class TestSection(Section):
    """How a video is seen in a test: segments x crops views, scores averaged."""

    segments: Positive = 25
    crops: Crops = "ten"
    num_frames: int | None = Field(None, ge=1)
    """Length of the snippets of every stream; None takes the inputs'."""
    whole_side: bool = False
    """Crops as large as clip.short_side instead of clip.crop_size (SlowFast)."""
