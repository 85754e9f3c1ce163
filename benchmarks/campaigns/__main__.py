"""Command line of the campaigns."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import files, kills, places, service, sound_files, videos
from .records import run_cases, table


def main() -> None:
    """Run one campaign, or write one of its files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.campaigns")
    parser.add_argument("--work", type=Path, default=Path("/tmp/dualstream-campaigns"))
    parser.add_argument("--minutes", type=float, help="begin no further case after so long")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, count in (("videos", 10_000), ("files", 2_000)):
        verb = verbs.add_parser(name)
        verb.add_argument("--count", type=int, default=count)
        verb.add_argument("--only", type=int, metavar="SEED", help="write this file and stop")
    verb = verbs.add_parser("kills")
    for name, count in (("flow", 200), ("train", 50), ("prepare", 50), ("predict", 50)):
        verb.add_argument(f"--{name}", type=int, default=count)
    verbs.add_parser("serve").add_argument("--count", type=int, default=20)
    verbs.add_parser("places")
    options = parser.parse_args()
    seconds = None if options.minutes is None else 60 * options.minutes
    records_file = options.work / f"{options.verb}.jsonl"
    if options.verb == "videos":
        sources, names = videos.campaign(options.work)
        if options.only is not None:
            name, data, done = videos.damaged(options.only, sources, names)
            path = options.work / f"video-{options.only}.{name}"
            path.write_bytes(data)
            print(path, *done)
            return
        with videos.child(options.work) as child:
            records = run_cases(
                range(options.count),
                records_file,
                lambda seed: videos.record_of(seed, sources, names, child),
                seconds=seconds,
            )
        print(table(records, by="container", title="container"))
    elif options.verb == "files":
        sources = sound_files.write_sources(options.work / "files")
        if options.only is not None:
            kind, name, data, done = files.damaged(options.only, sources)
            path = options.work / f"file-{options.only}-{Path(name).name}"
            path.write_bytes(data)
            print(path, kind, *done)
            return
        with files.child(options.work) as child:
            records = run_cases(
                range(options.count),
                records_file,
                lambda seed: files.record_of(seed, sources, child),
                seconds=seconds,
            )
        print(table(records, by="kind", title="kind"))
    elif options.verb == "serve":
        work = kills.work_folder(options.work) / "serve"
        records = run_cases(
            range(options.count),
            records_file,
            lambda seed: service.record_of(seed, work),
            seconds=seconds,
        )
        print(service.table(records))
    elif options.verb == "places":
        places.write_data(options.work / "places")
        for name in places.PLACES:
            found = places.record_of(name, options.work / "places")
            print(f"{found['place']}: {found['verdict']}. {found['detail']}", flush=True)
    else:
        work = kills.work_folder(options.work)
        for name in kills.VERBS:
            records = run_cases(
                range(getattr(options, name)),
                options.work / f"kills-{name}.jsonl",
                lambda seed, name=name: {"verb": name, **kills.record_of(seed, name, work)},
                seconds=None if seconds is None else seconds / len(kills.VERBS),
            )
            print(table(records, by="verb", title="command"))


if __name__ == "__main__":
    main()
