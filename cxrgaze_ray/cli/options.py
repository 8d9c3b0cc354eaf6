"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrgaze_ray.config import EngineKind

if TYPE_CHECKING:
    from cxrgaze_ray.archive.identities import Identities
    from cxrgaze_ray.cluster.connection import ClusterSettings
    from cxrgaze_ray.config.listening import Listening

Json = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")]
RegistryUri = Annotated[
    str, typer.Option("--registry", envvar="CXRGAZE_REGISTRY", help="Model registry: a folder or s3:// prefix.")
]
TrackingUri = Annotated[
    str | None,
    typer.Option("--tracking-uri", metavar="URI", help="MLflow server or folder to mirror losses and figures to."),
]
Address = Annotated[
    str | None, typer.Option("--address", envvar="RAY_ADDRESS", help="Running Ray cluster; none starts a private one.")
]
ClusterUrl = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        envvar="RAY_API_SERVER_ADDRESS",
        help="Dashboard of a running cluster, http://HEAD:8265; by default the cluster that is up on this machine.",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File with the cluster's token, readable by its owner only."),
]
Model = Annotated[str, typer.Option("--model", help="name@champion, name@v3, or a bundle's URI.")]
Engine = Annotated[
    EngineKind,
    typer.Option(
        "--engine",
        help="fast moves no probability by more than 0.005; exact none that you could see; float32 is plain torch; "
        "auto is fast.",
    ),
]
Reference = Annotated[str, typer.Argument(metavar="NAME[@VERSION|@ALIAS]", help="Model; its champion by default.")]
PromotionReason = Annotated[
    str,
    typer.Option(
        "--reason",
        help="Why it is promoted; needed if the gate rejected it, could not tell, or knew more of its predecessor.",
    ),
]
MetricsPort = Annotated[
    int, typer.Option(min=0, max=65535, help="Port where Prometheus finds this service's metrics; 0 takes a free one.")
]
WorkMetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        min=1,
        max=65535,
        help="Port where Prometheus finds this command's metrics while it works; by default a free one.",
    ),
]
IdentitiesOption = Annotated[
    Literal["keyed", "keep"],
    typer.Option(
        "--identities",
        help="keyed: identifiers become keyed hashes, except in de-identified layouts; keep: they stay.",
    ),
]
FollowLinks = Annotated[
    bool,
    typer.Option(
        "--follow-links",
        help="Follow links that lead out of the archive; else each becomes a row. git-annex's are followed.",
    ),
]
Pseudonymise = Annotated[
    Path | None,
    typer.Option(
        "--pseudonymise",
        metavar="KEYFILE",
        envvar="CXRGAZE_PSEUDONYMS",
        help="Key of the hashes, made if absent; by default one below the user's configuration.",
    ),
]
SEED_MAX = 2**32 - 1
DEFAULT_REGISTRY = "./registry"
DEFAULT_MODEL = "cxrgaze@champion"
SERVE_METRICS_PORT = 9465
WEBHOOK_METRICS_PORT = 9466
CLUSTER_METRICS_PORT = 9467


def archive_uri(typed: str) -> str:
    """Return an archive as it was typed; a path whose bytes are not UTF-8 as the URI that a run can store."""
    try:
        typed.encode()
    except UnicodeEncodeError:
        from cxrgaze_ray.archive.manifest.places import place_of_path

        return place_of_path(str(Path(typed).absolute()))
    return typed


def identities_of(identities: Literal["keyed", "keep"], key_file: Path | None) -> Callable[[], Identities]:
    """Return a function that opens the key when a layout needs it; nothing is read or made before."""
    from cxrgaze_ray.archive.identities import Identities, open_key

    return Identities if identities == "keep" else lambda: open_key(key_file)


@contextmanager
def private_service(where: Listening, metrics_port: int, address: str | None) -> Iterator[ClusterSettings]:
    """Claim the port of a service that starts its own cluster, and yield the cluster's settings.

    A service on a running cluster listens on that cluster's head: its ports can't be checked from this machine.
    """
    from cxrgaze_ray.cluster.connection import ClusterSettings
    from cxrgaze_ray.cluster.ports import claimed

    if address is not None:
        yield ClusterSettings(address=address)
        return
    where.check_files()
    with claimed(where.host, where.port):
        yield ClusterSettings(metrics_port=metrics_port or None)
