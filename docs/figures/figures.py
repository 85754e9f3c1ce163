"""The figures of the network pages as data: boxes on a grid, and arrows between them.

Shapes are channels x frames x height x width of one clip, without the batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["input", "layer", "join", "motion", "output"]


@dataclass(frozen=True)
class Box:
    """A step of the data's way."""

    name: str
    column: float
    row: float
    text: str
    shape: str = ""
    kind: Kind = "layer"
    layer: str = ""
    """`RECIPE:LAYER` whose output has the shape; a test asks `dualstream inspect`."""


@dataclass(frozen=True)
class Arrow:
    """From one box to another."""

    start: str
    end: str
    label: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Figure:
    """One SVG file."""

    name: str
    title: str
    boxes: Sequence[Box]
    arrows: Sequence[Arrow]
    note: str = ""


def chain(*names: str) -> list[Arrow]:
    """Arrows from each box to the next."""
    return [Arrow(first, second) for first, second in itertools.pairwise(names)]


def lane(
    prefix: str, row: float, recipe: str, *steps: tuple[str, str, str], column: float = 0
) -> list[Box]:
    """Boxes side by side, each (text, shape, layer); the first is the input, the last the logits.

    They are named prefix0, prefix1, ...
    """
    boxes = []
    for number, (text, shape, layer) in enumerate(steps):
        kind: Kind = "layer"
        if number == 0:
            kind = "input"
        elif shape == "400":
            kind = "output"
        boxes.append(
            Box(
                name=f"{prefix}{number}",
                column=column + number,
                row=row,
                text=text,
                shape=shape,
                kind=kind,
                layer=f"{recipe}:{layer}" if layer else "",
            )
        )
    return boxes


def along(boxes: Sequence[Box]) -> list[Arrow]:
    """Arrows along a lane."""
    return chain(*(box.name for box in boxes))


def two_stream() -> Figure:
    tower = "two_stream_rgb_flow"
    rgb, flow = (
        lane(
            stream,
            row,
            tower,
            (text, shape, ""),
            ("conv 7x7, pool", "96x54x54", f"tower.{stream}.features.3"),
            ("conv 5x5, pool", "256x13x13", f"tower.{stream}.features.7"),
            ("three conv 3x3, pool", "512x6x6", f"tower.{stream}.features.14"),
            ("two fully connected", "2048", f"tower.{stream}.full.3"),
            ("classifier, softmax", "400", f"tower.{stream}.classifier"),
        )
        for stream, row, text, shape in (
            ("rgb", 0, "one RGB frame", "3x1x224x224"),
            ("flow", 1, "ten flow fields,\nstacked: 20 channels", "2x10x224x224"),
        )
    )
    fused = Box("fused", 6, 0.5, "mean, or a fitted\nfusion, of both", "400", "output")
    return Figure(
        "two_stream",
        "The two-stream network: RGB and flow, each through a CNN-M, fused at the end",
        [*rgb, *flow, fused],
        [*along(rgb), *along(flow), Arrow("rgb5", "fused"), Arrow("flow5", "fused")],
    )


def tsn() -> Figure:
    boxes = [Box("video", 0, 1, "video, cut into\nthree equal segments", "", "input")]
    arrows = []
    for row, place in enumerate(("first", "second", "third")):
        names = [f"{part}{row}" for part in "scl"]
        boxes += [
            Box(names[0], 1, row, f"random frame of\nthe {place} segment", "3x1x224x224", "input"),
            Box(
                names[1], 2, row, "ResNet-50\n(the same weights)", "2048", "layer",
                "tsn_rgb:backbone.global_pool.flatten",
            ),
            Box(names[2], 3, row, "classifier", "400", "layer", "tsn_rgb:classifier"),
        ]  # fmt: skip
        arrows += [*chain("video", *names), Arrow(names[2], "mean")]
    boxes.append(Box("mean", 4, 1, "consensus: mean\nof the logits", "400", "output"))
    note = "A test takes 25 segments and ten crops of each. Flow: stacks of 5 fields, 10 channels."
    return Figure("tsn", "TSN: one network on three segments of a video", boxes, arrows, note)


