"""What `cluster up` leaves for the commands after it: where the node of this machine is, and how it can be ended."""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from cxrgaze_ray.cluster.processes import Leader
from cxrgaze_ray.config import Record
from cxrgaze_ray.errors import ConfigError

_STATE, _TOKEN, _LOCK = "node.json", "token", "lock"

LEFT = "The cluster that was up here has ended without `cluster down`: it was killed, or the machine was started anew."


class Standing(Record):
    """A node of a cluster that outlives its command.

    Attributes
    ----------
    role
        Whether this machine has the cluster's head, or joined it.
    address, dashboard
        Where Ray's programs reach the cluster, and the URL of its dashboard and job server.
    host
        Address of this node.
    metrics_port
        Port where Prometheus finds this node's metrics.
    folder
        Folder of all that its processes leave behind.
    token_file
        File of the cluster's token; `own_token` if it was made here, and goes when the cluster is taken down.
    leader
        The process to be told to end; None while it is being started.
    ready
        Whether it ever answered.
    """

    role: Literal["head", "worker"]
    address: str
    dashboard: str
    host: str
    metrics_port: int
    folder: Path
    token_file: Path
    own_token: bool
    leader: Leader | None = None
    ready: bool = False

    @property
    def discovery(self) -> Path:
        """File of Prometheus's service discovery, which Ray's head writes; its owner alone can read it."""
        return self.folder / "ray" / "prom_metrics_service_discovery.json"

    @property
    def lives(self) -> bool:
        """Whether the node's first process is running."""
        return self.leader is not None and self.leader.lives()


@dataclass(frozen=True)
class Place:
    """The folder that holds the record of this machine's node, for its user alone; home may be shared by machines."""

    folder: Path

    @classmethod
    def of_this_machine(cls) -> Place:
        """Return where the record is, if there is one."""
        base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        name = re.sub(r"[^A-Za-z0-9.-]", "_", platform.node()) or "localhost"
        return cls(Path(base).expanduser().absolute() / "cxrgaze" / "cluster" / name)

    @property
    def token_file(self) -> Path:
        """File of the token that is made here."""
        return self.folder / _TOKEN

    def read(self) -> Standing | None:
        """Return the record; None if nothing was started here, or what was written can't be read any more."""
        with suppress(FileNotFoundError, ValidationError):
            return Standing.model_validate_json((self.folder / _STATE).read_text())
        return None

    def write(self, standing: Standing) -> None:
        """Put a record in the place of the one before, whole or not at all."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = self.folder / f".{_STATE}"
        partial.write_text(standing.model_dump_json())
        partial.replace(self.folder / _STATE)

    def forget(self) -> None:
        """Remove the record."""
        (self.folder / _STATE).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all that is here, a token that was made here included."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # other machines of the same home have theirs beside
            self.folder.parent.rmdir()
            self.folder.parent.parent.rmdir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands from starting or ending this machine's node meanwhile.

        Raises
        ------
        ConfigError
            If one of them is at it, or the folder can't be written.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigError(
                f"{self.folder} can't be written: {error.strerror}.", "Name another place: XDG_STATE_HOME."
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise ConfigError(
                "Another `cxrgaze cluster up` or `down` is at work on this machine.", "Wait for it, then try again."
            ) from error
        finally:
            os.close(lock)
