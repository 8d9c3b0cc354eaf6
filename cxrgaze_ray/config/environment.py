"""Every environment variable that cxrgaze reads by itself, for those who list them; options have theirs beside."""

from __future__ import annotations

from typing import NamedTuple

PREFIX = "CXRGAZE_"
"""Begins the names of cxrgaze's own variables."""


class Variable(NamedTuple):
    """A variable: what it is for, and whether its value is a secret, which is shown to nobody."""

    name: str
    what: str
    secret: bool = False


VARIABLES = (
    Variable("CXRGAZE_CONFIG", "File of defaults for options; else ./cxrgaze.toml, else the user's own."),
    Variable("CXRGAZE_REGISTRY", "Model registry: a folder or s3:// prefix."),
    Variable("CXRGAZE_WHO", "Who publishes and promotes, for the ledger; by default user@host."),
    Variable("CXRGAZE_PSEUDONYMS", "File with the key that identifiers are hashed with."),
    Variable("CXRGAZE_CACHE", "Folder of converted models; by default in the user's cache."),
    Variable("CXRGAZE_TOKEN", "Token that clients of the HTTP service must send.", secret=True),
    Variable("CXRGAZE_WEBHOOK_TOKEN", "Token that alerts must send to the webhook.", secret=True),
    Variable(
        "CXRGAZE_CLIENT_RATE",
        "Requests a second that a service takes from one client, for gateways that send for many.",
    ),
    Variable("CXRGAZE_S3_RETRY_S", "Seconds for which a request to S3 is retried, by default 120."),
    Variable("CXRGAZE_S3_READ_TIMEOUT_S", "Seconds of silence of S3 to put up with, by default 20."),
    Variable("CXRGAZE_S3_REQUESTER_PAYS", "Accept the costs of reading other people's buckets: true or false."),
    Variable("CXRGAZE_S3_ADDRESSING", "Where requests name the bucket: auto, path or virtual."),
    Variable("CXRGAZE_S3_CA_BUNDLE", "File of the authorities that the S3 server's certificate may be from."),
    Variable("RAY_ADDRESS", "Running Ray cluster; without one, commands start a private one."),
    Variable("AWS_ACCESS_KEY_ID", "Who asks S3.", secret=True),
    Variable("AWS_SECRET_ACCESS_KEY", "Their secret.", secret=True),
    Variable("AWS_SESSION_TOKEN", "Their token, with temporary credentials.", secret=True),
    Variable("AWS_PROFILE", "Profile of the AWS configuration."),
    Variable("AWS_DEFAULT_REGION", "Region of the buckets."),
    Variable("AWS_ENDPOINT_URL", "Address of another S3 server than Amazon's."),
    Variable("AWS_CA_BUNDLE", "Certificates that the S3 server's is checked with."),
    Variable("XDG_CONFIG_HOME", "Folder of the user's configuration, by default ~/.config."),
    Variable("XDG_CACHE_HOME", "Folder of the user's cache, by default ~/.cache."),
    Variable("TMPDIR", "Folder for temporary files: features and checkpoints of trainings pass through it."),
    Variable("NO_COLOR", "Set to anything, it turns colours off."),
)