def fusing_time() -> Figure:
    rows = (
        ("single_frame", "single frame:\none frame at a time", 1),
        ("late_fusion", "late: two frames,\n15 apart", 2),
        ("early_fusion", "early: ten frames\nin the first filter", 10),
        ("slow_fusion", "slow: ten frames,\njoined step by step", 10),
    )
    shapes = {
        "single_frame": ("96x1x27x27", "256x1x13x13", "384x1x13x13", "1x4096"),
        "late_fusion": ("96x2x27x27", "256x2x13x13", "384x2x13x13", "1x4096"),
        "early_fusion": ("96x1x27x27", "256x1x13x13", "384x1x13x13", "1x4096"),
        "slow_fusion": ("96x4x27x27", "256x2x13x13", "384x1x13x13", "1x4096"),
    }
    boxes, arrows = [], []
    for row, (name, text, frames) in enumerate(rows):
        one, two, three, full = shapes[name]
        made = lane(
            name,
            row,
            name,
            (text, f"3x{frames}x170x170", ""),
            ("conv 1, pool", one, "conv1.3"),
            ("conv 2, pool", two, "conv2.3"),
            ("conv 3", three, "conv3.0"),
            ("conv 4, 5, fully\nconnected 6, 7", full, "full7.0"),
            ("classifier", "400", "classifier"),
        )
        boxes += made
        arrows += along(made)
    return Figure("fusing_time", "Where four networks join their frames", boxes, arrows)


def over_frames() -> Figure:
    frames = "cnn_lstm:frames.backbone.global_pool.flatten"
    boxes = [
        Box("clip", 0, 1, "16 frames", "3x16x224x224", "input"),
        Box("cnn", 1, 1, "ResNet-50 on\neach frame", "2048x16", "layer", frames),
        Box("lstm", 2, 0, "LSTM reads them\none after the other", "16x256", "layer",
            "cnn_lstm:over_time.lstm"),
        Box("conv", 2, 1, "two 1D convolutions\nover time", "512x16x1x1", "layer",
            "temporal_conv:over_time.units.1.conv"),
        Box("attention", 2, 2, "self-attention: every\nframe asks all others", "16x512", "layer",
            "temporal_attention:over_time.norm"),
        Box("mean0", 3, 0, "classifier, mean\nover steps", "400", "output",
            "cnn_lstm:classifier"),
        Box("mean1", 3, 1, "mean over time,\nclassifier", "400", "output",
            "temporal_conv:classifier"),
        Box("mean2", 3, 2, "mean over time,\nclassifier", "400", "output",
            "temporal_attention:classifier"),
        Box("clip2", 0, 3.2, "10 frames", "3x10x224x224", "input"),
        Box("maps", 1, 3.2, "ResNet-50: maps of\nfour depths, the last", "2048x10x7x7", "layer",
            "recurrent_conv:backbone.layer4"),
        Box("gru", 2, 3.2, "a convolutional GRU\na depth; state:", "256x7x7", "layer",
            "recurrent_conv:over_time.3.of_reset_state"),
        Box("mean3", 3, 3.2, "means of all four,\nclassifier", "400", "output",
            "recurrent_conv:classifier"),
    ]  # fmt: skip
    arrows = [
        *chain("clip", "cnn", "conv", "mean1"),
        *(Arrow("cnn", name) for name in ("lstm", "attention")),
        *chain("lstm", "mean0"),
        *chain("attention", "mean2"),
        *chain("clip2", "maps", "gru", "mean3"),
    ]
    return Figure("over_frames", "Four ways to read a sequence of frames", boxes, arrows)


def c3d_r3d() -> Figure:
    c3d = lane(
        "c",
        0,
        "c3d",
        ("C3D: 3x3x3\neverywhere", "3x16x112x112", ""),
        ("conv, pool", "64x16x56x56", "conv_1.2"),
        ("conv, pool", "128x8x28x28", "conv_2.2"),
        ("two conv, pool", "256x4x14x14", "conv_3.4"),
        ("two conv, pool", "512x2x7x7", "conv_4.4"),
        ("two conv, pool", "512x1x4x4", "conv_5.4"),
        ("two of 4096,\nclassifier", "400", "classifier"),
    )
    boxes, arrows = [*c3d], along(c3d)
    kinds = (
        ("r3d_18", "R3D-18: residual\nblocks, 3x3x3", "8", "4", "2"),
        ("mc3_18", "MC3-18: 3D, then\n2D from res3 on", "16", "16", "16"),
        ("r2plus1d_18", "R(2+1)D-18: 1x3x3,\nthen 3x1x1", "8", "4", "2"),
    )
    for row, (name, text, *frames) in enumerate(kinds, 1):
        last = "second"
        made = lane(
            name,
            row,
            name,
            (text, "3x16x112x112", ""),
            ("stem", "64x16x56x56", "stem"),
            ("res2", "64x16x56x56", f"res2.1.{last}"),
            ("res3", f"128x{frames[0]}x28x28", f"res3.1.{last}"),
            ("res4", f"256x{frames[1]}x14x14", f"res4.1.{last}"),
            ("res5", f"512x{frames[2]}x7x7", f"res5.1.{last}"),
            ("mean, classifier", "400", "classifier"),
        )
        boxes += made
        arrows += along(made)
    return Figure("c3d_r3d", "C3D and three residual networks of 18 layers", boxes, arrows)


