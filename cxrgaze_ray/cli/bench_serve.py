"""cxrgaze bench serve."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from cxrgaze_ray.cli.bench import numbers
from cxrgaze_ray.cli.console import print_table, say, show
from cxrgaze_ray.cli.options import Json


def serve(
    preset: Annotated[Literal["tiny", "small", "full"], typer.Option(help="Network; untrained.")] = "tiny",
    images: Annotated[int, typer.Option(min=64, help="Phantoms in the archive.")] = 256,
    seconds: Annotated[float, typer.Option(min=1, help="How long single requests are measured alone.")] = 20.0,
    clients: Annotated[int, typer.Option(min=1, help="Clients; each posts again once it is answered.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Batch jobs without and with single requests, in turn.")] = 3,
    jpeg: Annotated[bool, typer.Option("--jpeg", help="Post a JPEG of 1024x1024 instead of a DICOM phantom.")] = False,
    load: Annotated[
        str | None, typer.Option(metavar="N,N", help="Print only a table of throughput by clients: 1,32,128,400.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure single HTTP requests alone and while a batch job runs on the same application, and that job's rate.

    Example: cxrgaze bench serve --preset tiny --clients 2

    Under load: cxrgaze bench serve --load 1,32,128,400
    """
    if load is not None:
        _load(preset, load, seconds, as_json)
        return
    from cxrgaze_ray.benchmark.latency import bench_serve

    found = bench_serve(preset, images, seconds, clients, rounds, (lambda _: None) if as_json else say, jpeg=jpeg)
    if as_json:
        show(asdict(found), as_json=True)
        return
    rows = [
        [name, str(one.requests), str(one.refused), *one.cells(), rate]
        for name, one, rate in (
            ("alone", found.alone, "-"),
            ("beside a batch job", found.beside_batch, str(found.batch_beside)),
        )
    ]
    rows.append(["batch job alone", "-", "-", "-", "-", "-", str(found.batch_alone)])
    print_table(["single requests", "answered", "refused", "p50 ms", "p95 ms", "p99 ms", "batch images/s"], rows)
    say(
        f"Preset {found.preset} on {found.engine}, {found.cores} cores; clients: {found.clients}, each posting a "
        f"{found.body}; phantoms: {images}. Ready {found.ready_seconds:.1f} s after it was started."
    )


def _load(preset: str, clients: str, seconds: float, as_json: bool) -> None:
    from cxrgaze_ray.benchmark.load import bench_load

    found = bench_load(preset, numbers(clients, "--load"), seconds, (lambda _: None) if as_json else say)
    if as_json:
        show(asdict(found), as_json=True)
        return
    rows = [
        [str(one.clients), f"{one.images_per_second:.1f}", str(got.requests), str(got.refused), *got.cells()]
        for one in found.loads
        for got in [one.latency]
    ]
    print_table(["clients", "images/s", "answered", "refused", "p50 ms", "p95 ms", "p99 ms"], rows)
    say(f"Preset {found.preset}, {found.cores} cores, {seconds:.0f} s each, bodies of {found.body_bytes / 1e6:.1f} MB.")
