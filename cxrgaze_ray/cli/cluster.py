"""cxrgaze cluster: a Ray cluster of one's own, on this machine or several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cxrgaze_ray.cli.cluster_status import status_lines, status_of, tables_of
from cxrgaze_ray.cli.console import print_table, say, show
from cxrgaze_ray.cli.options import CLUSTER_METRICS_PORT, ClusterUrl, Json, TokenFile
from cxrgaze_ray.errors import EXIT_ENVIRONMENT, ConfigError

if TYPE_CHECKING:
    from cxrgaze_ray.cluster.nodes import Ended, NodeSettings
    from cxrgaze_ray.cluster.standing import Place, Standing

_OPEN = (
    "Warning: Ray listens on all interfaces of this machine now. Its ports ask for the token, but for those of "
    "metrics, and nothing is encrypted: keep them behind a firewall (docs/how-to/cluster.md)."
)


def up(
    join: Annotated[
        str | None, typer.Option(metavar="HEAD:PORT", help="Join the cluster of that head; without it, start one.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address of this machine that the others reach; without it, nothing off this machine does."),
    ] = None,
    token_file: TokenFile = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the head, for nodes and programs.")] = 6379,
    dashboard_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the head's dashboard and job server.")
    ] = 8265,
    metrics_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port where Prometheus finds this node's metrics.")
    ] = CLUSTER_METRICS_PORT,
    num_cpus: Annotated[
        int | None, typer.Option(min=0, help="Logical CPUs; by default the cores, but at least 4. 0 works for nobody.")
    ] = None,
    num_gpus: Annotated[int | None, typer.Option(min=0, help="GPUs; by default those that are there.")] = None,
    object_store_mib: Annotated[int | None, typer.Option(min=76, help="Size of the object store, in MiB.")] = None,
    as_json: Json = False,
) -> None:
    """Start a Ray cluster that outlives this terminal, or join one: metrics, dashboard and token authentication are on.

    It is told where Prometheus, the dashboard and others find it. What a killed one left behind is cleared up first.

    Example: cxrgaze cluster up

    On several machines: cxrgaze cluster up --host 10.0.0.5

    On each other one: cxrgaze cluster up --join 10.0.0.5:6379 --token-file ./token
    """
    from cxrgaze_ray.cluster.connection import ClusterSettings, default_store_mib, is_loopback
    from cxrgaze_ray.cluster.joining import own_address
    from cxrgaze_ray.cluster.nodes import LOOPBACK, NodeSettings
    from cxrgaze_ray.cluster.standing import Place

    if join is not None and is_loopback(join):
        raise ConfigError("A head on 127.0.0.1 can't be joined.", "Start it with --host ADDRESS.")
    cpus = ClusterSettings().cpus if num_cpus is None else num_cpus
    settings = NodeSettings.build(
        join=join,
        host=host or (own_address(join) if join else LOOPBACK),
        port=port,
        dashboard_port=dashboard_port,
        metrics_port=metrics_port,
        num_cpus=cpus,
        num_gpus=num_gpus,
        object_store_mib=object_store_mib or default_store_mib(cpus),
    )
    place = Place.of_this_machine()
    with place.locked():
        standing, started = _up(settings, place, token_file, as_json=as_json)
    lines = _up_lines(standing, started=started)
    told = standing.model_dump(mode="json", exclude={"leader", "ready", "own_token"})
    show({"started": started, "discovery": str(standing.discovery), **told}, as_json=as_json, lines=lines)


def _up(settings: NodeSettings, place: Place, token_file: Path | None, *, as_json: bool) -> tuple[Standing, bool]:
    """Return this machine's node, and whether it was started just now."""
    from cxrgaze_ray.cluster.joining import checked_host, find_dashboard, token_of
    from cxrgaze_ray.cluster.nodes import clear_remains, start_node
    from cxrgaze_ray.cluster.ports import free_port
    from cxrgaze_ray.cluster.standing import LEFT

    found = place.read()
    if found is not None and found.lives and found.ready:
        return found, False
    if found is not None:
        remains = clear_remains(found, place)
        _tell(as_json, f"{LEFT} {remains} of its processes were left, and are ended.")
    checked_host(settings)
    file, own = token_of(settings, place, token_file)
    dashboard = find_dashboard(settings.join, file) if settings.join else None
    if not settings.alone:
        say(_OPEN)
    _tell(as_json, "Starting Ray, which takes up to a minute.")
    standing = start_node(settings, file, place, own_token=own, client_port=free_port(), dashboard=dashboard)
    return standing, True


