"""Campaigns: files damaged by chance, processes killed at any point, places that refuse.

    python -m benchmarks.campaigns videos --files 10000
    python -m benchmarks.campaigns files --files 2000
    python -m benchmarks.campaigns kills --flow 200 --train 50 --prepare 50 --predict 50
    python -m benchmarks.campaigns serve --count 20
    python -m benchmarks.campaigns places

Each writes a line of JSON a case to `--out` and goes on there when it is run again; the table at
its end is made of that file. A case is a number: `videos --only 17` writes its file again, with
what was done to it. `tests/benchmarks/campaigns` runs a short form of each.
"""
