"""Ten million videos on many machines, on paper: a discrete-event model fed by measured rates.

    python benchmarks/scale.py                          # 10^7 videos of 250 frames, 1000 machines
    python benchmarks/scale.py --machines 100 --cores 64
    python benchmarks/scale.py --measure 1000000        # what a manifest of so many rows costs here

Flow extraction: each machine takes the next batch of videos when it has done its last, as
`--ray` does, or has its part from the start, as `--shard I/N` does. Machines differ in speed,
some are stragglers, and each dies now and then and comes back; what it was at is done again, the
longest of it a video. Training: steps wait for the slowest machine, and after a death for the
last state. Of `Costs`, the rate of flow and what a row of a manifest costs are measured; the
others are assumed, and said so.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import random
import resource
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Costs:
    """Rates and sizes, measured or assumed."""

    pairs_per_core_second: float = 220.6
    """Flow with tvl1-fast into a store, one core: measured, results/flow_pipeline.json."""
    bytes_a_field: float = 7738.0
    """Of a stored field of 320x240: measured, 2,157 fields of 60 videos of J-HMDB."""
    manifest_bytes_a_row: float = 120.0
    """Measured by `--measure 1000000`, as are the next two."""
    read_seconds_a_row: float = 42e-6
    """To read a row of the manifest, make its job and check its target."""
    memory_bytes_a_row: float = 800.0
    dispatch_seconds: float = 1e-3
    """The driver's time for a task of Ray and its outcome; assumed, as is all that follows."""
    stat_seconds: float = 5e-3
    """To find on a shared file system that a video is in the store already: open, directory, last
    member; checksums are read at `store_bytes_per_second`."""
    store_bytes_per_second: float = 200e6
    """What one machine reads from or writes to the shared file system."""
    step_seconds: float = 0.35
    """One training step of a machine."""
    batch: int = 32
    state_seconds: float = 20.0
    """To write the state after an epoch, or read it."""


@dataclass(frozen=True)
class Fleet:
    """The machines, and what goes wrong with them."""

    machines: int = 1000
    cores: int = 16
    speed_spread: float = 0.1
    """Standard deviation of the logarithm of a machine's speed."""
    straggler_share: float = 0.01
    straggler_slowness: float = 5.0
    hours_between_failures: float = 1000.0
    """Of one machine."""
    repair_seconds: float = 600.0


@dataclass(frozen=True)
class Extraction:
    """What an extraction came to."""

    hours: float
    ideal_hours: float
    failures: int
    pairs_done_again: float
    driver_share: float
    """Of its time that the driver hands out work; at 1 more machines do not help."""


def machine_speeds(fleet: Fleet, rng: random.Random) -> list[float]:
    """Pairs a second of each machine, as multiples of the measured rate of its cores."""
    return [
        fleet.cores
        * rng.lognormvariate(0, fleet.speed_spread)
        / (fleet.straggler_slowness if rng.random() < fleet.straggler_share else 1.0)
        for _ in range(fleet.machines)
    ]


def extract(
    videos: int,
    pairs_a_video: float,
    fleet: Fleet,
    costs: Costs,
    *,
    is_dealt: bool,
    seed: int = 0,
    parts: int = 200,
) -> Extraction:
    """Simulate an extraction.

    Args:
        videos: their number.
        pairs_a_video: mean number of fields of each.
        fleet, costs: of the machines.
        is_dealt: machines take work when they are free (Ray); else each has its shard.
        seed: of speeds and failures.
        parts: events a machine's share is cut into; a finer model says the same, later.
    """
    rng = random.Random(seed)
    speeds = machine_speeds(fleet, rng)
    rates = [speed * costs.pairs_per_core_second for speed in speeds]
    total = videos * pairs_a_video
    piece = total / fleet.machines / parts
    left = [parts] * fleet.machines
    pool = parts * fleet.machines
    # A straggler does not hold up more than the videos that its cores are at.
    failures, again, end, driver = 0, 0.0, 0.0, 0.0
    events = [(0.0, machine) for machine in range(fleet.machines)]
    heapq.heapify(events)
    dispatch = piece / pairs_a_video * costs.dispatch_seconds
    while events:
        now, machine = heapq.heappop(events)
        if (pool if is_dealt else left[machine]) <= 0:
            end = max(end, now)
            continue
        pool, left[machine] = pool - 1, left[machine] - 1
        start = now
        if is_dealt:
            driver = max(driver, now) + dispatch
            start = max(now, driver - dispatch)
        busy = piece / rates[machine]
        to_failure = rng.expovariate(1 / (3600 * fleet.hours_between_failures))
        if to_failure < busy:
            failures += 1
            lost = min(fleet.cores * pairs_a_video / 2, piece)  # half a video a core
            again += lost
            busy += fleet.repair_seconds + lost / rates[machine]
        heapq.heappush(events, (start + busy, machine))
    ideal = total / (fleet.machines * fleet.cores * costs.pairs_per_core_second)
    share = videos * costs.dispatch_seconds / end if is_dealt else 0.0
    return Extraction(end / 3600, ideal / 3600, failures, again, share)


@dataclass(frozen=True)
class Training:
    """What training came to."""

    hours: float
    ideal_hours: float
    failures: int


