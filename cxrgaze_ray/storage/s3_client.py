"""Clients of S3, built once per process from the AWS configuration and our options."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.fs as pafs

from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.storage.s3_errors import s3_errors, unusable
from cxrgaze_ray.storage.s3_settings import s3_settings

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.credentials import ReadOnlyCredentials
    from mypy_boto3_s3 import S3Client

_CONNECT_S = 5.0
_SHORT_S = 4.0
"""Timeout in seconds for callers that retry by themselves: see `Store.without_retries`."""
_ARROW_LONGEST_WAIT_S = 20.0

LEAST_CHECKSUMS = "when_required"
_CHECKSUMS = ("request_checksum_calculation", "response_checksum_validation")


@cache
def session() -> Session:
    """Return the AWS session for the profile in force."""
    import boto3  # 0.2 s that local work and --help do not pay

    return boto3.Session()


@cache
def client(patient: bool = True) -> S3Client:
    """Return the client, which makes one attempt per request: `retry` makes the others."""
    from botocore.config import Config

    settings = s3_settings()
    optional: Any = checksums()
    retries: Any = {"mode": "standard", "total_max_attempts": 1}
    style: Any = None if settings.addressing == "auto" else {"addressing_style": settings.addressing}
    config = Config(
        retries=retries,
        s3=style,
        connect_timeout=_CONNECT_S if patient else _SHORT_S,
        read_timeout=settings.read_timeout_s if patient else min(_SHORT_S, settings.read_timeout_s),
        max_pool_connections=32,
        **optional,
    )
    try:
        return session().client("s3", config=config, verify=ca_bundle())
    except ValueError as error:  # how botocore reports an invalid URL
        raise unusable(error) from error


def checksums() -> dict[str, str]:
    """Return when S3's optional checksums are sent and requested, keyed by the AWS configuration's names.

    By default never: the signature's SHA-256 covers a body anyway, many stores answer 501 to a trailer, and some refuse
    the header that asks for one. The standard variables and the profile turn them on.
    """
    profile: dict[str, str] = session()._session.get_scoped_config()
    return {name: os.environ.get(f"AWS_{name.upper()}") or profile.get(name) or LEAST_CHECKSUMS for name in _CHECKSUMS}


def forget_clients() -> None:
    """Forget all clients: the next request reads environment and profile again."""
    for cached in (client, session, s3_settings):
        cached.cache_clear()


def ca_bundle() -> str | None:
    """Return the PEM file of the authorities to trust, or None for the usual ones; ConfigError if it does not exist."""
    own = s3_settings().ca_bundle
    configured = own or session()._session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    if configured and not Path(configured).is_file():
        hint = "Check AWS_CA_BUNDLE, the profile's ca_bundle and REQUESTS_CA_BUNDLE."
        raise ConfigError(f"There is no CA bundle {configured}.", hint)
    return str(configured) if configured else None


def addressing() -> str:
    """Return the addressing style in force: ours, else the profile's, else auto."""
    s3: Any = client().meta.config.s3  # type: ignore[attr-defined]
    return str((s3 or {}).get("addressing_style") or "auto")


def s3_summary() -> str:
    """Return the options in force in one line, for people; CxrgazeError if they can't be used."""
    settings = s3_settings()
    with s3_errors("s3://"):
        endpoint = client().meta.endpoint_url
    payer = "requester pays" if settings.requester_pays else "owner pays"
    authorities = ca_bundle() or "of the system"
    style, optional = addressing(), checksums()[_CHECKSUMS[0]]
    return (
        f"{endpoint}, retries for {settings.retry_s:g} s, addressing {style}, checksums {optional}, "
        f"CA {authorities}, {payer}"
    )


def frozen_credentials() -> ReadOnlyCredentials | None:
    """Return the credentials in force, renewed if they are about to expire, or None where there are none."""
    with s3_errors("s3://"):
        credentials = session().get_credentials()
        return None if credentials is None else credentials.get_frozen_credentials()


def arrow_filesystem(credentials: ReadOnlyCredentials | None) -> pafs.FileSystem:
    """Build Arrow's S3 filesystem from the same configuration as boto3, which reads more variables.

    Its own retries wait up to 20 s, about as long as our budget in all. It can't accept the costs of a requester-pays
    bucket: archives, which may lie in one, are read through boto3, and results belong in a bucket of your own.
    """
    with s3_errors("s3://"):
        endpoint = client().meta.endpoint_url
    scheme, _, host = endpoint.partition("://")
    style, bundle = addressing(), ca_bundle()
    options: dict[str, Any] = {"region": session().region_name or "us-east-1"}
    if "amazonaws.com" not in host or style == "path":  # Arrow puts the bucket in the host only without an override
        options |= {"endpoint_override": host, "scheme": scheme}
    if style == "virtual":
        options["force_virtual_addressing"] = True
    if bundle is not None:
        options["tls_ca_file_path"] = bundle
    if credentials is not None:
        options |= {"access_key": credentials.access_key, "secret_key": credentials.secret_key}
        if credentials.token:
            options["session_token"] = credentials.token
    # Arrow's SDK has no option for checksums and reads the environment; it would send trailers over plain HTTP, too
    for name, value in checksums().items():
        os.environ.setdefault(f"AWS_{name.upper()}", value)
    options["retry_strategy"] = pafs.AwsStandardS3RetryStrategy(max_attempts=_arrow_attempts(s3_settings().retry_s))
    return pafs.S3FileSystem(**options)


def _arrow_attempts(budget_s: float) -> int:
    """Return how many attempts fill a budget, where waits double from a tenth of a second to 20 s."""
    attempts, wait_s, sum_s = 1, 0.1, 0.0
    while sum_s < budget_s:
        attempts, sum_s, wait_s = attempts + 1, sum_s + wait_s, min(2 * wait_s, _ARROW_LONGEST_WAIT_S)
    return attempts
