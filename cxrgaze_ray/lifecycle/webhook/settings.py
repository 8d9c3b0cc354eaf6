"""Settings of the webhook: what it accepts, how often, and what it then starts."""

from __future__ import annotations

import os
import shlex
import sys

from pydantic import Field

from cxrgaze_ray.config import Name, Settings, Text, Uri
from cxrgaze_ray.errors import ConfigError

TOKEN_VARIABLES = ("CXRGAZE_WEBHOOK_TOKEN", "CXRGAZE_TOKEN")
"""Environment variables that may hold the bearer token; the first one that is set counts."""


class WebhookSettings(Settings):
    """Contents of webhook.yaml, and the `args` of the application in a Ray Serve config file."""

    config: Uri
    """Settings file of the retraining: a path or s3:// object that the job can read."""

    arguments: tuple[Text, ...] = Field((), min_length=0, max_length=100)
    """More arguments of ``cxrgaze retrain``, for example [--auto-promote]."""

    registry: Uri = "./registry"
    """Store of the model registry, where accepted incidents are recorded."""

    name: Name = "cxrgaze"
    """Name of the model that is retrained."""

    alerts: tuple[Text, ...] = Field(("CxrgazeDrift", "CxrgazePerformanceDrop"), min_length=1, max_length=100)
    """Names of the alerts that start a retraining; all others are answered and ignored."""

    least_hours_between: float = Field(24.0, ge=0, le=876_000)
    """Least hours between two accepted incidents; 0 sets no limit."""

    clock_tolerance_s: float = Field(300.0, ge=0, le=31_536_000)
    """Seconds that the last trigger's date may lie in the future before clocks are said to disagree."""

    max_body_kib: int = Field(256, ge=1, le=65_536)
    """Largest request body, in KiB."""

    jobs_address: Text | None = None
    """Address of the Ray job server, such as http://head:8265; None takes the webhook's own cluster."""

    python: Uri | None = None
    """Python of the job, on the node where Ray starts it; None takes the path of the webhook's own."""

    command: tuple[Text, ...] = Field(("-m", "cxrgaze_ray", "retrain"), min_length=1, max_length=100)
    """Arguments of this Python, before ``--config``."""

    host: Text = "127.0.0.1"
    """Address on which HTTP listens, if Ray Serve is not running there already."""

    port: int = Field(8001, ge=1, le=65535)
    """Port of HTTP, if Ray Serve is not running there already."""

    route_prefix: str = Field("/", pattern=r"^/[a-z0-9/_-]*$", max_length=200)
    """Prefix of every path, such as /webhook if the same Ray Serve hosts the model at /."""

    @property
    def url(self) -> str:
        """URL at which clients on this machine reach the webhook."""
        return f"http://{self.host}:{self.port}{self.route_prefix}".rstrip("/")

    def entrypoint(self) -> str:
        """Return the shell command of the job: every word of it comes from these settings."""
        words = [self.python or sys.executable, *self.command, "--config", self.config, *self.arguments]
        return shlex.join([*words, "--reason", "drift", "--json"])


def read_token() -> str:
    """Return the bearer token.

    Raises
    ------
    ConfigError
        If no token is set: nobody may start a retraining without one.
    """
    token = next((value for name in TOKEN_VARIABLES if (value := os.environ.get(name))), "")
    if not token:
        raise ConfigError(
            "The webhook needs a bearer token.",
            f"Set {TOKEN_VARIABLES[0]} to a long random string, here or where the cluster's nodes are started.",
        )
    return token