def train(
    videos: int, epochs: int, fleet: Fleet, costs: Costs, *, states_an_epoch: int, seed: int = 0
) -> Training:
    """Simulate data-parallel training, in which every step waits for the slowest machine.

    A death loses what was done since the last state; this package writes one after each epoch.
    """
    rng = random.Random(seed)
    speeds = [speed / fleet.cores for speed in machine_speeds(fleet, rng)]
    steps = videos / (fleet.machines * costs.batch)
    ideal = epochs * steps * costs.step_seconds
    stretch = steps * costs.step_seconds / min(speeds) / states_an_epoch
    mean = 3600 * fleet.hours_between_failures / fleet.machines
    now, failures, done = 0.0, 0, 0
    while done < epochs * states_an_epoch:
        to_failure = rng.expovariate(1 / mean)
        if to_failure < stretch:
            now += to_failure + fleet.repair_seconds + costs.state_seconds
            failures += 1
            if failures > 100_000:
                return Training(float("inf"), ideal / 3600, failures)
        else:
            now += stretch + costs.state_seconds
            done += 1
    return Training(now / 3600, ideal / 3600, failures)


def write_manifest(folder: Path, rows: int) -> Path:
    """Write a manifest of so many rows, without videos."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.csv").open("w") as file:
        file.write("path,label,split1,frames,fps,width,height,sha256\n")
        for i in range(rows):
            digest = hashlib.sha256(str(i).encode()).hexdigest()
            side = "train" if i % 4 else "test"
            name = f"class_{i % 400:03d}/video_{i:08d}.mp4"
            file.write(f"{name},{i % 400},{side},250,25.0,340,256,{digest}\n")
    (folder / "classes.txt").write_text("".join(f"class_{i:03d}\n" for i in range(400)))
    return folder


def measure_start(rows: int) -> str:
    """Processor seconds and peak memory of the start of `flow` over a manifest of so many rows."""
    from dualstream.cli.flow import find_jobs
    from dualstream.flow.extract.run import flow_settings, run_extraction

    with tempfile.TemporaryDirectory() as work:
        folder = write_manifest(Path(work), rows)
        size = (folder / "manifest.csv").stat().st_size
        start, wall = time.process_time(), time.perf_counter()
        jobs, store = find_jobs(folder, None)
        read = time.process_time() - start
        next(run_extraction(jobs, flow_settings(store), workers=1, ray=None))
        seconds, passed = time.process_time() - start, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return (
        f"manifest of {rows} rows, {size / 1e6:.0f} MB: jobs made in {read:.1f} s, first video "
        f"begun after {seconds:.1f} s of processor time ({passed:.1f} s passed), peak "
        f"{peak / 2**30:.2f} GiB"
    )


def measured() -> Costs:
    """Costs, with the rate of extraction that results/flow_pipeline.json has."""
    costs, path = Costs(), RESULTS / "flow_pipeline.json"
    results = json.loads(path.read_text()).get("results", {}) if path.is_file() else {}
    rate = results.get("tvl1-fast", {}).get("one_worker_pairs_per_second")
    return replace(costs, pairs_per_core_second=float(rate)) if rate else costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=10_000_000)
    parser.add_argument("--pairs", type=float, default=249.0)
    parser.add_argument("--machines", type=int, default=Fleet.machines)
    parser.add_argument("--cores", type=int, default=Fleet.cores)
    parser.add_argument("--field", type=float, default=Costs.bytes_a_field)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure", type=int, metavar="ROWS")
    options = parser.parse_args()
    if options.measure:
        print(measure_start(options.measure))
        return
    costs = replace(measured(), bytes_a_field=options.field)
    fleet = Fleet(machines=options.machines, cores=options.cores)
    fields = options.videos * options.pairs
    print(f"{options.videos:.0e} videos of {options.pairs:.0f} pairs, {fleet}")
    print(f"{costs}")
    for name, is_dealt in (("--ray", True), ("--shard", False)):
        found = extract(
            options.videos, options.pairs, fleet, costs, is_dealt=is_dealt, seed=options.seed
        )
        print(
            f"flow {name}: {found.hours:.1f} h (ideal {found.ideal_hours:.1f} h), "
            f"{found.failures} machines died, {found.pairs_done_again:.2g} pairs done again, "
            f"driver busy {found.driver_share:.0%}"
        )
    store = fields * costs.bytes_a_field
    print(
        f"store: {store / 1e15:.2f} PB in {options.videos:.0e} files; one pass over it "
        f"{store / (costs.store_bytes_per_second * fleet.machines) / 3600:.1f} h on all machines; "
        f"a second run that finds all there: "
        f"{options.videos * costs.stat_seconds / fleet.machines / 60:.1f} min of opening, and that "
        f"pass for the checksums"
    )
    rows = options.videos
    print(
        f"manifest: {rows * costs.manifest_bytes_a_row / 1e9:.2f} GB, read in "
        f"{rows * costs.read_seconds_a_row / 60:.1f} min into "
        f"{rows * costs.memory_bytes_a_row / 2**30:.1f} GiB by every machine of --shard"
    )
    for states in (1, 10):
        run = train(
            options.videos, options.epochs, fleet, costs, states_an_epoch=states, seed=options.seed
        )
        print(
            f"training, {states} states an epoch: {run.hours:.1f} h "
            f"(ideal {run.ideal_hours:.1f} h), {run.failures} deaths"
        )


if __name__ == "__main__":
    main()
