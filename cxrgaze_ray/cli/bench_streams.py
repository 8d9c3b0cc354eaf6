"""cxrgaze bench streams."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cxrgaze_ray.cli.bench import numbers
from cxrgaze_ray.cli.console import human_bytes, print_table, say, show
from cxrgaze_ray.cli.options import Json


def streams(
    sizes: Annotated[str, typer.Option(help="Images of the stores that are read.")] = "512,5120",
    rate: Annotated[float, typer.Option(min=0.1, help="Images a second of the device that only pretends.")] = 50.0,
    rows: Annotated[int, typer.Option(min=1, help="Rows of the store that a training is planned for.")] = 300_000,
    as_json: Json = False,
) -> None:
    """Measure what a training reads: rate, waiting and memory by the number of images, and the start of a large one.

    Example: cxrgaze bench streams --sizes 512,5120 --rows 300000
    """
    from cxrgaze_ray.benchmark.streams import bench_feeding, bench_planning

    fed = []
    for one in bench_feeding(numbers(sizes), rate):
        fed.append(one)
        say(f"{one.images} images, waiting {100 * one.waited:.1f}% of {one.seconds:.0f} s")
    planned = bench_planning(rows)
    growth = fed[-1].peak_bytes / fed[0].peak_bytes
    if as_json:
        show({"fed": [asdict(one) for one in fed], "growth": growth, "planned": asdict(planned)}, as_json=True)
        return
    columns = ["images", "images/s without a device", f"device at {rate:g} images/s waits", "private memory at most"]
    print_table(
        columns,
        [
            [f"{one.images:,}", f"{one.rate:.0f}", f"{100 * one.waited:.1f}%", human_bytes(one.peak_bytes)]
            for one in fed
        ],
    )
    say(f"The largest store takes {growth:.2f} times the memory of the smallest.")
    print_table(
        ["a training of many rows", "figure"],
        [
            ["rows, shards", f"{planned.rows:,}, {planned.shards:,}"],
            ["index of all rows, by Ray Data", f"{planned.index_seconds:.1f} s, {human_bytes(planned.index_bytes)}"],
            ["first batch of a worker", f"{planned.first_batch_seconds:.1f} s"],
            ["private memory of a worker for that", human_bytes(planned.grown_bytes)],
        ],
    )
