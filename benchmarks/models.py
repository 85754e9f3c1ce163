"""3D networks beside their peers with the same weights: prediction, training step, memory.

    python benchmarks/models.py                     # everything, all peers
    python benchmarks/models.py --networks r3d_18 s3d --rounds 9
    python benchmarks/models.py --memory            # gradient checkpointing of I3D at 64x224

The peer is torchvision's or pytorchvideo's network in eager mode; ours gets its weights through
`models.convert`, and the logits are compared first. Batch 1, `--threads` threads (two), rounds in
turn, medians. "optimised" is `models.fastest`, which chooses among its forms by measuring; the
choice is printed. The share of the machine's peak (`peak.py`) counts products with padding, as
published figures do; convolutions may skip those. A training step is forward, backward and SGD on
one clip, batch norms in training mode. pytorchvideo comes with the project's test extra.

Results go to benchmarks/results/models.json (models_memory.json).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dualstream.models import Network, create_model
from dualstream.models.convert import Layout, from_layout
from dualstream.models.fastest import fastest
from dualstream.models.inspect import inspect_network
from measure import FOLDER, interleaved, summary, versions, write_json
from peak import multiply_adds_per_second

PACKAGES = ("torch", "torchvision", "pytorchvideo", "dualstream")
Task = Literal["predict", "train"]
STATUS = Path("/proc/self/status")
TASKS: tuple[Task, ...] = ("predict", "train")


@dataclass(frozen=True)
class Peer:
    """A network of another package beside ours."""

    ours: str
    theirs: str
    layout: Layout
    clip: tuple[int, int, int]
    """T, H, W of our input."""
    bar: float
    """Least ratio of the peer's eager time to our optimised one."""
    slow_every: int | None = None
    """Step between the frames of the slow pathway, for networks that take two inputs."""

    def network(self) -> nn.Module:
        """The peer with random weights."""
        with warnings.catch_warnings():  # pytorchvideo imports what torch has deprecated
            warnings.simplefilter("ignore")
            if self.layout == "torchvision":
                from torchvision.models import video as package

                return getattr(package, self.theirs)(weights=None)
            from pytorchvideo.models import hub as package

            network = getattr(package, self.theirs)(pretrained=False)
            network.blocks[-1].activation = None  # some end with a softmax
            return network

    def inputs(self, clip: Tensor) -> Any:
        """What the peer takes for our clip (N, C, T, H, W)."""
        if self.slow_every is None:
            return clip
        steps = torch.linspace(0, clip.shape[2] - 1, clip.shape[2] // self.slow_every).long()
        return [clip.index_select(2, steps), clip.clone()]


PEERS = (
    Peer("r3d_18", "r3d_18", "torchvision", (16, 112, 112), 1.15),
    Peer("mc3_18", "mc3_18", "torchvision", (16, 112, 112), 1.0),
    Peer("r2plus1d_18", "r2plus1d_18", "torchvision", (16, 112, 112), 1.35),
    Peer("s3d", "s3d", "torchvision", (16, 224, 224), 2.2),
    Peer("x3d_s", "x3d_s", "pytorchvideo", (13, 160, 160), 1.9),
    Peer("slow_r50", "slow_r50", "pytorchvideo", (8, 224, 224), 1.0),
    Peer("slowfast_r50_8x8", "slowfast_r50", "pytorchvideo", (32, 224, 224), 1.3, slow_every=4),
)


def main() -> None:
    names = [peer.ours for peer in PEERS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=names, default=names)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", action="store_true", help="measure gradient checkpointing")
    parser.add_argument("--one-step", choices=("plain", "checkpointing"), help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="file to write instead of results/models.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one_step:
        print(json.dumps(peak_of_one_step(checkpointing=options.one_step == "checkpointing")))
    elif options.memory:
        measure_memory(options.json or FOLDER / "results" / "models_memory.json")
    else:
        measure_speed(options, options.json or FOLDER / "results" / "models.json")


def measure_speed(options: argparse.Namespace, path: Path) -> None:
    """Time every network and task, print a line for each, write the results."""
    seconds: dict[str, list[float]] = {}
    results: dict[str, Any] = {}
    peak = multiply_adds_per_second(threads=options.threads)
    if peak is None:
        print("no C compiler (cc), so no share of the machine's peak")
    else:
        print(f"peak of {options.threads} cores: {peak / 1e9:.0f} multiply-adds/ns")
        results["peak, multiply-adds a second"] = peak
    for peer in PEERS:
        if peer.ours not in options.networks:
            continue
        ours, theirs = same_weights(peer)
        for task in options.tasks:
            runs, notes = contenders(peer, ours, theirs, task)
            taken = interleaved(runs, rounds=options.rounds)
            base = median(taken["peer"])
            ratios = {name: base / median(values) for name, values in taken.items()}
            print(f"\n{peer.ours}, {task}, {'x'.join(map(str, peer.clip))} {notes}")
            for name, values in taken.items():
                print(f"  {name:10} {summary(values)}  x {ratios[name]:.2f}")
            results[f"{peer.ours}, {task}"] = {"times as fast as the peer": ratios, **notes}
            if task == "predict":
                results[f"{peer.ours}, {task}"]["bar of optimised"] = peer.bar
            if task == "predict" and peak is not None:
                cost = inspect_network(ours, input_size=(3, *peer.clip)).multiply_adds
                share = cost / median(taken["optimised"]) / peak
                print(f"  optimised: {100 * share:.0f} % of the peak")
                results[f"{peer.ours}, {task}"]["share of the peak"] = share
            seconds |= {f"{peer.ours}, {task}, {name}": v for name, v in taken.items()}
    write_json(
        path,
        seconds=seconds,
        settings={"threads": options.threads, "batch": 1, "rounds": options.rounds},
        results=results,
        packages=versions(*PACKAGES),
    )
    print(f"\nWritten to {path}.")


def same_weights(peer: Peer) -> tuple[Network, nn.Module]:
    """Ours and theirs with the same weights; raises where their logits differ."""
    torch.manual_seed(0)
    theirs = peer.network().eval()
    ours = create_model(peer.ours, num_classes=400).eval()
    ours.load_state_dict(from_layout(theirs.state_dict(), ours, layout=peer.layout))
    clip = torch.randn(1, 3, *peer.clip)
    with torch.no_grad():
        expected, found = theirs(peer.inputs(clip)), ours(clip)
    if not torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())):
        difference = float((found - expected).abs().max())
        raise SystemExit(f"{peer.ours} differs from {peer.theirs} by {difference}.")
    return ours, theirs