def t3d() -> Figure:
    main = lane(
        "m",
        0,
        "t3d_rgb",
        ("32 frames,\nevery second one", "3x32x224x224", ""),
        ("stem", "64x16x56x56", "stem"),
        ("6 dense layers", "256x16x56x56", "dense1"),
        ("temporal transition", "384x8x28x28", "transition1"),
        ("12 dense layers,\ntransition", "384x4x14x14", "transition2"),
        ("24 dense layers,\ntransition", "384x2x7x7", "transition3"),
        ("16 dense layers,\nmean, classifier", "400", "classifier"),
    )
    inside = [
        Box("x", 1, 2, "inside a transition:\nthe features", "256x16x56x56", "input"),
        Box("k1", 2, 1.2, "1x1x1", "128x16x56x56"),
        Box("k3", 2, 2, "3x3x3", "128x16x56x56"),
        Box("k6", 2, 2.8, "6x3x3", "128x16x56x56"),
        Box("cat", 3, 2, "side by side", "384x16x56x56", "join"),
        Box("pool", 4, 2, "mean of 2x2x2", "384x8x28x28", "layer", "t3d_rgb:transition1"),
    ]
    arrows = [
        *along(main),
        *(Arrow("x", name) for name in ("k1", "k3", "k6")),
        *(Arrow(name, "cat") for name in ("k1", "k3", "k6")),
        Arrow("cat", "pool"),
    ]
    note = "The second and the third transition have 4x3x3 in place of 6x3x3."
    return Figure("t3d", "T3D-121 and its temporal transition", [*main, *inside], arrows, note)


def i3d_s3d() -> Figure:
    boxes, arrows = [], []
    kinds = (("i3d", "I3D: Inception,\n3x3x3"), ("s3d", "S3D: 1x3x3,\nthen 3x1x1"))
    for row, (name, text) in enumerate(kinds):
        made = lane(
            name,
            row,
            name,
            (text, "3x64x224x224", ""),
            ("stem", "192x32x28x28", "stem.pool_3a"),
            ("two Inception\nblocks", "480x32x28x28", "mixed_3.1"),
            ("pool, five blocks", "832x16x14x14", "mixed_4.4"),
            ("pool, two blocks", "1024x8x7x7", "mixed_5.1"),
            ("mean, classifier", "400", "classifier"),
        )
        boxes += made
        arrows += along(made)
    boxes += [
        Box("image", 0, 2.4, "inflation: a filter\nof an image network", "64x3x7x7", "motion"),
        Box("copies", 1, 2.4, "copied over 7\nframes, divided by 7", "64x3x7x7x7", "motion"),
        Box("still", 2, 2.4, "a still video gives\nwhat the image gave", "", "motion"),
    ]
    arrows += chain("image", "copies", "still")
    return Figure("i3d_s3d", "I3D, S3D, and how a 2D filter is inflated", boxes, arrows)


def slowfast() -> Figure:
    recipe = "slowfast_r50_8x8"
    slow = lane(
        "s",
        0,
        recipe,
        ("slow: 8 frames", "3x8x224x224", ""),
        ("stem", "64x8x56x56", "stem.slow"),
        ("res2", "256x8x56x56", "res2.slow"),
        ("res3", "512x8x28x28", "res3.slow"),
        ("res4", "1024x8x14x14", "res4.slow"),
        ("res5", "2048x8x7x7", "res5.slow"),
    )
    fast = lane(
        "f",
        1.5,
        recipe,
        ("fast: 32 frames", "3x32x224x224", ""),
        ("stem", "8x32x56x56", "stem.fast"),
        ("res2", "32x32x56x56", "res2.fast"),
        ("res3", "64x32x28x28", "res3.fast"),
        ("res4", "128x32x14x14", "res4.fast"),
        ("res5", "256x32x7x7", "res5.fast"),
    )
    end = Box("end", 6, 0.75, "means side by side,\nclassifier", "400", "output",
              f"{recipe}:classifier")  # fmt: skip
    widths = {1: 16, 2: 64, 3: 128, 4: 256}
    lateral = [Arrow(f"f{n}", f"s{n}", f"+{width}") for n, width in widths.items()]
    note = (
        "Upwards: a convolution of 7 frames with stride 4 over time turns 32 frames into 8; its "
        "channels (+16, ...)\nare put beside the slow ones, which the next stage sees."
    )
    return Figure(
        "slowfast",
        "SlowFast-R50 8x8: a slow and a fast pathway with lateral connections",
        [*slow, *fast, end],
        [*along(slow), *along(fast), *lateral, Arrow("s5", "end"), Arrow("f5", "end")],
        note,
    )


