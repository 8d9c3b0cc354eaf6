"""cxrgaze bench soak."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrgaze_ray.cli.console import human_bytes, print_table, say, show
from cxrgaze_ray.cli.options import Json
from cxrgaze_ray.errors import EXIT_STRICT

if TYPE_CHECKING:
    from cxrgaze_ray.benchmark.soak import SoakFigures


def soak(
    preset: Annotated[Literal["tiny", "small", "full"], typer.Option(help="Network; untrained.")] = "tiny",
    clients: Annotated[int, typer.Option(min=1, help="Clients; each posts again once it is answered.")] = 4,
    minutes: Annotated[float, typer.Option(min=0.2, help="Length of the steady part, after all that happens.")] = 1.0,
    burst: Annotated[int, typer.Option(min=1, help="Clients that ask at once, once.")] = 600,
    patience: Annotated[float, typer.Option(min=1, help="Seconds after which a client of the burst hangs up.")] = 20.0,
    as_json: Json = False,
) -> None:
    """Load a service of two nodes on this machine while things happen to it, and judge what clients get.

    A burst, a champion that moves, a registry that is away, replicas and a node that are killed; malformed requests
    all the time; then a steady part, in which memory must be flat. Ends with 3 if a promise is broken.

    Example: cxrgaze bench soak --minutes 1

    For memory: cxrgaze bench soak --minutes 30
    """
    from cxrgaze_ray.benchmark.soak import bench_soak

    found = bench_soak(preset, clients, minutes, burst, patience, (lambda _: None) if as_json else say)
    if as_json:
        show(asdict(found) | {"kept": found.kept}, as_json=True)
    else:
        _print(found)
    if not found.kept:
        raise typer.Exit(EXIT_STRICT)


def _print(found: SoakFigures) -> None:
    columns = ["what happens", "s", "scored", "refused", "told to wait", "hung up", "wrong"]
    rows = [
        [
            one.event, f"{one.seconds:.0f}",
            *map(str, (one.scored, one.refused, one.told_to_wait, one.hung_up, one.wrong)),
            *("-" if ms is None else f"{ms:.0f}" for ms in (one.p50_ms, one.p95_ms, one.p99_ms)), f"{one.gap_s:.1f}",
        ]
        for one in found.tallies
    ]  # fmt: skip
    print_table([*columns, "p50 ms", "p95 ms", "p99 ms", "longest gap s"], rows)
    held = [[one.role, human_bytes(int(one.first)), human_bytes(int(one.last))] for one in found.held]
    print_table(["memory in the steady part", "early", "late"], held)
    print_table(
        ["promise", "", "found"], [[one.what, "ok" if one.kept else "BROKEN", one.found] for one in found.promises]
    )
    say(
        f"Preset {found.preset}, {found.cores} cores, {found.clients} clients and one that sends what is malformed, "
        f"{found.replicas} replicas of each deployment. Ready {found.ready_seconds:.1f} s after it was started."
    )