def contenders(
    peer: Peer, ours: Network, theirs: nn.Module, task: Task
) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
    """Calls to time, and what is to be noted beside them."""
    clip = torch.randn(1, 3, *peer.clip)
    if task == "train":
        return {
            "peer": training_step(theirs, lambda: theirs(peer.inputs(clip))),
            "ours": training_step(ours, lambda: ours(clip)),
        }, {}
    optimised = fastest(ours)
    optimised(clip)
    [forms] = optimised.forms.values()

    def of(network: Callable[[Any], Tensor], inputs: Callable[[], Any]) -> Callable[[], object]:
        def call() -> object:
            with torch.no_grad():
                return network(inputs())

        return call

    theirs.eval()
    runs = {
        "peer": of(theirs, lambda: peer.inputs(clip)),
        "ours": of(ours, lambda: clip),
        "optimised": of(optimised, lambda: clip),
    }
    return runs, {"form": forms[0].name}


def training_step(network: nn.Module, forward: Callable[[], Tensor]) -> Callable[[], object]:
    """Forward, backward and SGD in training mode."""
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    label = torch.tensor([7])

    def step() -> object:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(forward(), label)
        loss.backward()
        optimizer.step()
        return loss

    return step


def measure_memory(path: Path) -> None:
    """Peak memory of a training step of I3D at 64x224, each in a process of its own."""
    peaks = {}
    for name in ("plain", "checkpointing"):
        command = [sys.executable, __file__, "--one-step", name]
        # Large blocks go back to the system at once, so that the peak is that of the tensors.
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        peaks[name] = json.loads(done.stdout.splitlines()[-1])
        print(f"{name:14} {peaks[name]['step_mib']:8.0f} MiB more than before the step")
    share = peaks["checkpointing"]["step_mib"] / peaks["plain"]["step_mib"]
    print(f"with checkpointing: {100 * share:.0f} % of without")
    write_json(
        path,
        seconds={name: [found["seconds"]] for name, found in peaks.items()},
        settings={"network": "i3d", "clip": [1, 3, 64, 224, 224]},
        results={**peaks, "share": share},
        packages=versions(*PACKAGES),
    )
    print(f"Written to {path}.")


def peak_of_one_step(*, checkpointing: bool) -> dict[str, float]:
    """Memory that one training step of I3D adds to the process at its peak."""
    model = create_model("i3d", num_classes=400, checkpointing=checkpointing)
    clip = torch.randn(1, 3, 64, 224, 224)
    step = training_step(model, lambda: model(clip))
    before = peak_mib()
    taken = interleaved({"step": step}, rounds=1, warm_up=0)["step"]
    return {"step_mib": peak_mib() - before, "peak_mib": peak_mib(), "seconds": taken[0]}


def peak_mib() -> float:
    """Largest resident memory of this process so far (Linux)."""
    [line] = [text for text in STATUS.read_text().splitlines() if text.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
