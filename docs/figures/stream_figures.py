"""Figures of the networks of single frames and of two streams, and of how they are joined."""

from __future__ import annotations

from boxes import Arrow, Box, Figure, along, chain, lane


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
