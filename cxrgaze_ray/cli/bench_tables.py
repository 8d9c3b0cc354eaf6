"""Results of the pipeline benchmark, for people and for machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cxrgaze_ray.cli.console import print_table, say

if TYPE_CHECKING:
    from cxrgaze_ray.benchmark.pipeline import PipelineReport


def pipeline_json(report: PipelineReport) -> dict[str, Any]:
    """Return all of it, as plain values."""
    result = asdict(report) | {"settings": report.settings.model_dump()}
    result["timings"] = {name: asdict(one) | {"spread": one.spread} for name, one in report.timings.items()}
    return result | {"shares": {name: report.shares(name) for name in report.cpu}}


def pipeline_tables(report: PipelineReport) -> None:
    """Print rates beside bounds, and where the CPU time goes."""
    from cxrgaze_ray.benchmark.pipeline import FIXED

    settings = report.settings
    print_table(
        ["contestant", "images/s", "spread", "bound", "reached"],
        [
            [
                name,
                f"{report.rate(name):.2f}",
                f"{100 * timing.spread:.0f}%",
                f"{report.bounds[name]:.2f}" if name in report.bounds else "",
                f"{100 * report.reached[name]:.1f}%" if name in report.bounds else "",
            ]
            for name, timing in report.timings.items()
        ],
    )
    say(f"Our scoring runs at {100 * report.beside_direct:.1f}% of the direct actors' rate.")
    say(f"Fixed cost: {1000 * report.timings[FIXED].seconds:.2f} ms an image on {report.cores} cores.")
    print_table(
        ["core-ms an image", *report.cpu],
        [
            [
                role,
                *(
                    f"{1000 * cpu[role]:.2f} ({100 * report.shares(name)[role]:.1f}%)"
                    for name, cpu in report.cpu.items()
                ),
            ]
            for role in next(iter(report.cpu.values()))
        ],
    )
    bare = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in report.bare.items())
    waits = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in report.waits.items())
    say(
        f"Preset {settings.preset} on {settings.engine}, {settings.threads} model threads, {report.cores} cores, "
        f"{settings.rounds} rounds. "
        f"Core-ms an image alone: {bare}. The simulated accelerator is busy, ms an image: {waits}."
    )
