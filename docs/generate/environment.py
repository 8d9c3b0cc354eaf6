"""The page of environment variables: the command line's, S3's, and those that are read where they are needed."""

from __future__ import annotations

from collections import defaultdict

import typer

from cxrgaze_ray.cli import app
from cxrgaze_ray.cli.defaults import EXAMPLE
from cxrgaze_ray.config.environment import VARIABLES
from cxrgaze_ray.storage import s3_settings
from cxrgaze_ray.storage.s3_settings import PREFIX, S3Settings
from docs.generate.command_line import walk
from docs.generate.text import code, remarks, table

_HEAD = """# Environment variables

On a cluster, set them on every node. An option on the command line wins over its variable.
`cxrgaze config env` says which are set.

"""


def environment() -> str:
    """Return the page."""
    others = [[code(one.name), one.what] for one in VARIABLES if not one.name.startswith(PREFIX)]
    return "\n".join(
        [
            f"{_HEAD}## Defaults of options\n",
            "`cxrgaze.toml` in the working folder, or in `$XDG_CONFIG_HOME/cxrgaze`, holds defaults of options, of all "
            "commands that have one or of one command:\n",
            f"```toml\n{EXAMPLE}```\n",
            "A variable wins over the file, and the command line over both. `cxrgaze config show` says where each "
            "default comes from.\n",
            "Every option has a variable, such as `CXRGAZE_SCORE_ENGINE` for `cxrgaze score --engine`: see "
            "`cxrgaze config show score`. These are shared by several commands, or not named so:\n",
            table(["variable", "option", "of"], _of_options()),
            "## S3\n",
            f"A wrong or unknown variable that begins with `{PREFIX}` ends a command with exit code 2.\n",
            table(["variable", "default", "what it does"], _of_s3()),
            "## Others\n",
            table(["variable", "what it does"], others),
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
