"""Where an HTTP service listens, with or without TLS."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from cxrgaze_ray.config.settings import Settings, Text
from cxrgaze_ray.errors import ConfigError

_TOKEN = re.compile(r"[!-~]{16,}")


class Listening(Settings):
    """Address and port of HTTP, if Ray Serve is not running there already; it keeps its own."""

    host: Text = "127.0.0.1"
    """Address on which HTTP listens; any but loopback is open to other machines."""

    port: int = Field(8000, ge=1, le=65_535)
    """Port of HTTP."""

    ssl_certfile: Text | None = None
    """PEM file of the certificate, its chain after it, on every node with a proxy; with it HTTP is HTTPS."""

    ssl_keyfile: Text | None = None
    """PEM file of the certificate's key."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            raise ValueError("ssl_certfile and ssl_keyfile go together")
        return self

    @property
    def tls(self) -> bool:
        """Whether what travels is encrypted."""
        return self.ssl_certfile is not None

    @property
    def in_the_clear(self) -> bool:
        """Whether other machines can reach it, and what they send could be read on its way."""
        return not (self.tls or is_loopback(self.host))

    @property
    def origin(self) -> str:
        """URL at which clients on this machine reach it, without a path."""
        return self._origin(self.host)

    @property
    def told_origin(self) -> str:
        """URL to tell people: no browser elsewhere can open 0.0.0.0, which stands for this machine's every address."""
        return self._origin(socket.gethostname() if _is_every_address(self.host) else self.host)

    def _origin(self, host: str) -> str:
        shown = f"[{host}]" if ":" in host else host
        return f"http{'s' if self.tls else ''}://{shown}:{self.port}"

    def check_files(self) -> None:
        """Check that the certificate and its key can be read on this machine; ConfigError if not."""
        for name in (self.ssl_certfile, self.ssl_keyfile):
            try:
                if name is not None:
                    Path(name).read_bytes()
            except OSError as error:
                raise ConfigError(f"{name} can't be read: {error.strerror}.", "Name a PEM file.") from error


def is_loopback(host: str) -> bool:
    """Return whether who listens on an address can be reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_every_address(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def token_of(variable: str) -> str:
    """Return the bearer token that an environment variable holds, "" where it is not set.

    Raises
    ------
    ConfigError
        If it is so short that it can be guessed, or has a character that no client would send in a header as it is.
    """
    token = os.environ.get(variable, "")
    if token and not _TOKEN.fullmatch(token):
        raise ConfigError(
            f"{variable} has fewer than 16 characters, or a space, an end of line or a letter beyond ASCII.",
            f"Set it to a long random string, such as: export {variable}=$(openssl rand -hex 32)",
        )
    return token
