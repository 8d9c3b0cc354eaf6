"""Which cluster is meant, with which token, and whether this machine can be a node of it."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cxrgaze_ray.cluster.connection import quieted
from cxrgaze_ray.cluster.dashboard import Dashboard, checked_url, is_own_address
from cxrgaze_ray.cluster.nodes import NodeSettings
from cxrgaze_ray.cluster.ports import check_free
from cxrgaze_ray.cluster.ray_internals import dashboard_of
from cxrgaze_ray.cluster.session_folder import SessionFolder
from cxrgaze_ray.cluster.standing import LEFT, Place, Standing
from cxrgaze_ray.cluster.token import given_file, given_token, make_token, read_token, use_file
from cxrgaze_ray.errors import ConfigError, EnvironmentFault, ServingUnavailable

_KNOCK_S = 10.0


@dataclass(frozen=True)
class Found:
    """A cluster that can be asked.

    Attributes
    ----------
    dashboard
        Its dashboard.
    token_file
        File of its token; None if a variable holds the token itself.
    standing
        This machine's node of it; None if it is another one's.
    """

    dashboard: Dashboard
    token_file: Path | None
    standing: Standing | None = None


def find_cluster(url: str | None, token_file: Path | None, place: Place | None = None) -> Found:
    """Return the cluster at a URL, or without one, that whose node this machine is.

    Raises
    ------
    EnvironmentFault
        If none is named and none is up here.
    ConfigError
        If the URL is none, or there is no token.
    """
    standing = (place or Place.of_this_machine()).read()
    if url is not None:
        url = checked_url(url)
    if standing is not None and url in (None, standing.dashboard):
        if not standing.lives:
            raise ServingUnavailable(LEFT, "Clear up and start it again: cxrgaze cluster up.")
        file = token_file or standing.token_file
        log = SessionFolder(standing.folder).log_file
        hint = f"This machine's node of it runs. Try again in a moment, or look at its log: {log}."
        return Found(Dashboard(standing.dashboard, read_token(file), hint), file, standing)
    if url is None:
        raise ServingUnavailable(
            "No cluster is up on this machine, and none is named.",
            "Start one: cxrgaze cluster up; or name one: --address URL.",
        )
    given = token_file or given_file()
    return Found(Dashboard(url, given_token() if given is None else read_token(given)), given)


def token_of(settings: NodeSettings, place: Place, token_file: Path | None) -> tuple[Path, bool]:
    """Return the file of a node's token, and whether it was made here, as it is for a cluster if none is given.

    Raises
    ------
    ConfigError
        If the file is no token's, or a cluster is to be joined and none is given.
    """
    file = token_file.expanduser().absolute() if token_file else None
    if file is None and settings.join is not None:
        file = given_file()
    if file is not None:
        read_token(file)
        return file, False
    if settings.join is not None:
        raise ConfigError(
            "A cluster is joined with its token.", "Copy the head's token file here, and name it: --token-file FILE."
        )
    make_token(place.token_file)
    return place.token_file, True


def checked_host(settings: NodeSettings) -> None:
    """Check that a node's address is one of this machine, and that its ports are free.

    Raises
    ------
    ConfigError
        If it is not, or one is not.
    """
    try:
        unspecified = ip_address(settings.host).is_unspecified
    except ValueError as error:
        raise ConfigError(
            f"{settings.host} is no IP address.", "Write one of this machine: --host 10.0.0.5."
        ) from error
    if unspecified or not is_own_address(settings.host):
        raise ConfigError(
            f"{settings.host} is not an address of this machine.", "Name one that the others reach: --host 10.0.0.5."
        )
    ports = {"--metrics-port": settings.metrics_port}
    if settings.join is None:
        ports |= {"--port": settings.port, "--dashboard-port": settings.dashboard_port}
    for option, port in ports.items():
        check_free(settings.host, port, option)


def own_address(head: str) -> str:
    """Return the address from which this machine reaches a cluster's head.

    Raises
    ------
    EnvironmentFault
        If nothing answers there.
    """
    host, _, port = head.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S) as knocking:
            return str(knocking.getsockname()[0])
    except (OSError, ValueError, OverflowError) as error:
        raise EnvironmentFault(f"No cluster answers at {head}.", "Check the address: HEAD:PORT.") from error


def find_dashboard(address: str, token_file: Path) -> str:
    """Return the URL of the dashboard of the cluster that a head has.

    Raises
    ------
    EnvironmentFault
        If no cluster answers there, or not to this token.
    """
    use_file(token_file)
    try:
        with quieted(Path(os.devnull)):
            found = dashboard_of(address)
    except Exception as error:
        raise EnvironmentFault(
            f"The cluster at {address} does not answer to this token.", "Copy the head's token file here again."
        ) from error
    if found is None:
        raise EnvironmentFault(f"The cluster at {address} has no dashboard.", "Start its head with cxrgaze cluster up.")
    return f"http://{found}"
