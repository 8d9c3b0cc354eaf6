"""A cluster's dashboard, as programs ask it over HTTP: its version, nodes, use and jobs. Nothing here imports Ray."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from cxrgaze_ray.errors import ConfigError, EnvironmentFault, ServingUnavailable

_TIMEOUT_S = 20.0
_WRONG_TOKEN = (401, 403)
_REDIRECTS = urllib.request.HTTPRedirectHandler


class _Stay(_REDIRECTS):
    """Follows no redirect: the token would go where it leads."""

    def redirect_request(self, *_: Any) -> None:
        """Refuse."""


_OPENER = urllib.request.build_opener(_Stay, urllib.request.ProxyHandler({}))
"""Asks the cluster itself: a proxy of the environment would be told the token."""


@dataclass(frozen=True)
class Dashboard:
    """The dashboard at a URL, asked with the cluster's token."""

    url: str
    token: str
    if_silent: str = "Start one: cxrgaze cluster up; or name another: --address URL."
    """Next step where it does not answer."""

    def __repr__(self) -> str:
        return f"Dashboard({self.url!r})"

    def version(self) -> dict[str, str]:
        """Return the cluster's Ray version and the name of its session, another one after each start of the head."""
        found = self.get("/api/version")
        return {"ray": str(found.get("ray_version", "")), "session": str(found.get("session_name", ""))}

    def nodes(self) -> list[dict[str, Any]]:
        """Return the nodes as Ray's state API has them, dead ones among them."""
        found: list[dict[str, Any]] = self.get("/api/v0/nodes?detail=1")["data"]["result"]["result"]
        return found

    def usage(self) -> dict[str, tuple[float, float]]:
        """Return of each resource what is used and what there is; nothing where the autoscaler has not told yet."""
        status = self.get("/api/cluster_status").get("data", {}).get("clusterStatus") or {}
        usage = (status.get("loadMetricsReport") or {}).get("usage") or {}
        return {name: (float(pair[0]), float(pair[1])) for name, pair in usage.items() if ":" not in name}

    def jobs(self) -> list[dict[str, Any]]:
        """Return the jobs that were submitted, newest first."""
        submitted = [one for one in self.get("/api/jobs/") if one.get("submission_id")]
        return sorted(submitted, key=lambda one: one.get("start_time") or 0, reverse=True)

    def job(self, name: str) -> dict[str, Any] | None:
        """Return a submitted job; None if the cluster knows none of that name."""
        try:
            found: dict[str, Any] = self.get(f"/api/jobs/{urllib.parse.quote(name, safe='')}")
        except _NotFound:
            return None
        return found

    def stop_job(self, name: str) -> None:
        """Ask a job to end, as SIGTERM does; nothing happens if it has ended."""
        self._ask("POST", f"/api/jobs/{urllib.parse.quote(name, safe='')}/stop")

    def get(self, path: str) -> Any:
        """Return the JSON at a path.

        Raises
        ------
        ConfigError
            If the token is not the cluster's.
        ServingUnavailable
            If nothing answers there, or not as a dashboard does.
        """
        return self._ask("GET", path)

    def _ask(self, method: str, path: str) -> Any:
        request = urllib.request.Request(self.url + path, method=method)
        request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        try:
            with _OPENER.open(request, timeout=_TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            error.close()
            raise self._refused(error.code) from error
        except (OSError, HTTPException) as error:
            raise self.silent() from error
        except ValueError as error:
            raise ServingUnavailable(
                f"What answers at {self.url} is no Ray dashboard.", "Check the address: http://HEAD:8265."
            ) from error

    def silent(self) -> ServingUnavailable:
        """Return the error of a dashboard that does not answer."""
        return ServingUnavailable(f"No cluster answers at {self.url}.", self.if_silent)

    def _refused(self, code: int) -> EnvironmentFault | ConfigError:
        if code in _WRONG_TOKEN:
            return ConfigError(
                f"The token is not that of the cluster at {self.url}.",
                "Name the file with the cluster's token: --token-file FILE.",
            )
        if code == 404:
            return _NotFound(f"The cluster at {self.url} has nothing of that name.", "See cxrgaze cluster status.")
        return ServingUnavailable(
            f"The dashboard at {self.url} answers with {code}.", "Look at the log of the cluster's head."
        )


class _NotFound(ServingUnavailable):
    """The dashboard answers, and knows no such thing."""


def checked_url(typed: str) -> str:
    """Return a dashboard's URL without a slash at its end.

    Raises
    ------
    ConfigError
        If it is none, or holds a password.
    """
    try:
        parts = urllib.parse.urlsplit(typed if "://" in typed else f"http://{typed}")
        sound = bool(parts.hostname) and parts.port != 0 and not (parts.username or parts.query)
    except ValueError:  # an IPv6 address without its end, or a port that is no number
        sound = False
    if not sound or parts.scheme not in ("http", "https"):
        raise ConfigError("That is no address of a dashboard.", "Write it as http://HEAD:8265, without a password.")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def is_own_address(host: str) -> bool:
    """Return whether this machine has an address, so that something here could listen on it."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as one:
            one.bind((host, 0))
    except OSError:
        return False
    return True