def _tell(as_json: bool, sentence: str) -> None:
    if not as_json:
        say(sentence)


def _up_lines(standing: Standing, *, started: bool) -> list[str]:
    """Say what is up, and what can be done with it."""
    from cxrgaze_ray.cluster.nodes import LOOPBACK

    if standing.role == "worker":
        first = f"This machine joined the cluster at {standing.address}, and stays when this terminal is gone."
    else:
        first = f"The cluster at {standing.address} is up, and stays when this terminal is gone."
    if not started:
        first = f"Nothing was started: this machine's node of the cluster at {standing.address} is up already."
    lines = [
        first,
        f"Dashboard: {standing.dashboard} (it asks for the token, which is in {standing.token_file})",
        f"Metrics of this node: http://{standing.host}:{standing.metrics_port}/metrics",
    ]
    if standing.role == "head":
        lines += [
            f"Prometheus, as your user: file_sd_configs with {standing.discovery}",
            f"Prometheus, as another: http_sd_configs with {standing.dashboard}/api/prometheus/sd and the token",
        ]
        lines.append(
            "Only this machine reaches it. For others, take it down, and: cxrgaze cluster up --host ADDRESS"
            if standing.host == LOOPBACK
            else f"On another machine, with a copy of the token's file: cxrgaze cluster up --join {standing.address} "
            "--token-file FILE"
        )
    lines += [
        "Jobs: cxrgaze submit score ARCHIVE --out RESULTS",
        "See it: cxrgaze cluster status. End it: cxrgaze cluster down.",
    ]
    return lines


def status(address: ClusterUrl = None, token_file: TokenFile = None, as_json: Json = False) -> None:
    """Show a cluster's nodes, what of it is in use, its jobs and versions; exit with 4 if none answers.

    Example: cxrgaze cluster status
    """
    from cxrgaze_ray.cluster.joining import find_cluster

    found = status_of(find_cluster(address, token_file))
    if as_json:
        show(found, as_json=True)
    else:
        for columns, rows in tables_of(found):
            print_table(columns, rows)
        for sentence in status_lines(found):
            say(sentence)
    if not any(node["state"] == "ALIVE" for node in found["nodes"]):
        raise typer.Exit(EXIT_ENVIRONMENT)


def down(as_json: Json = False) -> None:
    """End this machine's node of the cluster, and nothing else; of a head, running jobs are told to end first.

    Example: cxrgaze cluster down
    """
    from cxrgaze_ray.cluster.nodes import clear_remains, end_node
    from cxrgaze_ray.cluster.standing import LEFT, Place

    place = Place.of_this_machine()
    if place.read() is None:
        raise ConfigError("No cluster that `cluster up` started is up on this machine.", "There is nothing to end.")
    with place.locked():
        found = place.read()
        if found is None:
            raise ConfigError("Somebody else has just ended it.", "There is nothing to end.")
        if not found.lives:
            remains = clear_remains(found, place)
            place.remove()
            lines = [f"{LEFT} {remains} of its processes were left, and are ended."]
            show({"ended": remains, "killed": 0, "jobs": []}, as_json=as_json, lines=lines)
            return
        _tell(as_json, "Ending it; running jobs have a minute to end.")
        ended = end_node(found, place)
    result = {"ended": ended.processes, "killed": ended.killed, "jobs": ended.jobs}
    show(result, as_json=as_json, lines=_down_lines(found, ended))


def _down_lines(standing: Standing, ended: Ended) -> list[str]:
    what = "The cluster" if standing.role == "head" else "This machine's node of the cluster"
    lines = [f"{what} at {standing.address} is down: {ended.processes} processes are ended, and its files removed."]
    if ended.jobs:
        lines.append(f"Jobs that ran, and were told to end: {', '.join(ended.jobs)}. What they committed stands.")
    if ended.killed:
        lines.append(f"{ended.killed} processes did not end by themselves and were killed.")
    return lines
