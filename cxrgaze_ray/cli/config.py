"""cxrgaze config: which defaults are in force, and where they come from."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from cxrgaze_ray.cli.console import print_table, say, show
from cxrgaze_ray.cli.options import Json
from cxrgaze_ray.config.environment import VARIABLES, Variable
from cxrgaze_ray.errors import ConfigError

_HIDDEN = "(set, not shown)"


def show_(
    context: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(help="Command whose options to show, such as: models promote. Else those set.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what options are by default, and where each default comes from: built in, cxrgaze.toml or a variable.

    The command line wins over variables, and these win over the file.

    Example: cxrgaze config show score
    """
    from cxrgaze_ray.cli.defaults import BUILT_IN, EXAMPLE, Defaults, Given, key_of

    defaults, wanted = Defaults(context.find_root().command), tuple(command or ())
    if wanted and wanted not in defaults.commands:
        words = ", ".join(" ".join(path) for path in defaults.commands if path[:1] == wanted[:1])
        raise ConfigError(f"There is no command {' '.join(wanted)}.", f"There are {words}." if words else "See --help.")
    rows: list[dict[str, Any]] = []
    for path, options in defaults.commands.items():
        for option in options if not wanted or path == wanted else ():
            given = defaults.given(path, option)
            if given or wanted:
                value, source = given or Given(option.default, BUILT_IN)
                rows.append({"command": " ".join(path), "option": key_of(option), "value": value, "from": source})
    warnings = defaults.unknown_variables()
    if as_json:
        show({"file": defaults.file, "options": rows, "warnings": warnings}, as_json=True)
        return
    if rows:
        print_table(["command", "option", "value", "from"], [list(row.values()) for row in rows])
    elif not wanted:
        say("Every option is as built in. See those of a command: cxrgaze config show score")
    for warning in warnings:
        say(f"Warning: {warning}")
    if defaults.file:
        say(f"The file of defaults is {defaults.file}.")
    else:
        say("There is no cxrgaze.toml here. One may look so:")
        for line in EXAMPLE.splitlines():
            say(line)


def env(context: typer.Context, as_json: Json = False) -> None:
    """List the environment variables that are read, and which are set; secrets are never shown.

    Example: cxrgaze config env
    """
    ours = context.obj or ()  # what the command has set for Ray is nobody's configuration
    rows = [
        {"variable": one.name, "value": None if one.name in ours else _shown(one), "what": one.what}
        for one in VARIABLES
    ]
    if as_json:
        show({"variables": rows}, as_json=True)
        return
    print_table(["variable", "value", "what"], [list(row.values()) for row in rows])
    say("Every option has a variable as well, such as CXRGAZE_SCORE_ENGINE for `cxrgaze score --engine`.")


def _shown(variable: Variable) -> str | None:
    value = os.environ.get(variable.name)
    return _HIDDEN if value and variable.secret else value