def x3d() -> Figure:
    main = lane(
        "m",
        0,
        "x3d_m",
        ("X3D-M: 16 frames", "3x16x224x224", ""),
        ("stem: 1x3x3, 5x1x1", "24x16x112x112", "stem.time"),
        ("3 blocks", "24x16x56x56", "res2.2"),
        ("5 blocks", "48x16x28x28", "res3.4"),
        ("11 blocks", "96x16x14x14", "res4.10"),
        ("7 blocks", "192x16x7x7", "res5.6"),
        ("432, mean, 2048,\nclassifier", "400", "classifier"),
    )
    block = [
        Box("in", 1, 1.4, "a block of res2", "24x16x56x56", "input"),
        Box("wide", 2, 1.4, "1x1x1, wider", "54x16x56x56"),
        Box("each", 3, 1.4, "3x3x3 for each\nchannel by itself", "54x16x56x56"),
        Box("squeeze", 4, 1.4, "squeeze-excitation\n(every second), swish", "54x16x56x56"),
        Box("narrow", 5, 1.4, "1x1x1, narrower", "24x16x56x56"),
        Box("sum", 6, 1.4, "+ the block's input", "24x16x56x56", "join"),
    ]
    return Figure(
        "x3d",
        "X3D-M and one of its blocks",
        [*main, *block],
        [*along(main), *along(block)],
    )


def non_local() -> Figure:
    boxes = [
        Box("x", 0, 1, "features (res3\nof I3D-R50)", "512x4x28x28", "input", "i3d_r50:res3.3"),
        Box("q", 1, 0, "query: 1x1x1", "256x3136"),
        Box("k", 1, 1, "pool, key: 1x1x1", "256x784"),
        Box("v", 1, 2, "pool, value: 1x1x1", "256x784"),
        Box("w", 2, 0.5, "softmax of query\ntimes key", "3136x784", "join"),
        Box("g", 3, 1, "values, weighted", "256x3136", "join"),
        Box("p", 4, 1, "1x1x1, norm that\nstarts with gain 0", "512x4x28x28"),
        Box("y", 5, 1, "+ the features", "512x4x28x28", "output"),
    ]
    arrows = [
        *(Arrow("x", name) for name in "qkv"),
        Arrow("q", "w"),
        Arrow("k", "w"),
        Arrow("w", "g"),
        Arrow("v", "g"),
        *chain("g", "p", "y"),
    ]
    note = "3136 places = 4 x 28 x 28; pooled by 2 in height and width 784 = 4 x 14 x 14."
    return Figure("non_local", "The non-local block, embedded Gaussian", boxes, arrows, note)


def conv_fusion() -> Figure:
    boxes = [
        Box("rgb", 0, 0, "5 frames, one a\nfifth of the video", "5 of 3x1x224x224", "input"),
        Box("flow", 0, 1.2, "5 stacks of ten\nflow fields", "5 of 2x10x224x224", "input"),
        Box("vr", 1, 0, "VGG-16 up to\nrelu5_3", "512x5x14x14"),
        Box("vf", 1, 1.2, "VGG-16 up to\nrelu5_3", "512x5x14x14"),
        Box("cat", 2, 0, "channels side by side", "1024x5x14x14", "join"),
        Box("conv", 3, 0, "conv 3x3x3", "512x5x14x14", "join"),
        Box("pool", 4, 0, "pools: 5 steps,\nthen pool5", "512x1x7x7"),
        Box("joint", 5, 0, "fully connected,\njoint head", "400", "output"),
        Box("pool2", 4, 1.2, "pools: 5 steps,\nthen pool5", "512x1x7x7"),
        Box("own", 5, 1.2, "fully connected,\nhead of flow", "400", "output",
            "conv_fusion:tower.flow.classifier"),
        Box("mean", 6, 0.6, "mean of both", "400", "output"),
    ]  # fmt: skip
    arrows = [
        *chain("rgb", "vr", "cat", "conv", "pool", "joint", "mean"),
        *chain("flow", "vf", "pool2", "own", "mean"),
        Arrow("vf", "cat"),
    ]
    return Figure("conv_fusion", "Two towers fused after a convolution", boxes, arrows)


