"""The page of the command line, from Typer's tree of commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from cxrgaze_ray.cli import app
from docs.generate.text import code, table

_HEAD = """# Command line

Every command prints what it did as sentences on stderr and its result on stdout; where an option `--json` stands, the
result is one line of JSON. `cxrgaze COMMAND --help` says what stands here.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a bug, with a traceback |
| 2 | change the command or its files |
| 3 | `--strict` and rows failed or folders were closed, or an alert |
| 4 | the environment: mend it, run the command again |
| 130 | stopped; the same command goes on |

`retrain` ends with 10 where the gate rejected the candidate, and with 11 where it could not tell.
"""


_WORDS = {int: "whole number", float: "number", Path: "path"}


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that does something, with the words that name it."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, child in command.commands.items():
        yield from walk(child, (*path, name))


def command_line() -> str:
    """Return the page."""
    tree = typer.main.get_command(app)
    shared = ["## Before any command\n", _options(tree)]
    return "\n".join([_HEAD, *shared, *(_section(path, command) for path, command in walk(tree))])


def _section(path: tuple[str, ...], command: Any) -> str:
    told, _, examples = (command.help or "").partition("\nExample")
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    usage = " ".join(["cxrgaze", *path, *map(_metavar, arguments), "[OPTIONS]"])
    parts = [f"## cxrgaze {' '.join(path)}\n", f"{told.strip()}\n", f"```text\n{usage}\n```\n"]
    if lines := re.findall(r"^(?:s?: *)?(cxrgaze .*)$", examples, re.M):
        parts.append("\n".join(["For example:\n\n```sh", *map(str.strip, lines), "```\n"]))
    if arguments:
        parts.append(table(["argument", "what it is"], [[code(_metavar(one)), one.help or ""] for one in arguments]))
    return "\n".join([*parts, _options(command)])


def _options(command: Any) -> str:
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    head = ["option", "value", "default", "what it does"]
    return table(head, map(_row, options)) if options else ""


def _metavar(argument: Any) -> str:
    name = str(argument.metavar or argument.name).upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _row(option: Any) -> list[str]:
    variables = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
    told = " ".join([option.help or "", *(f"Or `${name}`." for name in variables)])
    return [", ".join(map(code, [*option.opts, *option.secondary_opts])), _value(option), _default(option), told]


def _value(option: Any) -> str:
    kind = option.type_descriptor.annotation
    if option.is_flag:
        return ""
    if get_origin(kind) is Literal:
        return ", ".join(map(code, get_args(kind)))
    bounds = f" from {option.min}" * (option.min is not None) + f" to {option.max}" * (option.max is not None)
    inside = next(iter(get_args(kind)), kind)
    name = option.metavar or _WORDS.get(inside, "text")
    return f"{name}{bounds}" + ", may be repeated" * bool(option.multiple)


def _default(option: Any) -> str:
    if option.required:
        return "required"
    default = option.default() if callable(option.default) else option.default
    return "" if default is None or default in ((), [], "", False) else code(getattr(default, "value", default))
