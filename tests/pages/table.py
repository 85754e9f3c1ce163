"""How the commands of each page of the documentation are run, or why they are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SMALL = (
    "train.epochs=1",
    "train.batch_size=4",
    "data.workers=0",
    "data.frozen_views=0",
    "clip.short_side=36",
    "clip.crop_size=32",
    "test.segments=1",
    "test.crops=center",
)
"""Changes to a recipe for a training of seconds."""

TSN = (
    *SMALL,
    "train.segments=1",
    "model.options.backbone=test_resnet",
    "model.options.pretrained=false",
)

I3D = (*SMALL, "input.num_frames=8")


@dataclass(frozen=True)
class Page:
    """How the commands of a page are run."""

    put: Mapping[str, str] = field(default_factory=dict)
    """Words in place of others."""
    small: tuple[str, ...] | None = SMALL
    """Added to each `train`; None is what `small_changes` says of its recipe."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Beginning of commands that are not run -> why."""
    before: tuple[str, ...] = ()
    """Commands that another page tells and this one goes on from."""
    weights: tuple[str, ...] = ()
    """Published weights that a training starts from."""
    needs: str = ""
    """Module that is not installed everywhere."""
    meets: str = ""
    """Fixture of what is not on this machine; gives further words to `put`."""


DEMO = {"demo": "test_readme runs it"}
MACHINES = {
    "train work --recipe slowfast_r50_8x8 --out runs/slowfast train.devices": "many_gpus.md"
}

NETWORKS = {
    "c3d_r3d.md": Page(small=None, weights=("r3d_18_kinetics400",)),
    "compressed_video.md": Page(small=TSN),
    "conv_fusion.md": Page(
        {
            "model.options.backbone=vgg16": "model.options.backbone=test_resnet",
            "input.num_frames=10": "input.num_frames=4",
        },
        small=None,
    ),
    "cross_attention.md": Page(small=None),
    "fusing_time.md": Page(small=None),
    "hidden_two_stream.md": Page(small=None),
    "i3d_s3d.md": Page({"model.options.backbone=resnet18": "data.workers=0"}, small=None),
    "non_local.md": Page(small=None, weights=("i3d_r50_kinetics400",)),
    "over_frames.md": Page(small=None),
    "slowfast.md": Page(small=None, weights=("slow_r50_kinetics400",)),
    "t3d.md": Page(small=None),
    "tsn.md": Page(
        {"model.options.backbone=mobilenetv3_large_100": "model.options.backbone=test_resnet"},
        small=None,
    ),
    "two_stream.md": Page(small=None),
    "x3d.md": Page({"1.0": "0.012"}, small=None, weights=("x3d_m_kinetics400",)),
}
"""Pages of the families of networks."""

FOLLOWED = {
    **{f"networks/{name}": page for name, page in NETWORKS.items()},
    "bulk.md": Page(
        {"FOLDER": "my_videos/golf", "RUN": "runs/rgb", "RGB": "runs/rgb", "FLOW": "runs/flow"},
        needs="pyarrow",
    ),
    "explain.md": Page(),
    "explained.md": Page(),
    "export.md": Page(
        {
            "runs/spatial": "runs/rgb",
            "runs/temporal": "runs/flow",
            "runs/streams/spatial__fine_tuned": "runs/rgb",
            "VIDEO": "a.mp4",
        },
        needs="onnx",
    ),
    "fusion.md": Page({"VIDEOS": "ucf101"}, TSN),
    "guide/cameras.md": Page({"0": "a.mp4"}, meets="camera"),
    "guide/fine_tuning.md": Page(
        small=I3D,
        weights=("efficientnet_lite0_imagenet", "i3d_rgb_kinetics400", "slow_r50_kinetics400"),
    ),
    "guide/flow_at_scale.md": Page(meets="cluster"),
    "guide/own_data.md": Page(small=("train.epochs=1",)),
    "guide/own_intervals.md": Page({"DATA": "days"}, ("train.epochs=1",)),
    "guide/page.md": Page({"8001": "0"}, needs="fastapi"),
    "guide/ucf101.md": Page(small=TSN),
    "hub.md": Page(needs="huggingface_hub", meets="hub"),
    "idt.md": Page(
        {"DATA": "work", "VIDEO": "a.mp4", "FOLDER": "found", "few": "work", "jhmdb": "work"},
        ("encoding.gaussians=4", "encoding.samples=400"),
        left={"test 1": "of a loop; 'test runs/idt' is the same"},
        before=("test runs/flow",),
        needs="dualstream.flow._trajectories",
    ),
    "index.md": Page(left=DEMO),
    "intervals.md": Page({"DATA": "days", "long": "days"}, ("train.epochs=1",)),
    "long_video.md": Page(meets="camera"),
    "networks.md": Page(
        {
            "backbone.Mixed_7a": "backbone.layer3",
            "backbone.Mixed_7c": "backbone.layer4",
            "train.batch_size=96": "train.batch_size=8",
        },
        small=None,
        left=MACHINES,
        before=(
            "prepare ucf101 --out work/ucf101",
            "prepare my_videos --out work/hmdb51 --test-fraction 0.25",
            "flow work/ucf101",
            "flow work/hmdb51",
            "train work --recipe tsn_rgb --out runs/rgb16",
            "train work --recipe tsn_flow --out runs/flow16",
            "train work --recipe cross_attention --out runs/cross",
        ),
        weights=("slow_r50_kinetics400",),
    ),
    "results.md": Page(small=None),
    "serve.md": Page(needs="fastapi"),
    "speed.md": Page(
        {"demo/synthetic/videos/dots-slow": "my_videos/golf"},
        left=DEMO,
        before=("prepare jhmdb-data --out jhmdb",),
    ),
    "teach.md": Page({"runs/my_rgb": "runs/rgb", "runs/my_flow": "runs/flow"}),
    "timelines.md": Page(),
}
"""Page -> how it is run, in this process."""

PROCESSES = {"guide/many_gpus.md"}
"""Pages whose commands start several processes; test_pages_of_processes runs them."""
