"""cxrgaze bench."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrgaze_ray.cli.console import human_bytes, print_table, say, show
from cxrgaze_ray.cli.options import Json

if TYPE_CHECKING:
    from cxrgaze_ray.benchmark.samples import Sample


def listing(
    uri: Annotated[str | None, typer.Argument(help="Your own archive, instead of generated ones.")] = None,
    sizes: Annotated[str | None, typer.Option(help="Entries of generated lists: 1000,377110.")] = None,
    tree: Annotated[int | None, typer.Option(min=1, help="Also list a generated tree of so many small files.")] = None,
    as_json: Json = False,
) -> None:
    """Measure `archive list`: seconds, files a second and peak memory, each in a process of its own.

    Example: cxrgaze bench listing --sizes 1000,377110 --tree 100000
    """
    from cxrgaze_ray.benchmark.listing import SIZES, bench_listing, measure_listing

    trees = (tree,) if tree else ()
    measured = [measure_listing(uri)] if uri else []
    if not uri:
        for one in bench_listing(numbers(sizes) if sizes else SIZES, trees):
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


def numbers(text: str, option: str = "--sizes") -> tuple[int, ...]:
    """Read an option's whole numbers, which are separated by commas."""
    try:
        found = tuple(int(one.replace("_", "")) for one in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise typer.BadParameter("Write whole numbers: 1000,10000.", param_hint=option)
    return found


def decode(
    uri: Annotated[str | None, typer.Argument(help="Your own archive, instead of a phantom.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Files of the archive to take.")] = 6,
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds; medians are printed.")] = 5,
    libraries: Annotated[
        bool, typer.Option("--libraries", help="Race the libraries that can decode each format instead.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Race our decoding, isolated as in a run, against the bare decoder and a plain pydicom, Pillow and NumPy script.

    Example: cxrgaze bench decode --rounds 5
    """
    from cxrgaze_ray.benchmark.decode import BARE, OURS, REDUCED, SCRIPT, bench_decode
    from cxrgaze_ray.benchmark.samples import archive_samples, phantom_samples

    samples = archive_samples(uri, count) if uri else phantom_samples()
    if libraries:
        _libraries(samples, rounds, as_json)
        return
    found = []
    for one in bench_decode(samples, rounds):
        say(f"{one.name}: {one.ratio(OURS):.2f} times the script, reduced {one.ratio(REDUCED):.2f} times")
        found.append(one)
    if as_json:
        show({"formats": [asdict(one) for one in found]}, as_json=True)
        return
    columns = ["format", "bare", "script", "ours", "ours/script", "reduced", "reduced/script", "read at", "difference"]
    print_table(
        columns,
        [
            [
                one.name,
                *(f"{one.rate(name):.1f}" for name in (BARE, SCRIPT, OURS)),
                f"{one.ratio(OURS):.2f}",
                f"{one.rate(REDUCED):.1f}",
                f"{one.ratio(REDUCED):.2f}",
                one.reduced_as,
                f"{one.reduced_difference:.5f}",
            ]
            for one in found
        ],
    )
    spread = max(timing.spread for one in found for timing in one.timings.values())
    say(f"Images a second on one core, medians of {rounds}; the widest spread was {100 * spread:.0f}% of its median.")


def _libraries(samples: list[Sample], rounds: int, as_json: bool) -> None:
    from cxrgaze_ray.benchmark.decoders import bench_decoders

    found = list(bench_decoders(samples, rounds))
    if as_json:
        show({"libraries": [asdict(one) for one in found]}, as_json=True)
        return
    same = {True: "yes", False: "no", None: "-"}
    rows = [
        [one.format, one.library or "-", f"{1 / one.timing.seconds:.2f}" if one.timing else "-", same[one.same]]
        for one in found
    ]
    print_table(["format", "library", "images/s", "same values"], rows)
    say(
        "On one core; the first library of a format is the one that decodes it here. A dash: there is no other library "
        "to race, or none that takes these files on its own."
    )


def pipeline(
    archive: Annotated[str | None, typer.Option(help="Your own radiographs, instead of phantoms.")] = None,
    images: Annotated[int, typer.Option(min=96, help="Images per run.")] = 384,
    preset: Annotated[Literal["tiny", "small", "full"], typer.Option(help="Size of the untrained network.")] = "tiny",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of a forward pass.")] = 1,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="cuda takes the GPUs' fast engine.")] = "cpu",
    engine: Annotated[
        str | None, typer.Option(help="Engine by its name, instead of float32 or the GPUs' fast.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds; medians are printed.")] = 5,
    small: Annotated[int, typer.Option(min=96, help="Tiny images of a run that measures the fixed cost.")] = 3072,
    rows: Annotated[str, typer.Option(help="Least and most rows of a phantom.")] = "2544,3056",
    as_json: Json = False,
) -> None:
    """Measure scoring beside bare decode, bare model and direct actors, with what the hardware allows.

    Example: cxrgaze bench pipeline --rounds 5
    """
    from cxrgaze_ray.benchmark.pipeline import PipelineSettings, bench_pipeline
    from cxrgaze_ray.cli.bench_tables import pipeline_json, pipeline_tables
    from cxrgaze_ray.models.engines.engine import FAST_CUDA, REFERENCE_CPU, Engine

    height = numbers(rows, "--rows")
    settings = PipelineSettings.build(
        archive=archive, images=images, preset=preset, threads=threads, rounds=rounds, small_images=small,
        rows=(height[0], height[-1]), bare_images=min(64, images),
        engine=Engine.parse(engine or (FAST_CUDA if device == "cuda" else REFERENCE_CPU).name).name,
    )  # fmt: skip
    report = bench_pipeline(settings, say)
    if as_json:
        show(pipeline_json(report), as_json=True)
        return
    pipeline_tables(report)


def memory(
    images: Annotated[str, typer.Option(help="Lengths of the runs, in images.")] = "500,10000",
    as_json: Json = False,
) -> None:
    """Measure memory of a short and a long scoring run of tiny phantoms, each in a process of its own.

    Example: cxrgaze bench memory --images 500,10000
    """
    from cxrgaze_ray.benchmark.memory import bench_memory, growth

    measured = []
    for one in bench_memory(numbers(images, "--images")):
        measured.append(one)
        say(f"{one.images} images in {one.seconds:.0f} s, {human_bytes(one.spilled)} spilled.")
    ratios = growth(measured[0], measured[-1])
    if as_json:
        show({"runs": [asdict(one) for one in measured], "growth": ratios}, as_json=True)
        return
    columns = ["largest process, private memory", *(f"{one.images:,} images" for one in measured), "ratio"]
    rows = [
        [role, *(human_bytes(one.peaks[role]) for one in measured), f"{ratio:.2f}"] for role, ratio in ratios.items()
    ]
    for name in ("store_peak", "store_bound", "spilled"):
        rows.append([name.replace("_", " "), *(human_bytes(getattr(one, name)) for one in measured), ""])
    print_table(columns, rows)


def planning(
    rows: Annotated[int, typer.Option(min=256, help="Images of the simulated archive.")] = 377_110,
    out: Annotated[
        str | None, typer.Option(help="Folder where the run is written and deleted; by default a temporary one.")
    ] = None,
    map_bytes: Annotated[int, typer.Option(min=1, help="Size of a row's map.")] = 10_000,
    engine: Annotated[
        str, typer.Option(help="Plan as for a run on this engine: folded-float16-cuda has larger chunks.")
    ] = "reference-float32-cpu",
    as_json: Json = False,
) -> None:
    """Simulate a whole archive's run without pixels or network: what one driver plans, gathers and commits.

    Example: cxrgaze bench planning --rows 377110
    """
    from cxrgaze_ray.benchmark.planning import GPU_RATE, bench_planning
    from cxrgaze_ray.models.engines.engine import Engine

    one = bench_planning(rows, out, map_bytes, say, engine=Engine.parse(engine).name)
    rates = {
        "images_per_second": one.images_per_second, "chunk_seconds": one.chunk_seconds,
        "driver_limit": one.driver_limit, "gpus": one.gpus,
    }  # fmt: skip
    if as_json:
        show(asdict(one) | rates, as_json=True)
        return
    commits = f"{one.shards / one.work_seconds:.1f} shards/s, {human_bytes(one.committed_bytes / one.work_seconds)}/s"
    print_table(
        ["what", "figure"],
        [
            ["rows, shards, chunks", f"{one.rows:,}, {one.shards:,}, {one.chunks:,}"],
            ["planning", f"{one.plan_seconds:.1f} s"],
            [
                "scheduling, gathering, committing",
                f"{one.work_seconds:.1f} s, {1000 * one.chunk_seconds:.1f} ms a chunk",
            ],
            ["rate", f"{one.images_per_second:.0f} images/s, {commits}"],
            ["audit, summaries, SUCCESS.json", f"{one.finish_seconds:.1f} s"],
            [
                "driver, CPU",
                f"{1e6 * one.driver_core_seconds / one.rows:.0f} us an image, "
                f"{1000 * one.driver_core_seconds / one.chunks:.1f} ms a chunk",
            ],
            *(
                [f"driver, private memory at most while {phase}", human_bytes(size)]
                for phase, size in one.driver_bytes.items()
            ),
            ["decode actor with the plan", human_bytes(one.decoder_bytes)],
            ["open shards at most", str(one.open_shards)],
            ["spilled", human_bytes(one.spilled)],
        ],
    )
    say(f"The driver fills one core at {one.driver_limit:.0f} images/s: {one.gpus:.1f} GPUs at {GPU_RATE:.0f} each.")
