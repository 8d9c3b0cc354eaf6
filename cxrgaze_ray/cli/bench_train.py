"""cxrgaze bench train."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrgaze_ray.cli.console import human_bytes, print_table, say, show
from cxrgaze_ray.cli.options import Json
from cxrgaze_ray.errors import EXIT_STRICT, ConfigError

if TYPE_CHECKING:
    from cxrgaze_ray.benchmark.training import TrainReport


def train(
    preset: Annotated[Literal["tiny", "small", "full"], typer.Option(help="Of the untrained network.")] = "full",
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to measure.")] = "auto",
    images: Annotated[int, typer.Option(min=2, help="Images of an epoch.")] = 8,
    batch: Annotated[int, typer.Option(min=1, help="Images of a step.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds; medians are printed.")] = 3,
    compiled: Annotated[bool, typer.Option("--compile", help="Race torch.compile too; it starts slowly.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default every core.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 3 if a ratio is below its floor in benchmark/floors.yaml.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Race training's phases against the plain way of each, as the paper's code has it, in one process without Ray.

    Example: cxrgaze bench train --preset full --images 4 --batch 2
    """
    from cxrgaze_ray.benchmark.training import bench_train
    from cxrgaze_ray.models.predictor import limit_threads

    limit_threads(threads)
    report = bench_train(
        preset, _device(device), images=images, batch=batch, rounds=rounds, compiled=compiled,
        say=(lambda _: None) if as_json else say,
    )  # fmt: skip
    if as_json:
        show(asdict(report) | {"ratios": report.ratios()}, as_json=True)
    else:
        _tables(report)
    if check:
        _check(report)


def _device(asked: str) -> str:
    import torch

    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise ConfigError("PyTorch finds no CUDA device here.", "Leave out --device, or see cxrgaze doctor.")
    return "cuda" if there and asked != "cpu" else "cpu"


def _check(report: TrainReport) -> None:
    from cxrgaze_ray.benchmark.floors import misses

    missed = misses(f"train-{report.device}-{report.preset}", report.ratios())
    for one in missed:
        say(f"{one.name} is {one.ratio:.2f} times as fast as the plain way; its floor is {one.floor}.")
    if missed:
        raise typer.Exit(EXIT_STRICT)


def _tables(report: TrainReport) -> None:
    rows = [
        [one.what, name, f"{timing.seconds:.3f}", f"{one.images / timing.seconds:.2f}", f"{one.ratio(name):.2f}"]
        for one in report.phases
        for name, timing in one.timings.items()
    ]
    print_table(["phase", "way", "seconds", "images/s", "times"], rows)
    shares = [[name, f"{100 * share:.1f}%"] for name, share in report.waiting.items()]
    print_table(["images are", "share of the time that a device of 200 images/s waits"], shares)
    spread = max(timing.spread for one in report.phases for timing in one.timings.values())
    peak = "" if report.peak_bytes is None else f" The GPU held {human_bytes(report.peak_bytes)} at most."
    say(f"{report.preset} on {report.device}; the widest spread is {100 * spread:.0f}% of a median.{peak}")
