"""Defaults from cxrgaze.toml and variables: who wins, what is refused, and that the source is told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import cxrgaze_ray
from cxrgaze_ray.cli import app, console
from cxrgaze_ray.cli.command import Command
from cxrgaze_ray.cli.defaults import EXAMPLE, Defaults, variable_of
from cxrgaze_ray.config.environment import VARIABLES
from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.storage.s3_settings import PREFIX, S3Settings
from tests.command import Cxrgaze

FILE = """
registry = "from-file"

[models.list]
all = true

[score]
engine = "exact"
"""


def test_the_example_is_a_file_that_is_read(cxrgaze: Cxrgaze, here: Path) -> None:
    assert cxrgaze("config", "show").err.endswith(EXAMPLE)
    (here / "cxrgaze.toml").write_text(EXAMPLE)
    shown = cxrgaze("config", "show", "--json").json["options"]
    assert {"command": "score", "option": "engine", "value": "exact", "from": "cxrgaze.toml"} in shown


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    return tmp_path


def test_the_command_line_wins_over_variables_and_these_over_the_file(
    cxrgaze: Cxrgaze, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("from-file", "from-variable", "typed"):
        (here / name).mkdir()

    def registry(*arguments: str) -> str:
        return cxrgaze("models", "list", *arguments).err.splitlines()[0].removeprefix("There is no model in ")

    assert "./registry" in registry()
    (here / "cxrgaze.toml").write_text(FILE)
    assert registry() == "from-file."
    monkeypatch.setenv("CXRGAZE_REGISTRY", "from-variable")
    assert registry() == "from-variable."
    assert registry("--registry", "typed") == "typed."


def test_where_each_default_comes_from_is_shown(cxrgaze: Cxrgaze, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "user" / "cxrgaze").mkdir(parents=True)
    (here / "user" / "cxrgaze" / "cxrgaze.toml").write_text(FILE)
    monkeypatch.setenv("CXRGAZE_SCORE_LIMIT", "3")
    monkeypatch.setenv("CXRGAZE_REGISRTY", "x")
    told = cxrgaze("config", "show", "score", "--json").json
    found = {row["option"]: (row["value"], row["from"]) for row in told["options"]}
    file = str(here / "user" / "cxrgaze" / "cxrgaze.toml")
    assert told["file"] == file
    assert found["engine"] == ("exact", file)
    assert found["registry"] == ("from-file", file)
    assert found["limit"] == ("3", "CXRGAZE_SCORE_LIMIT")
    assert found["view"] == ("frontal", "default")
    assert told["warnings"] == ["Nothing reads the variable CXRGAZE_REGISRTY. Did you mean CXRGAZE_REGISTRY?"]
    short = cxrgaze("config", "show", "--json").json
    assert {row["from"] for row in short["options"]} == {file, "CXRGAZE_SCORE_LIMIT"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('registri = "x"', "Did you mean registry?"),
        ("[score]\nengin = 1", "Did you mean score.engine?"),
        ("[scores]\nengine = 1", "Did you mean score?"),
        ("[models.promot]\nwho = 1", "Did you mean models.promote?"),
        ("[score", "is not TOML"),
    ],
)
def test_a_key_that_no_command_has_is_refused_with_the_nearest(
    cxrgaze: Cxrgaze, here: Path, text: str, said: str
) -> None:
    (here / "cxrgaze.toml").write_text(text)
    ended = cxrgaze("models", "list")
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


def test_a_wrong_value_is_told_with_its_place(cxrgaze: Cxrgaze, here: Path) -> None:
    (here / "cxrgaze.toml").write_text('[score]\nengine = "warp"')
    ended = cxrgaze("score", "archive", "--out", "new")
    assert ended.code == 2
    assert "'warp' is not one of" in ended.err
    assert "It comes from cxrgaze.toml." in ended.err


def test_a_file_that_is_named_must_be_there(cxrgaze: Cxrgaze, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRGAZE_CONFIG", "nowhere.toml")
    ended = cxrgaze("models", "list")
    assert (ended.code, "nowhere.toml can't be read" in ended.err) == (2, True)


def test_secrets_are_never_shown(cxrgaze: Cxrgaze, monkeypatch: pytest.MonkeyPatch) -> None:
    for one in VARIABLES:
        if one.secret:
            monkeypatch.setenv(one.name, "hunter2")
    ended = cxrgaze("config", "env")
    assert "hunter2" not in ended.out + ended.err
    assert ended.out.count("(set, not shown)") == sum(one.secret for one in VARIABLES)


def test_what_the_command_sets_for_ray_is_not_shown_as_set(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "RAY_ADDRESS": "10.0.0.1:6379"}
    done = subprocess.run(
        [sys.executable, "-m", "cxrgaze_ray", "config", "env", "--json"], env=env, capture_output=True, check=True
    )
    assert {one["variable"]: one["value"] for one in json.loads(done.stdout)["variables"] if one["value"]} == {
        "RAY_ADDRESS": "10.0.0.1:6379"
    }


def test_every_variable_that_the_code_reads_is_listed() -> None:
    known = {one.name for one in VARIABLES}
    assert {PREFIX + name.upper() for name in S3Settings.model_fields} <= known
    sources = [path.read_text() for path in Path(cxrgaze_ray.__file__).parent.rglob("*.py")]
    named = {name for text in sources for name in re.findall(r'"(CXRGAZE_[A-Z_]*[A-Z])"', text)}
    assert named
    assert named <= known


def test_variables_of_options_differ_from_each_other_and_from_the_others() -> None:
    defaults = Defaults(typer.main.get_command(app), {"CXRGAZE_CONFIG": ""})
    own = [
        variable_of(path, option)
        for path, options in defaults.commands.items()
        for option in options
        if option.envvar is None
    ]
    assert len(own) == len(set(own))
    assert not set(own) & {one.name for one in VARIABLES}


def test_a_tree_is_what_click_reads(here: Path) -> None:
    (here / "cxrgaze.toml").write_text(FILE)
    tree = Defaults(typer.main.get_command(app), {"CXRGAZE_TRAIN_SET": "seed=1 triplet=batch_hard"}).tree()
    assert tree["models"]["list"] == {"every": True, "registry": "from-file"}
    assert tree["train"]["single"] == ["seed=1", "triplet=batch_hard"]
    (here / "cxrgaze.toml").write_text("[bench]\nrounds = 1")
    with pytest.raises(ConfigError):
        Defaults(typer.main.get_command(app), {})


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_words_are_completed_without_anything_heavy(shell: str, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom cxrgaze_ray.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print(sorted({'torch', 'ray', 'numpy', 'pyarrow'} & set(sys.modules)), file=sys.stderr)"
    )
    words: dict[str, str] = {
        "bash": "COMP_WORDS='cxrgaze models pro' COMP_CWORD=2",
        "zsh": "_TYPER_COMPLETE_ARGS='cxrgaze models pro'",
        "fish": "_TYPER_COMPLETE_ARGS='cxrgaze models pro' _TYPER_COMPLETE_FISH_ACTION=get-args",
    }
    script = tmp_path / "cxrgaze"  # the name of the program is the name of its variable
    script.write_text(code)
    command = f"_CXRGAZE_COMPLETE=complete_{shell} {words[shell]} python3 {script}"
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=environment, check=False)
    assert "promote" in done.stdout, done.stderr
    assert "rollback" not in done.stdout
    assert done.stderr.splitlines()[-1] == "[]"


def test_quiet_leaves_warnings_errors_and_the_result(cxrgaze: Cxrgaze, here: Path) -> None:
    assert cxrgaze("models", "list", "--quiet", "--registry", here).err == ""
    ended = cxrgaze("models", "show", "net", "-q", "--registry", here)
    assert (ended.code, ended.err.startswith("cxrgaze: There is no model net")) == (2, True)
    told = cxrgaze("models", "list", "--registry", here)
    assert told.err.startswith("There is no model in"), "it is of that command alone"
    assert told.err.endswith(f"cxrgaze models init --registry {here}\n")


def test_verbose_says_when_and_where_from(cxrgaze: Cxrgaze, here: Path) -> None:
    assert re.match(r" +\d+\.\d s  There is no model in", cxrgaze("models", "list", "-v", "--registry", here).err)


@pytest.mark.parametrize(("rows", "expected"), [
    ([["a", 1], ["longer", 12.5]], "name    value\na           1\nlonger   12.5\n"),
    ([["a", "x"], ["b" * 300, ""]], f"{'name':<300}  value\n{'a':<300}  x\n{'b' * 300}\n"),
])  # fmt: skip
def test_a_table_in_a_pipe_is_plain_lines_that_nothing_folds(
    capsys: pytest.CaptureFixture[str], rows: list[list[Any]], expected: str
) -> None:
    console.print_table(["name", "value"], rows)
    assert capsys.readouterr().out == expected


def test_an_example_is_one_line_however_narrow_the_terminal(cxrgaze: Cxrgaze, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    told = cxrgaze("models", "verify", "--help").out
    (line,) = re.findall(r"^  (cxrgaze models verify .*)$", told, re.M)
    assert line.endswith("8e0f1a3b5c7d9e1f2a4b6c8d0e2f4a6b8c0d2e4f6a8b0c")


def test_every_command_is_one_of_ours() -> None:
    defaults = Defaults(typer.main.get_command(app), {})

    def walk(command: Any) -> list[Any]:
        inner = getattr(command, "commands", None)
        return [command] if inner is None else [one for child in inner.values() for one in walk(child)]

    every = walk(typer.main.get_command(app))
    assert len(every) == len(defaults.commands)
    assert all(isinstance(one, Command) for one in every)
