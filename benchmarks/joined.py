"""What joining costs: a forward pass of two streams beside its towers, one after the other.

    python benchmarks/joined.py               # all pairs; writes benchmarks/results/joined.json
    python benchmarks/joined.py --rounds 31
    python benchmarks/joined.py --cpu-time    # seconds of this process, where others run beside it

The bar is 1.05 times the sum of the towers for `two_stream`, and for `conv_fusion` by sum. Batch 1,
`--threads` threads (two), evaluation mode, rounds in turn, medians. The 3x3x3 filters of `conv_3d`
are work of their own, in proportion to their multiply-adds; they are shown without a bar.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

import torch

from dualstream.models import create_model
from dualstream.models.inspect import inspect_network
from measure import FOLDER, interleaved, summary, versions, write_json

BAR = 1.05
TSN = {"name": "tsn", "backbone": "resnet50"}
STACKS = {"towers": {"rgb": TSN, "flow": TSN}, "length": {"rgb": 1, "flow": 10}}
PAIRS: tuple[tuple[str, dict[str, Any], tuple[int, int], float | None], ...] = (
    ("two_stream", {"towers": "r3d_18"}, (16, 112), BAR),
    ("two_stream", STACKS, (1, 224), BAR),
    ("conv_fusion", {"towers": "r3d_18", "after": "layer4", "fusion": "sum"}, (16, 112), BAR),
    ("conv_fusion", {**STACKS, "after": "backbone.layer4", "fusion": "sum"}, (1, 224), BAR),
    ("conv_fusion", {"towers": "r3d_18", "after": "layer4", "fusion": "conv_3d"}, (16, 112), None),
)
"""Network, its options, frames and side of the clip, bar."""


def title(name: str, options: dict[str, Any]) -> str:
    """For instance 'conv_fusion of r3d_18, sum'."""
    towers = options["towers"]
    network = towers if isinstance(towers, str) else towers["rgb"]["backbone"]
    return f"{name} of {network}, {options.get('fusion', 'mean of logits')}"


def measured(
    name: str, options: dict[str, Any], clip: tuple[int, int], *, rounds: int, cpu_time: bool
) -> tuple[dict[str, list[float]], float]:
    """Seconds of the joint network and of its towers, and the ratio of their multiply-adds."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=400, **options).eval()
    frames, side = clip
    sizes = {
        stream: (accepts.channels, accepts.length or frames, side, side)
        for stream, accepts in model.inputs.items()
    }
    clips = {stream: torch.randn(1, *size) for stream, size in sizes.items()}
    towers = model.towers()

    def alone() -> None:
        for stream, tower in towers.items():
            tower(clips[stream])

    with torch.inference_mode():
        seconds = interleaved(
            {"joint": lambda: model(clips), "towers": alone},
            rounds=rounds,
            warm_up=2,
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
    for name, options, clip, bar in PAIRS:
        seconds, costs = measured(
            name, options, clip, rounds=arguments.rounds, cpu_time=arguments.cpu_time
        )
        what = title(name, options)
        # Of each round, whose two runs meet the same load.
        ratio = median(a / b for a, b in zip(seconds["joint"], seconds["towers"], strict=True))
        print(what, *(f"  {key:6} {summary(taken)}" for key, taken in seconds.items()), sep="\n")
        shown = "no bar" if bar is None else f"bar {bar}"
        print(f"  ratio {ratio:.3f} ({shown}), of multiply-adds {costs:.3f}", flush=True)
        results[what] = {"ratio": ratio, "ratio_of_multiply_adds": costs, "bar": bar}
        all_seconds |= {f"{what}: {key}": taken for key, taken in seconds.items()}
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
