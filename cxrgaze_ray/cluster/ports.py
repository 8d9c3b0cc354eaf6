"""A port for a service of this machine: refused before anything is started if another program has it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from cxrgaze_ray.config.listening import Listening
from cxrgaze_ray.errors import ConfigError, ServingUnavailable


def free_ports(count: int) -> list[int]:
    """Return so many ports of this machine, all different, that nothing has just now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def free_port() -> int:
    """Return a port of this machine that nothing has just now."""
    return free_ports(1)[0]


@contextmanager
def claimed(host: str, port: int, option: str = "--port") -> Iterator[None]:
    """Keep a port for what is started within the block.

    Ray Serve listens with SO_REUSEPORT: two services would share a port without a word. So a name that the kernel gives
    to one process only, and takes back when it ends, stands for the port meanwhile.

    Raises
    ------
    ConfigError
        If another program listens there, another service of ours starts there, or the host is not this machine's.
    """
    with socket.socket(socket.AF_UNIX) as name:
        try:
            name.bind(f"\0cxrgaze-port-{port}")
        except OSError as error:
            raise taken(host, port, "another cxrgaze service has that port", option) from error
        check_free(host, port, option)
        yield


def taken(host: str, port: int, why: str, option: str = "--port") -> ConfigError:
    """Return the error of a port that can't be used; of all interfaces (0.0.0.0), the number is all there is to say."""
    where = f"port {port}" if host == "0.0.0.0" else f"{host}:{port}"
    return ConfigError(f"Nothing can listen on {where}: {why}.", f"Use another {option}, or end what has it.")


def check_free(host: str, port: int, option: str = "--port") -> None:
    """Ask who listens there, then bind as Ray does: connections that have just ended hold nothing.

    Raises
    ------
    ConfigError
        If another program has the port, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as asking, socket.socket(family) as binding:
        asking.settimeout(1.0)
        binding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        binding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            if asking.connect_ex((host, port)) == 0:
                raise taken(host, port, "another program has that port", option)
            binding.bind((host, port))
        except (OSError, OverflowError) as error:
            raise taken(host, port, getattr(error, "strerror", None) or "no such port", option) from error


def start_proxy(where: Listening, location: str = "HeadOnly") -> None:
    """Start Ray Serve with HTTP on the cluster that this process is connected to; where it runs already, it stays.

    Raises
    ------
    ConfigError
        If its proxy can't listen: another program took the port meanwhile, or has it on the cluster's head.
    ServingUnavailable
        If it does not start in time.
    """
    from ray import serve
    from ray.exceptions import RayActorError

    options = where.model_dump(include=set(Listening.model_fields), exclude_none=True)
    try:
        serve.start(proxy_location=location, http_options=options)
    except Exception as error:
        if "Failed to bind" in str(error):
            raise taken(where.host, where.port, "another program has that port") from error
        if isinstance(error, (RayActorError, TimeoutError)):
            what, hint = (
                "Serve's HTTP proxy did not start in time.",
                "This machine may be too busy. Try again once it is not.",
            )
            raise ServingUnavailable(what, hint) from error
        raise
