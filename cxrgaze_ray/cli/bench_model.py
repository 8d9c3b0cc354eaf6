"""cxrgaze bench model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal, cast, get_args

import typer

from cxrgaze_ray.cli.console import print_table, say, show
from cxrgaze_ray.cli.options import DEFAULT_REGISTRY, Json, RegistryUri
from cxrgaze_ray.config import DeviceName, EngineKind
from cxrgaze_ray.errors import EXIT_STRICT, ConfigError, EnvironmentFault
from cxrgaze_ray.models.settings import System

if TYPE_CHECKING:
    from cxrgaze_ray.benchmark.network import ModelReport
    from cxrgaze_ray.models.bundle import Bundle
    from cxrgaze_ray.models.engines.engine import Engine


def model(
    named: Annotated[
        str | None,
        typer.Option("--model", help="name@champion, name@v3, or a bundle's URI; by default an untrained network."),
    ] = None,
    registry: RegistryUri = DEFAULT_REGISTRY,
    preset: Annotated[Literal["tiny", "small", "full"], typer.Option(help="Of the untrained network.")] = "full",
    system: Annotated[System, typer.Option(help="Of the untrained network.")] = "gazenet",
    engine: Annotated[
        list[str] | None,
        typer.Option(
            help="auto, float32, exact or fast, as for score, or an engine by its name; several times for several. By "
            "default all that suit."
        ),
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to measure.")] = "auto",
    images: Annotated[
        int, typer.Option(min=1, help="Phantoms of every call; small networks take four at a time, a GPU sixteen.")
    ] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds; medians are printed.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default every core.")] = None,
    archive: Annotated[
        str | None, typer.Option(help="Compare answers on these radiographs instead of eight phantoms.")
    ] = None,
    compare: Annotated[int, typer.Option(min=1, max=4096, help="How many of them.")] = 256,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 3 if a ratio is below its floor in benchmark/floors.yaml.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Race the engines of this hardware and the released code's way on one network, in one process without Ray.

    Example: cxrgaze bench model --preset full --images 2
    """
    from cxrgaze_ray.benchmark.network import bench_model
    from cxrgaze_ray.benchmark.samples import archive_images
    from cxrgaze_ray.models.predictor import limit_threads

    limit_threads(threads)
    bundle = _bundle(named, registry, preset, system)
    bundle.info.check_needs_no_gaze()
    engines = _engines(engine or ["fast", "exact", "float32"], device)
    compared = archive_images(archive, compare, bundle.info.profile) if archive else None
    tell = (lambda _: None) if as_json else say
    report = bench_model(bundle, engines, images=images, rounds=rounds, compared_BHW=compared, say=tell)
    if as_json:
        ratios = {one.name: report.ratio(one) for one in report.engines}
        show(asdict(report) | {"ratios": ratios}, as_json=True)
    else:
        _tables(report)
    if not report.engines:
        raise EnvironmentFault("None of these engines works here.", "Name another: --engine float32.")
    if check:
        _check(report, engines[0].device)


def _engines(asked: Sequence[str], device: DeviceName) -> list[Engine]:
    """Return the engines of kinds and names, each once; EnvironmentFault if one is named that can't work here."""
    from cxrgaze_ray.models.engines.engine import Engine, check_works, engines_for

    found: list[Engine] = []
    for name in asked:
        if name in get_args(EngineKind):
            found += engines_for(cast("EngineKind", name), device)
            continue
        found.append(Engine.parse(name))
        try:
            check_works(found[-1])
        except EnvironmentFault as error:
            here = ", ".join(one.name for one in engines_for("fast", device))
            raise EnvironmentFault(error.message, f"For this machine there are {here}.") from error
    if len({one.device for one in found}) > 1:
        raise ConfigError("Engines of a CPU and of a GPU can't be raced in one process.", "Name those of one device.")
    return list(dict.fromkeys(found))


