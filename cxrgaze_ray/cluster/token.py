"""The token of a cluster, in a file that nobody else may read. It is shown nowhere, and never put on a command line."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from cxrgaze_ray.errors import ConfigError

_LEAST = 16
_HINT = "Name the file with the cluster's token: --token-file FILE."
_made_up: list[str] = []
"""Tokens of private clusters of this process, which no other cluster knows."""

_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""Ray's own, in the order in which it looks."""


def make_token(file: Path) -> None:
    """Make a token, unless the file is there: a cluster that starts again has the one its others know."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if file.exists():
        return
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
        new.write(secrets.token_hex(32))
    partial.replace(file)


def read_token(file: Path) -> str:
    """Return the token in a file.

    Raises
    ------
    ConfigError
        If it can't be read, others may read it, or it holds no token.
    """
    try:
        mode, token = file.stat().st_mode, file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(f"The token's file {file} can't be read: {why}.", _HINT) from error
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"Others may read the token's file {file}.", "Keep it to yourself: chmod 600 on it.")
    if len(token) < _LEAST or not token.isascii() or any(character.isspace() for character in token):
        raise ConfigError(
            f"{file} holds no token: one has {_LEAST} characters or more, and no space among them.", _HINT
        )
    return token


def make_up_token() -> None:
    """Put a fresh token into this process's environment, for a private cluster."""
    _made_up.append(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN"] = _made_up[-1]


def is_given() -> bool:
    """Return whether whoever started this process set a variable of Ray's that says which token to take."""
    return os.environ.get("RAY_AUTH_TOKEN") not in (None, *_made_up) or "RAY_AUTH_TOKEN_PATH" in os.environ


def given_file() -> Path | None:
    """Return the file that Ray itself would take the token from: RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token."""
    if named := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return Path(named).expanduser().absolute()
    usual = Path("~/.ray/auth_token").expanduser()
    return usual if usual.is_file() else None


def environment_with(file: Path) -> dict[str, str]:
    """Return this process's variables for Ray's processes, which are to take the token from a file and nowhere else."""
    plain = {name: value for name, value in os.environ.items() if name not in (*_VARIABLES, "RAY_ADDRESS")}
    return plain | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)}


def use_file(file: Path) -> None:
    """Have Ray take the token from a file in this process, which must not have read another one yet."""
    for name in _VARIABLES:
        os.environ.pop(name, None)
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)}


def given_token() -> str:
    """Return the token that RAY_AUTH_TOKEN holds.

    Raises
    ------
    ConfigError
        If whoever started this process did not set it.
    """
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    if not token or token in _made_up:
        raise ConfigError("A cluster answers to its token only, and there is none here.", _HINT)
    return token
