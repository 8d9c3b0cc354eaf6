"""Defaults of options from a file, cxrgaze.toml, and from variables, which win over it, as the command line does.

`EXAMPLE` is such a file. A variable is named after command and option, CXRGAZE_SCORE_ENGINE, unless the option's help
names another.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from typer.core import TyperOption

from cxrgaze_ray.config.environment import PREFIX, VARIABLES
from cxrgaze_ray.errors import ConfigError

FILE = "cxrgaze.toml"
EXAMPLE = """\
registry = "s3://models/registry"  # of every command that has --registry

[score]                            # of one command
engine = "exact"

[runs.report]
out = "report.html"
"""
BUILT_IN = "default"
_PLACE = f"{PREFIX}CONFIG"

Path_ = tuple[str, ...]


class Given(NamedTuple):
    """A default that was given: its value, and where."""

    value: Any
    source: str


class Defaults:
    """What options are by default, for a tree of commands.

    Parameters
    ----------
    tree
        The root of the commands.
    environment
        Variables; by default this process's.

    Raises
    ------
    ConfigError
        If the file can't be read, or has a key that no command has.
    """

    def __init__(self, tree: Any, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self.file = _find(self._environment)
        self.commands = dict(_walk(tree))
        values = _read(self.file) if self.file else {}
        self._from_file = self._checked(values)

    def given(self, command: Path_, option: TyperOption) -> Given | None:
        """Return the default that file or variables give to a command's option; None if they give none."""
        if value := self._environment.get(name := variable_of(command, option)):
            return Given(value.split() if option.multiple else value, name)
        found = self._from_file.get((command, key_of(option)), self._from_file.get(((), key_of(option))))
        return None if found is None else Given(found, str(self.file))

    def tree(self) -> dict[str, Any]:
        """Return all that is given, nested by the words of a command, as Click reads it."""
        root: dict[str, Any] = {}
        for command, options in self.commands.items():
            place = root
            for word in command:
                place = place.setdefault(word, {})
            for option in options:
                if (one := self.given(command, option)) is not None:
                    place[str(option.name)] = one.value
        return root

    def unknown_variables(self) -> list[str]:
        """Return variables that begin as ours do, and that nothing reads, with the nearest that something does."""
        known = {one.name for one in VARIABLES}
        known |= {variable_of(path, one) for path, options in self.commands.items() for one in options}
        found = sorted(name for name in self._environment if name.startswith(PREFIX) and name not in known)
        return [f"Nothing reads the variable {name}.{_nearest(name, known)}" for name in found]

    def _checked(self, values: dict[str, Any]) -> dict[tuple[Path_, str], Any]:
        everywhere = {key_of(option) for options in self.commands.values() for option in options}
        found: dict[tuple[Path_, str], Any] = {}
        for key, value in values.items():
            if isinstance(value, dict):
                self._check_table((key,), value, found)
            elif key not in everywhere:
                raise self._unknown(key, everywhere | {path[0] for path in self.commands})
            else:
                found[(), key] = value
        return found

    def _check_table(self, path: Path_, values: dict[str, Any], found: dict[tuple[Path_, str], Any]) -> None:
        options, below = self.commands.get(path), {one[len(path)] for one in self._below(path)}
        if options is None and not below:
            raise self._unknown(".".join(path), {".".join(one[: len(path)]) for one in self.commands})
        known = {key_of(option) for option in options or ()}
        for key, value in values.items():
            if isinstance(value, dict) and key in below:
                self._check_table((*path, key), value, found)
            elif key not in known:
                raise self._unknown(".".join((*path, key)), {".".join((*path, one)) for one in known | below})
            else:
                found[path, key] = value

    def _below(self, path: Path_) -> list[Path_]:
        return [one for one in self.commands if one[: len(path)] == path and len(one) > len(path)]

    def _unknown(self, key: str, known: set[str]) -> ConfigError:
        return ConfigError(f"{self.file} has a key {key} that no command has.", _nearest(key, known).strip())


def key_of(option: TyperOption) -> str:
    """Return an option's name in the file: the long one, without dashes before it."""
    return max(option.opts, key=len).lstrip("-")


def variable_of(command: Path_, option: TyperOption) -> str:
    """Return the variable that an option is read from: the one that its help names, which commands may share."""
    if isinstance(option.envvar, str):
        return option.envvar
    return PREFIX + "_".join([*command, key_of(option)]).upper().replace("-", "_")


def _walk(command: Any, path: Path_ = ()) -> Iterator[tuple[Path_, list[TyperOption]]]:
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            yield from _walk(child, (*path, name))
        return
    yield path, [one for one in command.params if isinstance(one, TyperOption) and one.expose_value]


def _find(environment: Mapping[str, str]) -> Path | None:
    """Return the file that counts; one that a variable names must be there."""
    if named := environment.get(_PLACE):
        return Path(named).expanduser()
    users = Path(environment.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return next((place for place in (Path(FILE), users / "cxrgaze" / FILE) if place.is_file()), None)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}.", f"Check the path in {_PLACE}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}.", 'Write one key = "value" per line.') from error


def _nearest(name: str, known: set[str]) -> str:
    near = get_close_matches(name, sorted(known), 1)
    return f" Did you mean {near[0]}?" if near else " See cxrgaze config show."
