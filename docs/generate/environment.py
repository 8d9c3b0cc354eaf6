"""The page of environment variables: the command line's, S3's, and those that are read where they are needed."""

from __future__ import annotations

from collections import defaultdict

import typer

from cxrgaze_ray.cli import app
from cxrgaze_ray.storage import s3_settings
from cxrgaze_ray.storage.s3_settings import PREFIX, S3Settings
from docs.generate.command_line import walk
from docs.generate.text import code, remarks, table

OTHERS = {
    "CXRGAZE_CACHE": "Folder of models as OpenVINO has them; by default `cxrgaze` in `$XDG_CACHE_HOME` or `~/.cache`.",
    "CXRGAZE_SCORE_ENGINE": "Default of `cxrgaze score --engine`; every option has one, see `cxrgaze config show`.",
    "CXRGAZE_CONFIG": "File of defaults of options, else `cxrgaze.toml` here or in `$XDG_CONFIG_HOME/cxrgaze`.",
    "CXRGAZE_WHO": "Who enters into a registry's ledger; by default user@host. Nobody checks it.",
    "CXRGAZE_TOKEN": "Bearer token that `cxrgaze serve` asks of every request; a serve file's `require_token` insists.",
    "CXRGAZE_CLIENT_RATE": "Requests a second that a client of another machine may make in the long run; else 50.",
    "CXRGAZE_WEBHOOK_TOKEN": "Bearer token that `cxrgaze webhook` asks of every request.",
    "RAY_AUTH_MODE": "Set to `token` unless it is set: a cluster answers those only who know its token.",
    "RAY_AUTH_TOKEN": "Token of a running cluster; a private one makes its own.",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "On every node of a cluster that was started without cxrgaze: "
    "`cxrgaze_ray.http.proxy:middlewares`, which bounds requests in time and memory.",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "Set to 1 it opens a private cluster, its metrics without a token, to others.",
    "AWS_ENDPOINT_URL": "Address of an S3 that is not Amazon's. All other standard variables and profiles of AWS hold.",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "S3's optional checksums, which many stores answer with 501, are sent only if "
    "this or the profile asks for them.",
    "TMPDIR": "Where a private cluster's folder lies, unless the path has more than 22 characters; then it is `/tmp`.",
}
"""Variables that no option and no setting names."""

_HEAD = """# Environment variables

On a cluster, set them on every node. An option on the command line wins over its variable.

"""


def environment() -> str:
    """Return the page."""
    return "\n".join(
        [
            f"{_HEAD}## Defaults of options\n",
            table(["variable", "option", "of"], _of_options()),
            "## S3\n",
            f"A wrong or unknown variable that begins with `{PREFIX}` ends a command with exit code 2.\n",
            table(["variable", "default", "what it does"], _of_s3()),
            "## Others\n",
            table(["variable", "what it does"], [[code(name), told] for name, told in OTHERS.items()]),
        ]
    )


def _of_options() -> list[list[str]]:
    used: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path, command in walk(typer.main.get_command(app)):
        for one in command.params:
            for variable in [one.envvar] if isinstance(one.envvar, str) else one.envvar or []:
                used[variable, one.opts[0]].append(" ".join(path))
    return [[code(variable), code(option), ", ".join(of)] for (variable, option), of in sorted(used.items())]


def _of_s3() -> list[list[str]]:
    told = remarks(s3_settings, "S3Settings")
    return [
        [code(PREFIX + name.upper()), code(field.default) if field.default is not None else "", told[name]]
        for name, field in S3Settings.model_fields.items()
    ]
