"""cxrgaze demo, serve and doctor."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cxrgaze_ray.cli.console import (
    IN_THE_CLEAR,
    STOP_SERVING,
    UNBOUNDED,
    bar,
    print_table,
    say,
    show,
    stay,
    stop_on_interrupt,
)
from cxrgaze_ray.cli.options import (
    DEFAULT_REGISTRY,
    SEED_MAX,
    SERVE_METRICS_PORT,
    Address,
    Json,
    MetricsPort,
    RegistryUri,
    private_service,
)

if TYPE_CHECKING:
    from cxrgaze_ray.cluster.connection import ClusterSettings
    from cxrgaze_ray.config.serve_file import ServeFile

_LOCAL = "serve_configs/local.yaml"


def demo(
    directory: Annotated[str, typer.Option("--dir", help="Folder to leave everything in.")] = "demo-out",
    images: Annotated[int, typer.Option(min=60, help="Phantoms to train on.")] = 240,
    unseen: Annotated[int, typer.Option(min=12, help="Phantoms to score.")] = 96,
    seed: Annotated[int, typer.Option(min=0, max=SEED_MAX, help="Seed of phantoms and training.")] = 0,
    loop: Annotated[
        bool, typer.Option("--loop", help="Close the loop: a drifted archive, retraining, gate, roll-over, rollback.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Where the loop's service listens, on this machine only.")
    ] = 8000,
    as_json: Json = False,
) -> None:
    """Run the whole line on phantoms: draw, ingest, train, publish, host, score unseen ones, report.

    Example: cxrgaze demo --dir demo-out

    The loop: cxrgaze demo --loop
    """
    from cxrgaze_ray.demo import DemoHooks, run_demo, run_loop_demo

    with bar("Demo", quiet=as_json) as progress:
        hooks = DemoHooks(
            say=(lambda _: None) if as_json else say,
            on_progress=lambda part, done, total: progress.update(done, total, part),
        )
        sizes: dict[str, int] = {"images": images, "unseen": unseen, "seed": seed}
        result = (
            run_loop_demo(directory, port=port, hooks=hooks, **sizes)
            if loop
            else run_demo(directory, hooks=hooks, **sizes)
        )
    show(asdict(result), as_json=as_json, lines=result.lines())


def serve(
    model: Annotated[str | None, typer.Option("--model", help="Overrides the config's model.")] = None,
    registry: Annotated[
        str | None, typer.Option("--registry", envvar="CXRGAZE_REGISTRY", help="Overrides the config's registry.")
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="Ray Serve config; by default serve_configs/local.yaml, if it exists.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Overrides the config's port.")] = None,
    metrics_port: MetricsPort = SERVE_METRICS_PORT,
    address: Address = None,
) -> None:
    """Host the model over HTTP until Ctrl-C.

    Example: cxrgaze serve --model cxrgaze@champion --registry ./registry
    """
    from cxrgaze_ray.config.serve_file import ServeFile
    from cxrgaze_ray.registry.versions import pin_to_score
    from cxrgaze_ray.storage import read_settings

    if config is None and Path(_LOCAL).exists():
        config = _LOCAL
    file = ServeFile() if config is None else read_settings(ServeFile, config)
    file = file.with_arguments(port=port, model=model, registry=registry).with_page()
    file.check_exposure()
    with private_service(file.http_options, metrics_port, address) as where:
        pin_to_score(file.ingress.registry, file.ingress.model)
        _host(file, where)


def _host(file: ServeFile, where: ClusterSettings) -> None:
    from cxrgaze_ray.cluster.connection import connect
    from cxrgaze_ray.serving import start_http, stop_http, wait_ready

    say("Starting Ray and loading the model, which takes up to a minute, and longer on a busy machine.")
    with connect(where) as cluster, stop_on_interrupt(STOP_SERVING) as stop:
        start_http(file)
        try:
            if not wait_ready(file):
                say(UNBOUNDED)
            say(f"Serving {file.ingress.model} on {file.told_url}. Ctrl-C ends this.")
            if file.http_options.in_the_clear:
                say(IN_THE_CLEAR)
            if file.ingress.page:
                say(f"Try it in a browser: {file.told_url}/")
                say(f"What programs send and get is described at {file.told_url}/docs")
            say(f"Batch jobs use this application with --address {cluster.address}; Ray's logs are in {cluster.logs}.")
            if where.metrics_port:
                say(f"Prometheus finds its metrics on port {where.metrics_port}.")
            stay(stop)
        finally:
            stop_http()


def doctor(
    registry: RegistryUri = DEFAULT_REGISTRY,
    probes: Annotated[
        list[str] | None, typer.Option("--probe", metavar="URI", help="Try this store too; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Report what this installation can do: devices, decoders, Ray, S3's options, stores and their conditional put.

    Example: cxrgaze doctor --registry s3://models/registry --probe s3://results/cxr
    """
    from cxrgaze_ray.cli.doctor import examine

    findings = examine(registry, probes or ())
    if as_json:
        show({finding.subject: asdict(finding) for finding in findings}, as_json=True)
    else:
        print_table(["", "", ""], [["ok" if f.sound else "--", f.subject, f.detail] for f in findings])
    if not all(finding.sound for finding in findings if finding.needed):
        raise typer.Exit(4)
