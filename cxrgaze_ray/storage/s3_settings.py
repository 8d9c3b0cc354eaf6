"""Options of S3 beyond the standard AWS variables and profile, each an environment variable."""

from __future__ import annotations

import os
from functools import cache
from typing import Literal, Self

from pydantic import Field, FilePath

from cxrgaze_ray.config import Settings

PREFIX = "CXRGAZE_S3_"


class S3Settings(Settings):
    """Options of the connection to S3. A field's variable is its name in capitals after ``CXRGAZE_S3_``."""

    retry_s: float = Field(120.0, ge=0, le=86400)
    """Seconds for which an operation is retried after its first transient failure."""
    read_timeout_s: float = Field(20.0, gt=0, le=3600)
    """Seconds of silence after which a request is given up and retried."""
    requester_pays: bool = False
    """Accept the costs of reading other people's buckets."""
    addressing: Literal["auto", "path", "virtual"] = "auto"
    """Whether the bucket is named in the path or in the host; auto leaves it to the AWS profile and the endpoint."""
    ca_bundle: FilePath | None = None
    """PEM file of the authorities to trust; by default that of ``AWS_CA_BUNDLE`` or the profile."""

    @classmethod
    def from_environment(cls) -> Self:
        """Read the variables; ConfigError names the one that is wrong or unknown."""
        given = {
            name.removeprefix(PREFIX).lower(): value for name, value in os.environ.items() if name.startswith(PREFIX)
        }
        return cls.checked(given, "Environment variable", lambda field: PREFIX + field.upper())


@cache
def s3_settings() -> S3Settings:
    """Return the options of this process."""
    return S3Settings.from_environment()
