"""cxrgaze bench."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cxrgaze_ray.cli.console import human_bytes, print_table, say, show
from cxrgaze_ray.cli.options import Json


def listing(
    uri: Annotated[str | None, typer.Argument(help="An archive of one's own, instead of made ones.")] = None,
    sizes: Annotated[str | None, typer.Option(help="Entries of made record lists: 1000,377110.")] = None,
    tree: Annotated[int | None, typer.Option(min=1, help="List a made tree of so many small files too.")] = None,
    as_json: Json = False,
) -> None:
    """Measure `archive list`: seconds, files a second and peak memory, each in a process of its own.

    Example: cxrgaze bench listing --sizes 1000,377110 --tree 100000
    """
    from cxrgaze_ray.benchmark.listing import SIZES, bench_listing, measure_listing

    trees = (tree,) if tree else ()
    measured = [measure_listing(uri)] if uri else []
    if not uri:
        for one in bench_listing(_numbers(sizes) if sizes else SIZES, trees):
            measured.append(one)
            say(f"{one.kind}: {one.rows} in {one.seconds:.2f} s")
    if as_json:
        show({"listings": [asdict(one) for one in measured]}, as_json=True)
        return
    rows = [
        [one.kind, one.layout, f"{one.rows:,}", f"{one.seconds:.2f}", f"{one.rows / one.seconds:,.0f}", size]
        for one in measured
        for size in [human_bytes(one.peak_bytes)]
    ]
    print_table(["archive", "layout", "files", "seconds", "files/s", "peak memory"], rows)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(one.replace("_", "")) for one in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise typer.BadParameter("Write whole numbers: 1000,10000.", param_hint="--sizes")
    return numbers