def _check(report: ModelReport, device: str) -> None:
    from cxrgaze_ray.benchmark.floors import misses
    from cxrgaze_ray.models.engines.engine import native_bfloat16

    kind = f"model-{device}" + ("-bfloat16" if device == "cpu" and native_bfloat16() else "")
    # an engine that does not work here is not fast
    missed = misses(kind, dict.fromkeys(report.skipped, 0.0) | {one.name: report.ratio(one) for one in report.engines})
    for one in missed:
        say(f"{one.name} is {one.ratio:.2f} times as fast as the released code's way; its floor is {one.floor}.")
    if missed:
        raise typer.Exit(EXIT_STRICT)


def _bundle(named: str | None, registry: str, preset: Literal["tiny", "small", "full"], system: System) -> Bundle:
    from cxrgaze_ray.models.bundle import make_bundle, read_bundle
    from cxrgaze_ray.models.predictor import with_golden
    from cxrgaze_ray.models.settings import architecture
    from cxrgaze_ray.models.zoo import build
    from cxrgaze_ray.registry.versions import pin_to_score
    from cxrgaze_ray.storage import open_store

    if named is None:
        return with_golden(make_bundle(build(architecture(system, preset)), f"{system}-{preset}", trained=False))
    pin, _ = pin_to_score(registry, named)
    return read_bundle(open_store(pin.uri))


def _tables(report: ModelReport) -> None:
    rows = [["released code's way", *_row(report, report.released.seconds), "1.00", "", "", "", "", ""]]
    for one in report.engines:
        moved = "" if one.difference is None else f"{one.difference:.1e}"
        least = "" if one.least_cc is None else f"{one.least_cc:.6f}"
        first, later = one.start_seconds
        rows.append(
            [
                one.name, *_row(report, one.timing.seconds), f"{report.ratio(one):.2f}",
                moved, least, str(one.other_class), f"{first:.1f}", f"{later:.1f}",
            ]
        )  # fmt: skip
    print_table(
        [
            "engine",
            "s an image",
            "images/s",
            "GFLOP/s",
            "times",
            "probability",
            "least CC",
            "other class",
            "first start s",
            "later s",
        ],
        rows,
    )
    for name, why in report.skipped.items():
        say(f"{name} does not work here: {why}")
    for line in _MEANING:
        say(line)
    print_table(
        ["part of the first engine", "ms an image", "share"],
        [
            [name, f"{1000 * part.seconds:.1f}", f"{100 * part.seconds / report.parts['all of it'].seconds:.0f}%"]
            for name, part in report.parts.items()
        ],
    )
    print_table(
        ["block, plain float32 layers", "ms an image", "GFLOP", "GFLOP/s"],
        [
            [one.name, f"{1000 * one.seconds:.1f}", f"{one.gflop:.2f}", f"{one.gflop / one.seconds:,.0f}"]
            for one in report.blocks
            if one.seconds
        ],
    )
    peaks = ", ".join(f"{name} {flops / 1e9:,.0f}" for name, flops in report.peaks.items())
    spread = max(timing.spread for timing in [report.released, *(one.timing for one in report.engines)])
    say(
        f"Answers are compared on {report.compared} images. "
        f"{report.system}: {report.gflop:.1f} GFLOP an image; a matrix product here makes {peaks} GFLOP/s. The "
        f"released way is plain float32 at its best batch, {report.released_batch}. The widest spread is "
        f"{100 * spread:.0f}% of a median."
    )


_MEANING = (
    "GFLOP/s: arithmetic of plain layers done in a second. times: how many times as fast as the released code's way.",
    "probability: the largest difference from the float32 reference's. least CC: the worst map's correlation with its.",
    "other class: images that get another class than the reference gives them, ties left out.",
    "first start, later: seconds from the weights in memory to the first answer, without and with what a start left "
    "in the cache.",
)


def _row(report: ModelReport, seconds: float) -> list[str]:
    return [f"{seconds:.3f}", f"{1 / seconds:.2f}", f"{report.gflop / seconds:,.0f}"]
