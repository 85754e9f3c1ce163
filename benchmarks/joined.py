"""What joining costs: a forward pass of two streams beside its towers, one after the other.

    python benchmarks/joined.py               # all pairs; writes benchmarks/results/joined.json
    python benchmarks/joined.py --rounds 31
    python benchmarks/joined.py --cpu-time    # seconds of this process, where others run beside it

The bar is 1.05 times the sum of the towers for `two_stream`, and for `conv_fusion` by sum. Batch 1,
`--threads` threads (two), evaluation mode, rounds in turn, medians. The 3x3x3 filters of `conv_3d`
are work of their own, in proportion to their multiply-adds; they are shown without a bar.
`cross_attention` sees the 25 segments of a test; its bar is 1.1 times the same two towers.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from dualstream.models import create_model
from dualstream.models.inspect import inspect_network
from measure import FOLDER, interleaved, summary, versions, write_json

TSN = {"name": "tsn", "backbone": "resnet50"}
STACKS = {"towers": {"rgb": TSN, "flow": TSN}, "length": {"rgb": 1, "flow": 10}}


@dataclass(frozen=True)
class Case:
    """A joint network and the clip that it is timed on."""

    name: str
    options: dict[str, Any]
    frames: int
    side: int
    bar: float | None = None
    segments: int = 0
    """0: one clip without an axis of segments."""

    def __str__(self) -> str:
        """For instance 'conv_fusion of r3d_18, sum'."""
        if "backbone" in self.options:
            return f"{self.name} of {self.options['backbone']}, {self.segments} segments"
        towers = self.options["towers"]
        network = towers if isinstance(towers, str) else towers["rgb"]["backbone"]
        return f"{self.name} of {network}, {self.options.get('fusion', 'mean of logits')}"


CASES = (
    Case("two_stream", {"towers": "r3d_18"}, 16, 112, bar=1.05),
    Case("two_stream", STACKS, 1, 224, bar=1.05),
    Case(
        "conv_fusion",
        {"towers": "r3d_18", "after": "res5", "fusion": "sum"},
        *(16, 112),
        bar=1.05,
    ),
    Case(
        "conv_fusion",
        {**STACKS, "after": "backbone.layer4", "fusion": "sum"},
        *(1, 224),
        bar=1.05,
    ),
    Case("conv_fusion", {"towers": "r3d_18", "after": "res5", "fusion": "conv_3d"}, 16, 112),
    Case(
        "cross_attention",
        {"backbone": "inception_v3", "length": {"rgb": 1, "flow": 10}},
        *(1, 224),
        bar=1.1,
        segments=25,
    ),
)


def measured(case: Case, *, rounds: int, cpu_time: bool) -> tuple[dict[str, list[float]], float]:
    """Seconds of the joint network and of its towers, and the ratio of their multiply-adds."""
    torch.manual_seed(0)
    model = create_model(case.name, num_classes=400, **case.options).eval()
    sizes = {
        stream: (accepts.channels, accepts.length or case.frames, case.side, case.side)
        for stream, accepts in model.inputs.items()
    }
    segments = (case.segments,) * bool(case.segments)
    clips = {stream: torch.randn(1, *segments, *size) for stream, size in sizes.items()}
    towers = model.towers()

    def alone() -> None:
        for stream, tower in towers.items():
            of_stream = clips[stream].reshape(-1, *sizes[stream])
            for clip in of_stream:
                tower(clip[None])

    with torch.inference_mode():
        seconds = interleaved(
            {"joint": lambda: model(clips), "towers": alone},
            rounds=rounds,
            warm_up=1,
            clock=time.process_time if cpu_time else time.perf_counter,
        )
    costs = [inspect_network(t, input_size=sizes[s]).multiply_adds for s, t in towers.items()]
    return seconds, inspect_network(model, input_size=sizes).multiply_adds / sum(costs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    all_seconds, results = {}, {}
    for case in CASES:
        seconds, costs = measured(case, rounds=arguments.rounds, cpu_time=arguments.cpu_time)
        # Of each round, whose two runs meet the same load.
        ratio = median(a / b for a, b in zip(seconds["joint"], seconds["towers"], strict=True))
        print(case, *(f"  {key:6} {summary(taken)}" for key, taken in seconds.items()), sep="\n")
        shown = "no bar" if case.bar is None else f"bar {case.bar}"
        print(f"  ratio {ratio:.3f} ({shown}), of multiply-adds {costs:.3f}", flush=True)
        results[str(case)] = {"ratio": ratio, "ratio_of_multiply_adds": costs, "bar": case.bar}
        all_seconds |= {f"{case}: {key}": taken for key, taken in seconds.items()}
    write_json(
        FOLDER / "results" / "joined.json",
        seconds=all_seconds,
        settings={
            "rounds": arguments.rounds,
            "threads": arguments.threads,
            "clock": "process" if arguments.cpu_time else "wall",
        },
        results=results,
        packages=versions("torch", "timm", "dualstream"),
    )


if __name__ == "__main__":
    main()
