"""How a training is run: by how many workers, and how often it is saved. Nothing here changes what is learned."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema

from cxrgaze_ray.config import Settings
from cxrgaze_ray.errors import ConfigError

_MOST = 10_000
_WRITTEN = r"(\d{1,5})(?::(\d{1,5}))?"


@dataclass(frozen=True)
class Workers:
    """Least and most workers; the same number twice if it is to be exactly that."""

    least: int = 1
    most: int = 1

    @classmethod
    def parse(cls, value: Any) -> Workers:
        """Read ``4``, or ``2:8``.

        Raises
        ------
        ConfigError
            If it is neither, or out of bounds.
        """
        if isinstance(value, Workers):
            return value
        found = re.fullmatch(_WRITTEN, str(value).strip())
        least = int(found[1]) if found else 0
        most = int(found[2] or least) if found else 0
        if not 1 <= least <= most <= _MOST:
            raise ConfigError(f"{value} is no number of workers.", f"Write one such as 4, or 2:8; at most {_MOST:,}.")
        return cls(least, most)

    @property
    def elastic(self) -> bool:
        """Whether the number may change while a training runs."""
        return self.least < self.most

    def __str__(self) -> str:
        if self.elastic:
            return f"{self.least} to {self.most} workers"
        return f"{self.most} worker{'s' if self.most > 1 else ''}"

    def written(self) -> int | str:
        """Return what `parse` reads."""
        return f"{self.least}:{self.most}" if self.elastic else self.most


def _validated(value: Any) -> Workers:
    try:
        return Workers.parse(value)
    except ConfigError as error:
        raise ValueError(f"{str(error).rstrip('.')}: {error.hint}") from error


WorkersSetting = Annotated[
    Workers,
    PlainValidator(_validated),
    PlainSerializer(Workers.written),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": _MOST},
                {"type": "string", "pattern": f"^{_WRITTEN}$"},
            ]
        }
    ),
]
"""Workers as settings files hold them: a number, or text such as ``2:8``."""


class CheckpointSettings(Settings):
    """How often a training is saved."""

    minutes: float = Field(2.0, gt=0, le=1440)
    """Minutes of training after which a checkpoint is written, in the middle of an epoch as well."""

    keep: int = Field(2, ge=1, le=100)
    """Number of checkpoints that are kept."""
