"""Every environment variable that cxrgaze reads by itself, for those who list them; options have theirs beside."""

from __future__ import annotations

from typing import NamedTuple

PREFIX = "CXRGAZE_"
"""Begins the names of cxrgaze's own variables."""


TRACES_VARIABLE = "CXRGAZE_TRACES"
"""Where traces go: a cluster looks at it when it is started, and each of its processes."""


class Variable(NamedTuple):
    """A variable: what it is for, and whether its value is a secret, which is shown to nobody."""

    name: str
    what: str
    secret: bool = False


VARIABLES = (
    Variable("CXRGAZE_CONFIG", "File of defaults of options; else cxrgaze.toml here or in $XDG_CONFIG_HOME/cxrgaze."),
    Variable("CXRGAZE_REGISTRY", "Model registry: a folder or s3:// prefix."),
    Variable("CXRGAZE_WHO", "Who enters into a registry's ledger; by default user@host. Nobody checks it."),
    Variable("CXRGAZE_PSEUDONYMS", "File with the key that identifiers are hashed with."),
    Variable("CXRGAZE_CACHE", "Folder of models as OpenVINO has them; else cxrgaze in $XDG_CACHE_HOME or ~/.cache."),
    Variable(
        "CXRGAZE_TOKEN",
        "Bearer token that `cxrgaze serve` asks of every request; a serve file's `require_token` insists.",
        secret=True,
    ),
    Variable("CXRGAZE_WEBHOOK_TOKEN", "Bearer token that `cxrgaze webhook` asks of every request.", secret=True),
    Variable(
        "CXRGAZE_CLIENT_RATE",
        "Requests a second that a client of another machine may make in the long run; else 50. For gateways that send "
        "for many.",
    ),
    Variable(
        "CXRGAZE_LOG_FORMAT",
        "`json` writes logs as lines of JSON, and a command's sentences with them; else `text`. On every node of a "
        "cluster whose workers and replicas are to do so.",
    ),
    Variable(
        TRACES_VARIABLE,
        "OpenTelemetry's traces, with the extra `otel`: `otlp` sends them where OTEL_EXPORTER_OTLP_ENDPOINT says, the "
        "absolute path of a folder takes them as files. On every node, and where the cluster is started.",
    ),
    Variable("CXRGAZE_S3_RETRY_S", "Seconds for which a request to S3 is retried, by default 120."),
    Variable("CXRGAZE_S3_READ_TIMEOUT_S", "Seconds of silence of S3 to put up with, by default 20."),
    Variable("CXRGAZE_S3_REQUESTER_PAYS", "Accept the costs of reading other people's buckets: true or false."),
    Variable("CXRGAZE_S3_ADDRESSING", "Where requests name the bucket: auto, path or virtual."),
    Variable("CXRGAZE_S3_CA_BUNDLE", "File of the authorities that the S3 server's certificate may be from."),
    Variable("RAY_ADDRESS", "Running Ray cluster; without one, commands start a private one."),
    Variable("RAY_AUTH_MODE", "Set to `token` unless it is set: a cluster answers those only who know its token."),
    Variable("RAY_AUTH_TOKEN", "Token of a running cluster; a private one makes its own.", secret=True),
    Variable(
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH",
        "On every node of a cluster that was started without cxrgaze: `cxrgaze_ray.http.proxy:middlewares`, which "
        "bounds requests in time and memory.",
    ),
    Variable(
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
        "Set to 1 it opens a private cluster, its metrics without a token, to others.",
    ),
    Variable("AWS_ACCESS_KEY_ID", "Who asks S3.", secret=True),
    Variable("AWS_SECRET_ACCESS_KEY", "Their secret.", secret=True),
    Variable("AWS_SESSION_TOKEN", "Their token, with temporary credentials.", secret=True),
    Variable("AWS_PROFILE", "Profile of the AWS configuration. All other standard variables of AWS hold, too."),
    Variable("AWS_DEFAULT_REGION", "Region of the buckets."),
    Variable("AWS_ENDPOINT_URL", "Address of an S3 that is not Amazon's."),
    Variable("AWS_CA_BUNDLE", "Certificates that the S3 server's is checked with."),
    Variable(
        "AWS_REQUEST_CHECKSUM_CALCULATION",
        "S3's optional checksums, which many stores answer with 501, are sent only if this or the profile asks for "
        "them.",
    ),
    Variable("XDG_CONFIG_HOME", "Folder of the user's configuration, by default ~/.config."),
    Variable("XDG_STATE_HOME", "Folder of what `cluster up` tells later commands, by default ~/.local/state."),
    Variable(
        "RAY_AUTH_TOKEN_PATH",
        "File with the token of a running cluster; that of a cluster that is up on this machine is found without it.",
    ),
    Variable("RAY_API_SERVER_ADDRESS", "Dashboard of a running cluster, for `cxrgaze submit` and `cluster status`."),
    Variable("XDG_CACHE_HOME", "Folder of the user's cache, by default ~/.cache."),
    Variable(
        "TMPDIR",
        "Folder for temporary files, such as features and checkpoints of trainings. A private cluster's folder lies "
        "there, unless the path has more than 22 characters; then in /tmp.",
    ),
    Variable("NO_COLOR", "Set to anything, it turns colours off."),
)
