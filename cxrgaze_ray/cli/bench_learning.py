"""cxrgaze bench learning."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from cxrgaze_ray.cli.console import print_table, say, show
from cxrgaze_ray.cli.options import Json
from cxrgaze_ray.errors import EXIT_STRICT


def learning(
    preset: Annotated[Literal["tiny", "small", "full"], typer.Option(help="Size of the network.")] = "small",
    images: Annotated[int, typer.Option(min=20, help="Phantoms to draw.")] = 96,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="Trainings from nothing, each with its seed.")] = 3,
    epochs: Annotated[int, typer.Option(min=2, help="Epochs of each phase.")] = 8,
    as_json: Json = False,
) -> None:
    """Train GazeNet on phantoms from several seeds, and print each phase's own validation loss before and after.

    It exits with 3 if a phase of a seed never got better than the weights that it began with.

    Example: cxrgaze bench learning --preset small --seeds 3
    """
    from functools import partial

    from cxrgaze_ray.benchmark.learning import bench_learning
    from cxrgaze_ray.cluster.connection import ClusterSettings, connect

    join = partial(connect, ClusterSettings())
    found = list(bench_learning(preset, images, seeds, epochs, join, (lambda _: None) if as_json else say))
    improved = sum(one.improved for one in found)
    if as_json:
        show(
            {"phases": [asdict(one) | {"improved": one.improved} for one in found], "improved": improved}, as_json=True
        )
    else:
        rows = [
            [one.seed, one.phase, f"{one.before:.4f}", f"{one.best:.4f}", f"{one.best_epoch} of {one.epochs}",
             "yes" if one.improved else "NO", f"{one.seconds:.0f}"]
            for one in found
        ]  # fmt: skip
        columns = [
            "seed",
            "phase",
            "validation loss before",
            "lowest",
            "in epoch",
            "better",
            "seconds, all phases",
        ]
        print_table(columns, rows)
        say(f"{improved} of {len(found)} phases got better than the weights that they began with.")
    if improved < len(found):
        raise typer.Exit(EXIT_STRICT)
