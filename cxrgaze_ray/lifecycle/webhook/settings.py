"""Settings of the webhook: what it accepts, how often, and what it then starts."""

from __future__ import annotations

import os
import shlex
import sys

from pydantic import Field

from cxrgaze_ray.config import Name, Text, Uri
from cxrgaze_ray.config.listening import Listening, token_of
from cxrgaze_ray.config.serve_file import TOKEN_VARIABLE as SCORING_TOKEN
from cxrgaze_ray.errors import ConfigError

TOKEN_VARIABLE = "CXRGAZE_WEBHOOK_TOKEN"
"""Environment variable with the webhook's bearer token: whoever has it may start a retraining, which may promote."""


class WebhookSettings(Listening):
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

    port: int = Field(8001, ge=1, le=65_535)
    """Port of HTTP, if Ray Serve is not running there already."""

    route_prefix: str = Field("/", pattern=r"^/[a-z0-9/_-]*$", max_length=200)
    """Prefix of every path, such as /webhook if the same Ray Serve hosts the model at /."""

    @property
    def url(self) -> str:
        """URL at which clients on this machine reach the webhook."""
        return f"{self.origin}{self.route_prefix}".rstrip("/")

    @property
    def told_url(self) -> str:
        """URL of the webhook to tell people."""
        return f"{self.told_origin}{self.route_prefix}".rstrip("/")

    def entrypoint(self) -> str:
        """Return the shell command of the job: every word of it comes from these settings."""
        words = [self.python or sys.executable, *self.command, "--config", self.config, *self.arguments]
        return shlex.join([*words, "--reason", "drift", "--json"])


def read_token() -> str:
    """Return the bearer token.

    Raises
    ------
    ConfigError
        If no token is set, or it is the one that scores: who may score may not have a model replaced.
    """
    token = token_of(TOKEN_VARIABLE)
    if not token:
        raise ConfigError(
            "The webhook needs a bearer token.",
            f"Set {TOKEN_VARIABLE} to a long random string, here or where the cluster's nodes are started.",
        )
    if token == os.environ.get(SCORING_TOKEN):
        raise ConfigError(
            f"{TOKEN_VARIABLE} is the same as {SCORING_TOKEN}: whoever may score could have the model replaced.",
            f"Set {TOKEN_VARIABLE} to another long random string.",
        )
    return token
