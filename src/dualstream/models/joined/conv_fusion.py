"""Two towers joined inside, after one of their layers (Feichtenhofer et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from dualstream.errors import InputError, ShapeError, UnknownNameError, check_choice, check_least
from dualstream.models.accepts import Accepts
from dualstream.models.joined.maps import (
    GOES_ON,
    FusionName,
    MapFusion,
    VolumePool,
    Volumes,
    cut_after,
    names_to_show,
    num_groups,
    pooled_vectors,
    run_with,
    survey,
)
from dualstream.models.joined.towers import (
    RGB_AND_FLOW,
    Joined,
    Towers,
    make_tower,
    make_towers,
    one_input,
)
from dualstream.models.network import Network, check_dropout

INPUT = "input"
"""In place of a layer: the clips themselves are joined, channel by channel (early fusion)."""


class ConvFusion(Joined):
    """Two towers whose feature maps are joined after a layer; one tower goes on with what comes.

    The first stream (RGB) is fused into: its tower goes on with the fused map to the joint head.
    Fused by concatenation or bilinearly, the map has other channels than the tower goes on with:
    its mean over time and space (the bilinear vector itself) then has a classifier of its own, and
    the layers after it are left out. The second tower (flow) keeps its rest and its own head
    beside, or ends at the layer.

    The heads are `fused`, which `forward` gives, and with the own head `joint` and the second
    stream's name, whose logits `fused` is the mean of; the authors train a loss on each of these
    two (`train.losses: {joint: 1, flow: 1}`).

    Over time, S segments of a video count as steps where `steps` is above 1: maps of 2D towers
    become volumes of `steps` segments, which conv_3d and `pool` see as 3D networks' maps. More
    segments than `steps` make groups that each see the whole video, and logits are the mean over
    groups.

    Args:
        in_channels: stream -> C of one time step, of exactly two streams.
        towers: the networks, see `Towers`, for instance two `tsn` or two 3D networks.
        length: stream -> T, for towers that fix it.
        image_size: H = W, for towers that fix it.
        after: layer of both towers (a name as `dualstream inspect` shows it), or stream -> its
            layer; ReLU should come before it. `input` is early fusion, by concatenation only:
            clips of one length are joined frame by frame, others with all frames as channels.
        fusion: see `MapFusion`.
        steps: segments of a video that one volume has.
        pool: window of 3D max pooling (time, height, width) after the fusion, side by side, and
            after the same layer of the second tower where that goes on.
        own_head: whether the second tower goes on to its own head.
        dropout: in front of a classifier after concatenation or bilinear fusion; other towers have
            their own.

    Raises:
        InputError: another number of streams, maps that cannot be fused so, or options that
            exclude each other.
        UnknownNameError: a choice is unknown, or there is no such layer (lists those there are).

    Source:
        Feichtenhofer, Pinz & Zisserman 2016, sections 3.1 to 3.4, with VGG-M-2048 and VGG-16 fused
        after the ReLU of their last convolution. From the authors' code (`cnn_ucf101_fusion.m`,
        `cnn_train_dag.m`): ReLU after both kinds of convolution, 3D pooling over 5 steps in both
        towers, the mean of both heads' logits, test frames in groups that span the video.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: Mapping[str, int] = RGB_AND_FLOW,
        towers: Towers = "cnn_m_2048",
        length: Mapping[str, int] | None = None,
        image_size: int | None = None,
        after: str | Mapping[str, str] = "features.13",
        fusion: FusionName = "conv",
        steps: int = 1,
        pool: Sequence[int] | None = None,
        own_head: bool = True,
        dropout: float = 0.5,
    ) -> None:
        check_choice("fusion", fusion, FusionName)
        check_least(1, steps=steps)
        check_dropout(dropout)
        if len(in_channels) != 2:
            raise InputError(
                f"conv_fusion joins two streams, got {', '.join(in_channels) or 'none'}: "
                "two_stream takes more."
            )
        made = make_towers(
            towers,
            num_classes=num_classes,
            in_channels=in_channels,
            length=length,
            image_size=image_size,
        )
        inputs = {stream: one_input(tower) for stream, tower in made.items()}
        is_early = after == INPUT
        if is_early:
            _check_early(fusion, steps, pool)
            made = _early_towers(made, towers, image_size=image_size, own_head=own_head)
        super().__init__(num_classes=num_classes, towers=made, inputs=inputs)
        self.into, self.other = in_channels
        self.steps = steps
        self.own_head = own_head
        self.heads = ("fused", "joint", self.other) if own_head else ("fused",)
        self.pool_3d = None if pool is None else VolumePool(_window(pool, fusion))
        self.after: dict[str, str] | None = None
        """Stream -> the layer of its tower; None for early fusion."""
        if not is_early:
            self.after = dict.fromkeys(made, after) if isinstance(after, str) else dict(after)
            self.fusion = self._cut_towers(self.after, fusion)
        self.goes_on = is_early or fusion in GOES_ON
        if self.goes_on:
            self.apply_freezing()
        else:
            self.add_classifier(self.fusion.out_channels, dropout=dropout)
        if fusion in ("conv", "conv_3d"):
            self.conv_dims = 3

    def _cut_towers(self, after: Mapping[str, str], fusion: FusionName) -> MapFusion:
        """Make the fusion of both layers, and take away what no tower goes on with."""
        channels, towers = {}, self.towers()
        if set(after) != set(towers):
            raise InputError(
                f"after names layers of {', '.join(after)}, the streams are {', '.join(towers)}: "
                "give one to each."
            )
        for stream, layer in after.items():
            tower = towers[stream]
            if tower.checkpointing:
                raise InputError(
                    f"The tower of the stream {stream!r} cannot be checkpointed, its layers are "
                    "joined with the other's. Make it with checkpointing=False."
                )
            known = survey(tower)
            if layer not in known.channels:
                what = f"layer of the {stream} tower ({tower.name})"
                raise UnknownNameError(what, layer, (INPUT, *names_to_show(known.channels)))
            channels[stream] = known.channels[layer]
            goes_on = fusion in GOES_ON if stream == self.into else self.own_head
            if not goes_on:
                cut_after(tower, layer, known)
        return MapFusion(fusion, (channels[self.into], channels[self.other]))

    @property
    def joins_segments(self) -> bool:
        """True where segments are the steps of a volume."""
        return self.steps > 1 or super().joins_segments

    def head(self) -> tuple[nn.Module, ...]:
        """The fusion, the joint classifier and the heads of the towers."""
        own = [self._modules.get(name) for name in ("fusion", "classifier")]
        return (*(part for part in own if part is not None), *super().head())

    def classifiers(self) -> Mapping[str, nn.Linear]:
        """The joint classifier, or that of the tower which goes on, and the second stream's own."""
        joint, *own = self.heads[1:] or self.heads
        after = self.towers()[self.into].classifier if self.goes_on else self.classifier
        return {joint: after, **{stream: self.towers()[stream].classifier for stream in own}}

    def outputs(
        self, x: Tensor | Mapping[str, Tensor], *, absent: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Logits of the joint head, and of the second stream's own.

        Args:
            x: stream -> (N, C, T, H, W) or (N, S, C, T, H, W).
            absent: stream -> (N,) booleans, true where its map (its clip in early fusion) is zeros
                and `fused` is without its own head.

        Returns:
            "fused", and with the own head "joint" and the second stream -> (N, K).

        Raises:
            InputError: other streams.
            ShapeError: a tower does not take its stream, streams differ in N or S, or their maps
                in steps or size.
        """
        streams = self._by_stream(x)
        self.check({stream: clips.shape for stream, clips in streams.items()})
        absent = absent or {}
        run = self._run_early if self.after is None else self._run
        joint, own = run(streams, absent)
        if own is None:
            return {"fused": joint}
        fused = (joint + own) / 2
        if self.other in absent:
            fused = torch.where(absent[self.other][:, None], joint, fused)
        return {"fused": fused, "joint": joint, self.other: own}

    def _run_early(
        self, streams: Mapping[str, Tensor], absent: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Logits of the joint tower on all channels, and of the second tower."""
        towers = self.towers()
        clips = [
            _without(streams[stream], absent.get(stream)) for stream in (self.into, self.other)
        ]
        if _frames_as_channels(self.inputs.values()):  # (N, C, T, H, W) -> (N, T*C, 1, H, W)
            clips = [one.transpose(-4, -3).flatten(-4, -3).unsqueeze(-3) for one in clips]
        _check_same_places([one.shape for one in clips], self)
        joint: Tensor = towers[self.into](torch.cat(clips, dim=-4))
        return joint, towers[self.other](streams[self.other]) if self.own_head else None

    def _run(
        self, streams: Mapping[str, Tensor], absent: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Logits of the joint head and of the second tower's own."""
        assert self.after is not None
        towers, shape = self.towers(), streams[self.into].shape
        segments = shape[1] if len(shape) == 6 else 1
        volumes = Volumes(shape[0], segments, num_groups(segments, self.steps))
        found: dict[str, Tensor] = {}

        def keep(stream: str, maps: Tensor) -> Tensor:
            whole = volumes.of(maps)
            found[stream] = _without(whole, absent.get(stream), groups=volumes.groups)
            return whole

        def of_other(maps: Tensor) -> Tensor | None:
            # Later layers may change their input in place, which the fusion still needs.
            whole = keep(self.other, maps.clone() if self.own_head else maps)
            return volumes.back(self._pooled(whole).clone(), maps.ndim) if self.own_head else None

        def fuse(maps: Tensor) -> Tensor | None:
            keep(self.into, maps)
            _check_same_places([found[s].shape for s in (self.into, self.other)], self)
            found["fused"] = self._pooled(self.fusion(found[self.into], found[self.other]))
            return volumes.back(found["fused"], maps.ndim) if self.goes_on else None

        layers = self.after
        own = run_with(
            towers[self.other], streams[self.other], layer=layers[self.other], change=of_other
        )
        joint = run_with(
            towers[self.into], streams[self.into], layer=layers[self.into], change=fuse
        )
        if joint is None:
            vectors = self.dropout(pooled_vectors(found["fused"]))  # (N*G, C)
            logits = self.classifier(vectors).reshape(shape[0], volumes.groups, -1)
            joint = logits.mean(dim=1)
        return joint, own

    def _pooled(self, volume: Tensor) -> Tensor:
        return volume if self.pool_3d is None else self.pool_3d(volume)


def _without(values: Tensor, absent: Tensor | None, *, groups: int = 1) -> Tensor:
    """Zeros in the rows, `groups` a sample, of samples that lack the stream."""
    if absent is None:
        return values
    rows = absent.repeat_interleave(groups)
    return values.masked_fill(rows.reshape(-1, *[1] * (values.ndim - 1)), 0)


def _check_same_places(shapes: Sequence[torch.Size], model: ConvFusion) -> None:
    """Raise ShapeError unless two maps (or clips) have the same steps, height and width."""
    one, other = (tuple(shape[-3:]) for shape in shapes)
    if one == other:
        return
    raise ShapeError(
        f"{model.name} joins maps of the same steps, height and width; {model.into} has "
        f"{' x '.join(map(str, one))}, {model.other} {' x '.join(map(str, other))}. Give both "
        f"streams the same length (inputs.{model.into}.num_frames, inputs.{model.other}.num_frames)"
        " and size, or choose layers of the same stride (model.options.after)."
    )


def _frames_as_channels(inputs: Iterable[Accepts]) -> bool:
    """Whether clips that are joined at the input give all frames as channels: of fixed lengths that
    differ, as one frame and a stack of ten fields."""
    lengths = {accepts.length for accepts in inputs}
    return len(lengths) > 1 and None not in lengths


def _early_towers(
    made: Mapping[str, Network], towers: Towers, *, image_size: int | None, own_head: bool
) -> dict[str, Network]:
    """The first tower made anew for the channels of both streams; the second for its own head."""
    (into, first), (other, second) = made.items()
    inputs = one_input(first), one_input(second)
    stacked = _frames_as_channels(inputs)
    options = {"name": towers} if isinstance(towers, str) else towers[into]
    if not isinstance(options, str):
        options = {option: value for option, value in options.items() if option != "length"}
    joint = make_tower(
        options,
        stream=into,
        num_classes=first.num_classes,
        in_channels=sum(a.channels * (a.length or 1 if stacked else 1) for a in inputs),
        sizes={"length": 1 if stacked else inputs[0].length, "image_size": image_size},
    )
    return {into: joint, other: second} if own_head else {into: joint}


def _check_early(fusion: FusionName, steps: int, pool: Sequence[int] | None) -> None:
    """Raise InputError unless clips are joined in the one way that there is."""
    if fusion != "concatenation" or steps > 1 or pool is not None:
        raise InputError(
            "Early fusion (after='input') joins clips by fusion='concatenation', with steps=1 and "
            f"pool=None, got {fusion!r}, {steps} and {pool}."
        )


def _window(pool: Sequence[int], fusion: FusionName) -> tuple[int, int, int]:
    """Check the window of the pool, and whether there is a map to pool."""
    if len(pool) != 3 or min(pool) < 1:
        raise InputError(f"pool must be three sizes of at least 1, got {list(pool)}.")
    if fusion == "bilinear":
        raise InputError("Bilinear fusion is a mean over all places already: leave pool out.")
    return pool[0], pool[1], pool[2]


conv_fusion = ConvFusion
"""The name in `MODELS`."""