def hidden_two_stream() -> Figure:
    m = "hidden_two_stream:motion"
    boxes = [
        Box("clip", 0, 0, "11 frames, stacked:\n33 channels", "3x11x224x224", "input"),
        Box("encoder", 1, 0, "MotionNet, down\nin six stages", "1024x7x7", "motion",
            f"{m}.encoder.5"),
        Box("decoder", 2, 0, "up again, with\nlinks across", "64x112x112", "motion",
            f"{m}.smooth.3"),
        Box("flow", 3, 0, "ten flow fields (also\nat 7, 14, 28, 56 px)", "20x112x112", "motion",
            f"{m}.flow.4"),
        Box("cut", 4, 0, "cut to 20 px,\nenlarged, scaled", "20x224x224", "join"),
        Box("vgg", 5, 0, "VGG-16", "512x7x7", "layer",
            "hidden_two_stream:temporal.backbone.features"),
        Box("end", 6, 0, "fully connected,\nclassifier", "400", "output",
            "hidden_two_stream:classifier"),
        Box("loss", 3, 1.2, "frame t + 1, warped\nback, must be frame t", "", "join"),
    ]  # fmt: skip
    arrows = [
        *chain("clip", "encoder", "decoder", "flow", "cut", "vgg", "end"),
        Arrow("flow", "loss", "losses without labels", dashed=True),
    ]
    return Figure("hidden_two_stream", "MotionNet in front of a temporal network", boxes, arrows)


def cross_attention() -> Figure:
    c = "cross_attention"
    boxes = [
        Box("rgb", 0, 0, "frame, and the map\nof flow", "3 + 1 channels", "input"),
        Box("flow", 0, 1.6, "ten flow fields, and\nthe map of RGB", "20 + 1 channels",
            "input"),
        Box("ir", 1, 0, "Inception-v3", "2048", "layer", f"{c}:tower.rgb.backbone"),
        Box("if", 1, 1.6, "Inception-v3", "2048", "layer", f"{c}:tower.flow.backbone"),
        Box("cr", 2, 0, "classifier", "400", "layer", f"{c}:tower.rgb.classifier"),
        Box("cf", 2, 1.6, "classifier", "400", "layer", f"{c}:tower.flow.classifier"),
        Box("mr", 1, 0.8, "where it looked", "1x5x5", "motion", f"{c}:attention.rgb.map"),
        Box("mf", 1, 2.4, "where it looked", "1x5x5", "motion", f"{c}:attention.flow.map"),
        Box("mean", 3, 0.8, "weighted mean", "400", "output"),
    ]  # fmt: skip
    arrows = [
        *chain("rgb", "ir", "cr", "mean"),
        *chain("flow", "if", "cf", "mean"),
        Arrow("ir", "mr"),
        Arrow("if", "mf"),
        Arrow("mr", "flow", dashed=True),
        Arrow("mf", "rgb", dashed=True),
    ]
    note = "Training: the maps are Grad-CAM's. Test: small networks predict them from the features."
    return Figure("cross_attention", "Two streams that see each other's maps", boxes, arrows, note)


def compressed_video() -> Figure:
    boxes = [
        Box("file", 0, 0.5, "video file", "", "input"),
        Box("i", 1, 0, "whole pictures\n(I-frames)", "", "layer"),
        Box("p", 1, 1, "changes since then\n(P- and B-frames)", "", "layer"),
        Box("rgb", 2, 0, "decoder", "3xTxHxW"),
        Box("mv", 2, 1, "motion vectors of\nblocks, as pixels", "2xTxHxW", "motion"),
        Box("net", 3, 0, "RGB stream", "400", "output"),
        Box("net2", 3, 1, "temporal stream,\nas for flow", "400", "output"),
    ]
    arrows = [
        *chain("file", "i", "rgb", "net"),
        *chain("file", "p", "mv", "net2"),
        Arrow("p", "rgb"),
    ]
    return Figure("compressed_video", "Motion that the codec has found already", boxes, arrows)


FIGURES = (
    *(two_stream(), tsn(), fusing_time(), over_frames(), c3d_r3d(), t3d(), i3d_s3d(), slowfast()),
    *(x3d(), non_local(), conv_fusion(), hidden_two_stream(), cross_attention()),
    compressed_video(),
)
