"""Figures of the networks that convolve over space and time."""

from __future__ import annotations

from boxes import Arrow, Box, Figure, along, chain, lane


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
