"""The command line: what every command says of itself, what it writes, and how it ends."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cxrgaze_ray import __version__
from cxrgaze_ray.archive.identities import open_key
from cxrgaze_ray.archive.manifest import list_archive
from cxrgaze_ray.cli import app
from cxrgaze_ray.cli.archive import DriftKind
from cxrgaze_ray.cli.console import human_bytes, human_seconds
from cxrgaze_ray.errors import Interrupted, NothingNew, StoreUnavailable
from cxrgaze_ray.models.bundle import Lineage, make_bundle, read_info
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.phantoms import Drift
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.scoring.runs import Request, Run, RunSpec, make_plan
from cxrgaze_ray.storage import LocalStore
from tests.command import Cxrgaze, Ended
from tests.labelled_store import write_store
from tests.unit.scoring.test_runs import make_finished

HEAVY = ("torch", "ray", "boto3", "botocore", "pyarrow", "numpy", "cv2", "sklearn", "pydicom", "fastapi")


def script(*arguments: str, code: str = "from cxrgaze_ray.cli import main; main()") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, child in command.commands.items():
        yield from walk(child, (*path, name))


COMMANDS = dict(walk(typer.main.get_command(app)))
every_command = pytest.mark.parametrize("path", COMMANDS, ids=" ".join)


def example(path: tuple[str, ...]) -> list[str]:
    (line,) = re.findall(r"^Example: (.*)$", COMMANDS[path].help, re.M)
    return shlex.split(line)


def test_the_commands_are_those_of_the_handbook() -> None:
    assert {" ".join(path) for path in COMMANDS} == {
        "demo", "archive make", "archive list", "archive look", "ingest", "train", "evaluate", "predict", "score",
        "tables", "serve",
        "retrain", "monitor", "webhook", "doctor",
        "runs list", "runs show", "runs report", "runs compare", "runs verify", "runs export", "runs query",
        "bench listing",
        "bench decode",
        "bench model", "bench train", "bench streams", "bench serve", "bench pipeline", "bench memory",
        "bench planning", "bench soak",
        "models init", "models import", "models list", "models show", "models promote", "models rollback",
        "models verify", "models card", "models compare", "models export",
        "bench learning", "config show", "config env", "examples copy",
        "cluster up", "cluster status", "cluster down",
        "submit score", "submit ingest", "submit train", "submit retrain", "submit tables", "submit monitor",
        "submit attach", "submit cancel",
    }  # fmt: skip


@every_command
def test_every_command_and_option_is_explained(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert len(command.help.splitlines()[0]) > 20
    assert [parameter.name for parameter in command.params if not parameter.help] == []


@every_command
def test_every_command_shows_its_help(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    assert re.search(r"^Example:\n  cxrgaze", result.stdout, re.M)
    assert f"Usage: cxrgaze {' '.join(path)}" in result.stdout


@every_command
def test_every_example_can_be_typed(path: tuple[str, ...]) -> None:
    words = example(path)
    assert tuple(words[: len(path) + 1]) == ("cxrgaze", *path)
    COMMANDS[path].make_context(words[0], words[len(path) + 1 :])


@every_command
def test_every_command_but_the_servers_prints_json(path: tuple[str, ...]) -> None:
    options = {option for parameter in COMMANDS[path].params for option in parameter.opts}
    assert ("--json" in options) is (path not in (("serve",), ("webhook",)))


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from cxrgaze_ray.cli import main\n"
        "try:\n    main()\n"
        f"except SystemExit:\n    print('loaded', sorted(set({HEAVY}) & set(sys.modules)))"
    )
    for arguments in (["--help"], ["score", "--help"], ["--version"]):
        assert script(*arguments, code=code).stdout.splitlines()[-1] == "loaded []"


def test_the_version_is_printed(cxrgaze: Cxrgaze) -> None:
    assert cxrgaze("--version").out.startswith(f"cxrgaze {__version__}")


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "a", "--out", "b", "--no-such-option"],
        ["score", "a"],
        ["score", "a", "--out", "b", "--limit", "0"],
        ["score", "a", "--out", "b", "--replicas", "1:"],
        ["score", "a", "--out", "b", "--replicas", "many"],
        ["score", "a", "--out", "b", "--retry-failed", "--dry-run"],
        ["train", "store", "--preset", "huge"],
        ["models", "init", "--preset", "huge"],
        ["archive", "make", "x", "--drift", "0.5"],
        ["archive", "make", "x", "--drift", "site", "--drift-strength", "2"],
        ["no-such-command"],
        ["models", "promote", "name"],
    ],
    ids=" ".join,
)
def test_a_command_that_can_not_be_parsed_is_a_user_error(cxrgaze: Cxrgaze, arguments: list[str]) -> None:
    ended = cxrgaze(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("Usage: ")
    assert "Traceback" not in ended.err
    assert "Value error" not in ended.err


def test_a_user_error_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    ended = script("runs", "show", str(tmp_path / "[red]nothing"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"cxrgaze: There is no run at {tmp_path}/[red]nothing. See `cxrgaze runs list OUT`.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["archive", "list", "nowhere"], "no folder"),
        (["runs", "report", "nowhere"], "no run at"),
        (["models", "show", "none", "--registry", "nowhere"], "nowhere"),
        (["models", "show", "none", "--registry", "here"], "no model none"),
        (["models", "init", "--name", "Bad Name", "--registry", "new"], "made of a-z"),
        (["models", "import", "none.pth", "--format", "cxrgazelearn", "--registry", "here"], "none.pth"),
        (["models", "list", "--registry", "gs://bucket"], "gs:// is not supported"),
        (["models", "verify", "none", "--registry", "here"], "no model none"),
        (["models", "verify", "none", "--head", "abc", "--registry", "here"], "64 hexadecimal digits"),
        (["models", "card", "none", "--registry", "here"], "no model none"),
        (["models", "card", "none", "--out", "card.pdf", "--registry", "here"], ".html or .md"),
        (["score", "here", "--out", "new", "--dry-run", "--registry", "here"], "models init --preset tiny"),
        (["train", "here", "--phases", "encoder,decoder", "--dry-run"], "decoder"),
        (["train", "here", "--config", "nowhere.yaml", "--dry-run"], "nowhere.yaml"),
        (["webhook", "--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_the_user_must_change_is_told(
    cxrgaze: Cxrgaze, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    ended = cxrgaze(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("cxrgaze: ")
    assert ended.err.count("\n") == 1
    assert words in ended.err
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["models", "init", "--preset", "huge"], "'full', 'small', 'tiny'"),
        (["models", "init", "--system", "resnet"], "'gazenet', 'mt-unet', 'gazegnn'"),
        (["train", "here", "--system", "resnet"], "'gazenet', 'mt-unet', 'gazegnn'"),
        (["train", "here", "--preset", "huge"], "'full', 'small', 'tiny'"),
        (["score", "here", "--out", "new", "--view", "side"], "'frontal', 'all'"),
        (["score", "here", "--out", "new", "--engine", "warp"], "'auto', 'float32', 'exact', 'fast'"),
        (["score", "here", "--out", "new", "--limit", "0"], "greater than or equal to 1"),
        (["retrain", "--config", "c", "--reason", "boredom"], "'drift', 'schedule', 'manual'"),
        (["evaluate", "here", "--split", "all"], "'train', 'validation', 'test'"),
    ],
)
def test_what_an_option_may_be_is_told(cxrgaze: Cxrgaze, arguments: list[str], allowed: str) -> None:
    ended = cxrgaze(*arguments)
    assert ended.code == 2
    assert f"'{arguments[-2]}'" in ended.err
    assert allowed in ended.err


def test_an_endpoint_that_does_not_answer_is_the_environments_fault(
    cxrgaze: Cxrgaze, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("CXRGAZE_S3_RETRY_S", "0")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between tries
    ended = cxrgaze("runs", "list", "s3://bucket/runs")
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.startswith("cxrgaze: S3 is not reachable for s3://bucket/runs")
    assert ended.err.count("\n") == 1


def test_missing_credentials_are_the_environments_fault(cxrgaze: Cxrgaze, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    ended = cxrgaze("runs", "list", "s3://bucket/runs")
    assert ended.code == 4
    assert "AWS_ACCESS_KEY_ID" in ended.err


def test_a_bug_keeps_its_traceback(cxrgaze: Cxrgaze, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("cxrgaze_ray.scoring.runs.find_runs", broken)
    with pytest.raises(ZeroDivisionError):
        cxrgaze("runs", "list", ".")


def test_ctrl_c_ends_with_130(cxrgaze: Cxrgaze, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cxrgaze_ray.scoring.runs.find_runs", interrupted)
    ended = cxrgaze("runs", "list", ".")
    assert ended.code == 130
    assert "cxrgaze: stopped." in ended.err


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "phantoms"
    result = CliRunner().invoke(app, ["archive", "make", str(folder), "--images", "2", "--seed", "3", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["images"] == 2
    return folder


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "registry"
    result = CliRunner().invoke(app, ["models", "init", "--preset", "tiny", "--registry", str(folder), "--json"])
    assert result.exit_code == 0
    return folder


def test_a_made_archive_is_listed(cxrgaze: Cxrgaze, archive: Path, tmp_path: Path) -> None:
    ended = cxrgaze("archive", "list", archive, "--out", tmp_path / "manifest.parquet", "--json")
    assert ended.code == 0
    found = ended.json
    assert (found["layout"], found["files"], found["missing"]) == ("mimic-cxr", 2, 0)
    assert found["sha256"] == list_archive(str(archive)).sha256()
    assert (tmp_path / "manifest.parquet").stat().st_size > 0
    shown = cxrgaze("archive", "list", archive).out
    assert re.search(r"^files +2 *$", shown, re.M)
    assert re.search(r"^layout +mimic-cxr *$", shown, re.M)


def test_a_key_is_made_only_for_a_layout_that_needs_it(cxrgaze: Cxrgaze, archive: Path, tmp_path: Path) -> None:
    key = tmp_path / "keys" / "pseudonyms.key"
    assert cxrgaze("archive", "list", archive, "--pseudonymise", key, "--json").json["identities"] == "keep"
    assert not key.exists()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "x.dcm").write_bytes(b"-")
    kept = cxrgaze("archive", "list", tmp_path / "tree", "--identities", "keep", "--pseudonymise", key, "--json").json
    assert (kept["identities"], key.exists()) == ("keep", False)
    keyed = cxrgaze("archive", "list", tmp_path / "tree", "--pseudonymise", key, "--json").json
    assert keyed["identities"] == open_key(key).name
    assert keyed["sha256"] != kept["sha256"]


def test_a_listed_archive_is_a_list(cxrgaze: Cxrgaze, archive: Path, tmp_path: Path) -> None:
    first = cxrgaze("archive", "list", archive, "--out", tmp_path / "manifest.parquet", "--json").json
    assert cxrgaze("archive", "list", tmp_path / "manifest.parquet", "--json").json["sha256"] == first["sha256"]


def test_listing_is_measured(cxrgaze: Cxrgaze, archive: Path) -> None:
    found = cxrgaze("bench", "listing", "--sizes", "20", "--tree", "12", "--json").json["listings"]
    assert [(one["kind"], one["rows"], one["layout"]) for one in found] == [
        ("records", 20, "mimic-cxr"),
        ("tree", 12, "tree"),
    ]
    assert all(one["seconds"] > 0 and one["peak_bytes"] > 1e6 for one in found)
    assert cxrgaze("bench", "listing", archive, "--json").json["listings"][0]["rows"] == 2
    assert cxrgaze("bench", "listing", "--sizes", "many").code == 2
    ended = cxrgaze("bench", "listing", archive / "nowhere")
    assert (ended.code, "nowhere" in ended.err) == (4, True)


def test_drift_is_made_as_asked_and_written_down(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    options = ["--drift", "exposure", "--drift", "polarity", "--drift-strength", "0.5"]
    made = cxrgaze("archive", "make", tmp_path / "a", "--images", 1, *options, "--json").json
    assert made["drift"] == {"exposure": 0.5, "polarity": 0.5}
    note = json.loads((tmp_path / "a" / "phantoms.json").read_text())
    assert note["drift"] == {"exposure": 0.5, "polarity": 0.5, "site": 0.0, "prevalence": 0.0}


def test_every_kind_of_drift_can_be_asked_for() -> None:
    assert set(DriftKind) == set(Drift.model_fields)


def test_an_archive_is_not_made_over_another(cxrgaze: Cxrgaze, archive: Path) -> None:
    ended = cxrgaze("archive", "make", archive, "--images", 1)
    assert ended.code == 2
    assert "already" in ended.err


def test_progress_goes_to_stderr_and_the_result_to_stdout(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    ended = cxrgaze("archive", "make", tmp_path / "a", "--images", 1)
    assert ended == Ended(0, f"1 radiographs and 0 broken files are in {tmp_path}/a.\n", "Drawing: 1 of 1\n")


def test_a_fresh_model_is_published_promoted_and_marked(registry: Path) -> None:
    ledger = Registry(LocalStore(str(registry)))
    pin = ledger.resolve("cxrgaze@champion")
    assert (pin.version, pin.trained) == ("v0001", False)
    assert not read_info(LocalStore(pin.uri)).trained


def test_models_are_listed_and_shown(cxrgaze: Cxrgaze, registry: Path) -> None:
    listed = cxrgaze("models", "list", "--registry", registry, "--json").json
    (one,) = listed["models"]
    assert (one["name"], one["system"], one["versions"], one["aliases"]) == ("cxrgaze", "gazenet", 1, "champion=v0001")
    assert (one["version"], one["alias"], one["trained"], one["gate"]) == ("v0001", "champion", False, "")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", one["published"])
    table = cxrgaze("models", "list", "--registry", registry).out
    assert re.search(r"^cxrgaze  v0001    champion  \d{4}-\d\d-\d\d  gazenet  no", table, re.M)
    shown = cxrgaze("models", "show", "cxrgaze", "--registry", registry, "--json").json
    assert shown["aliases"] == {"champion": "v0001"}
    assert shown["bundle"]["trained"] is False
    assert [entry["action"] for entry in shown["ledger"]] == ["publish", "promote"]
    told = cxrgaze("models", "show", "cxrgaze", "--registry", registry).err
    assert "UNTRAINED" in told
    assert "not for clinical use" in told


def test_every_system_can_be_tried_out(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    for system in ("unet-s", "gazegnn"):
        cxrgaze("models", "init", "--system", system, "--name", system, "--registry", registry)
    listed = cxrgaze("models", "list", "--registry", registry, "--json").json["models"]
    assert [(model["name"], model["system"]) for model in listed] == [("gazegnn", "gazegnn"), ("unet-s", "unet-s")]
    told = cxrgaze("models", "show", "unet-s", "--registry", registry).err
    assert "unet-s, preset tiny, predicts saliency, profile" in told
    (registry / "unet-s" / "versions" / "v0001" / "bundle.json").write_text("{}")
    listed = cxrgaze("models", "list", "--registry", registry, "--json").json["models"]
    found = {name: listed[1][name] for name in ("name", "system", "versions", "aliases", "trained")}
    assert found == {
        "name": "unet-s", "system": "not readable", "versions": 1, "aliases": "champion=v0001", "trained": None,
    }  # fmt: skip


def test_a_model_that_is_being_made_is_not_called_damaged(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    Registry(LocalStore(str(tmp_path))).look("net", "0" * 64, ["1" * 64], reason="evaluation after training")
    (found,) = cxrgaze("models", "list", "--registry", tmp_path, "--json").json["models"]
    assert (found["system"], found["version"], found["versions"]) == ("nothing published yet", "", 0)


def test_a_list_tells_what_is_known_of_every_version(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    ledger = Registry(LocalStore(str(tmp_path)))
    made = make_bundle(build(PRESETS["tiny"], 1), "net", trained=True)
    summary = {"diagnosis": {"auc_macro": 0.9}, "intervals": {"auc_macro": {"value": 0.9, "low": 0.8, "high": 0.95}}}
    first, _ = ledger.publish(made), ledger.publish(type(made)(
        made.info.model_copy(update={"metrics": summary}), made.state
    ))  # fmt: skip
    ledger.record_gate("net", "v2", "rejected", "gates/x.json", "0" * 64)
    ledger.promote("net", first.version)
    (champion,) = cxrgaze("models", "list", "--registry", tmp_path, "--json").json["models"]
    assert (champion["version"], champion["auc"], champion["versions"]) == ("v0001", "", 2)
    _, second = cxrgaze("models", "list", "--all", "--registry", tmp_path, "--json").json["models"]
    assert (second["version"], second["alias"], second["trained"]) == ("v0002", "", True)
    assert (second["auc"], second["gate"]) == ("0.900 (0.800 to 0.950)", "rejected")


@pytest.mark.parametrize("same", [True, False])
def test_a_list_says_which_figures_are_of_other_images(cxrgaze: Cxrgaze, tmp_path: Path, same: bool) -> None:
    ledger = Registry(LocalStore(str(tmp_path)))
    for number, store in enumerate(("1", "1" if same else "2")):
        lineage = Lineage(store_sha256=store * 64)
        made = make_bundle(build(PRESETS["tiny"], number), "net", trained=True, lineage=lineage)
        ledger.publish(made.with_metrics({"images": 100 + number, "diagnosis": {"auc_macro": 0.9}}))
    told = cxrgaze("models", "list", "--all", "--registry", tmp_path)
    header, *rows = told.out.splitlines()
    assert "test images" in header
    assert [str(100 + number) in row.split() for number, row in enumerate(rows)] == [True, True]
    assert ("cxrgaze models compare A B --store STORE" in told.err) is not same


@pytest.mark.parametrize("named", ["net", "net@v2", "net@canary"])
def test_every_command_on_a_model_takes_a_version_or_an_alias(cxrgaze: Cxrgaze, tmp_path: Path, named: str) -> None:
    arguments = ("--registry", tmp_path, "--json")
    for seed in (0, 1):
        cxrgaze("models", "init", "--name", "net", "--seed", seed, "--no-promote", *arguments)
    assert cxrgaze("models", "promote", "net@v2", "--alias", "canary", *arguments).json["version"] == "v0002"
    assert cxrgaze("models", "promote", "net@canary", *arguments).json["version"] == "v0002"
    assert cxrgaze("models", "verify", named, *arguments).json["sound"]
    assert cxrgaze("models", "verify", "net@v7", *arguments).err.startswith("cxrgaze: net has no version v0007")
    info = read_info(LocalStore(str(tmp_path / "net/versions/v0002")))
    assert cxrgaze("models", "show", named, *arguments).json["bundle"]["weights_sha256"] == info.weights_sha256
    assert cxrgaze("models", "promote", named, "v1", *arguments).code == (0 if named == "net" else 2)
    told = cxrgaze("models", "rollback", "net@canary", *arguments)
    assert "net@canary has no earlier version" in told.err


def test_the_registry_may_come_from_the_environment(
    cxrgaze: Cxrgaze, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXRGAZE_REGISTRY", str(registry))
    assert len(cxrgaze("models", "list", "--json").json["models"]) == 1


def test_an_empty_registry_has_no_models(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    assert cxrgaze("models", "list", "--registry", tmp_path / "none", "--json") == Ended(0, '{"models": []}\n', "")
    assert "no model" in cxrgaze("models", "list", "--registry", tmp_path / "none").err
    assert tree(tmp_path) == {}


def test_aliases_move_forward_and_back(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    arguments = ("--registry", tmp_path, "--json")
    ledger = Registry(LocalStore(str(tmp_path)))
    cxrgaze("models", "init", "--name", "net", "--no-promote", *arguments)
    assert ledger.aliases("net") == {}
    assert cxrgaze("models", "show", "net", *arguments).json["aliases"] == {}
    second = cxrgaze("models", "init", "--name", "net", "--seed", 1, "--no-promote", *arguments).json
    assert (second["version"], second["trained"]) == ("v0002", False)
    for version in ("v1", "v0002"):
        ended = cxrgaze("models", "promote", "net", version, "--reason", "why not", *arguments)
        assert ended.code == 0
    assert ended.json["weights_sha256"] == second["weights_sha256"]
    assert ledger.aliases("net") == {"champion": "v0002"}
    assert cxrgaze("models", "rollback", "net", *arguments).json["version"] == "v0001"
    assert ledger.aliases("net") == {"champion": "v0001"}
    assert cxrgaze("models", "promote", "net", "v2", "--alias", "canary", *arguments).code == 0
    assert ledger.aliases("net") == {"champion": "v0001", "canary": "v0002"}
    assert [entry.reason for entry in ledger.history("net") if entry.action == "promote"] == ["why not", "why not", ""]
    ended = cxrgaze("models", "rollback", "net", *arguments)
    assert ended.code == 2
    assert "no earlier version" in ended.err
    ended = cxrgaze("models", "promote", "net", "v9", *arguments)
    assert ended.code == 2
    assert "no version v0009" in ended.err


def test_who_moved_an_alias_and_the_new_head_are_told(
    cxrgaze: Cxrgaze, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, ledger = ("--registry", tmp_path), Registry(LocalStore(str(tmp_path)))
    cxrgaze("models", "init", "--name", "net", *where)
    cxrgaze("models", "init", "--name", "net", "--seed", 1, "--no-promote", *where)
    ended = cxrgaze("models", "promote", "net", "v2", "--who", "ann", "--reason", "better", *where)
    assert ended.out.splitlines() == [
        f"net@champion is v0002 in {tmp_path}.",
        "net@v0002 is untrained: its answers mean nothing.",
        f"The ledger's head is {ledger.head('net')}",
    ]
    monkeypatch.setenv("CXRGAZE_WHO", "bob")
    assert cxrgaze("models", "rollback", "net", *where, "--json").json["head"] == ledger.head("net")
    assert [entry.who for entry in ledger.history("net")][-2:] == ["ann", "bob"]
    shown = cxrgaze("models", "show", "net", *where)
    assert re.search(r"\bann +promote +v0002 +champion +better *$", shown.out, re.M)
    assert ledger.head("net") in shown.err
    told = cxrgaze("models", "show", "net", *where, "--json").json
    assert (told["head"], told["ledger"][-1]["who"]) == (ledger.head("net"), "bob")


def test_what_the_gate_rejected_is_promoted_only_with_a_reason(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    cxrgaze("models", "init", "--name", "net", "--no-promote", "--registry", tmp_path)
    ledger = Registry(LocalStore(str(tmp_path)))
    ledger.record_gate("net", "v1", "rejected", "gates/1.json", "-")
    ended = cxrgaze("models", "promote", "net", "v1", "--registry", tmp_path)
    assert (ended.code, ledger.aliases("net")) == (2, {})
    assert "did not accept net@v0001: rejected. To promote it all the same, say why with --reason." in ended.err
    assert cxrgaze("models", "promote", "net", "v1", "--reason", "a test", "--registry", tmp_path).code == 0


def test_a_model_to_try_the_plumbing_does_not_replace_a_better_one_by_the_way(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    where, ledger = ("--registry", tmp_path), Registry(LocalStore(str(tmp_path)))
    trained = ledger.publish(make_bundle(build(PRESETS["tiny"], 3), "net", trained=True))
    ledger.promote("net", trained.version)
    ledger.record_gate("net", "v1", "accepted", "gates/1.json", "-")
    init, before = ("models", "init", "--name", "net", *where), tree(tmp_path)
    ended = cxrgaze(*init)
    assert (ended.code, tree(tmp_path)) == (2, before), "told before anything is published"
    assert "is untrained, and takes the place of v0001, which a gate judged." in ended.err
    assert cxrgaze(*init, "--no-promote").code == 0
    assert ledger.aliases("net") == {"champion": "v0001"}
    assert cxrgaze("models", "promote", "net", "v2", *where).code == 2
    told = cxrgaze("models", "promote", "net", "v2", "--reason", "a test", *where)
    assert (told.code, ledger.aliases("net")) == (0, {"champion": "v0002"})
    assert "net@v0002 is untrained, and takes the place of v0001, which a gate judged.\n" in told.out
    cxrgaze("models", "rollback", "net", *where)
    ended = cxrgaze("models", "promote", "net", "v2", "--reason", "again", "--json", *where)
    assert [one.split(",")[0] for one in ended.json["skipped"]] == ["net@v0002 is untrained"]
    assert cxrgaze("models", "promote", "net", "v1", "--json", *where).json["skipped"] == []


def test_a_registry_is_verified(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    where, ledger = ("--registry", tmp_path), Registry(LocalStore(str(tmp_path)))
    cxrgaze("models", "init", "--name", "net", *where)
    head = ledger.head("net")
    sound = cxrgaze("models", "verify", "net", *where)
    assert (sound.code, sound.out) == (0, "")
    assert f"unless you keep its head: {head}" in sound.err
    assert cxrgaze("models", "verify", "net", "--head", head, *where, "--json").json == {
        "name": "net", "sound": True, "head": head, "findings": [],
    }  # fmt: skip
    (tmp_path / "net" / "ledger" / "00000001.json").unlink()
    assert cxrgaze("models", "verify", "net", *where).code == 0
    cut = cxrgaze("models", "verify", "net", "--head", head, *where)
    assert cut.code == 2
    assert re.search(r"00000001\.json +FAULT +No entry has the hash .* tail was cut.* Restore", cut.out)
    assert "net is not sound: 1 fault." in cut.err
    told = cxrgaze("models", "verify", "net", "--head", head, *where, "--json")
    assert (told.code, told.json["sound"], told.json["findings"][0]["note"]) == (2, False, False)


@pytest.mark.parametrize("file", ["card.html", "card.md"])
def test_a_card_is_written_by_its_ending(cxrgaze: Cxrgaze, registry: Path, tmp_path: Path, file: str) -> None:
    told = cxrgaze("models", "card", "cxrgaze", "--out", tmp_path / file, "--registry", registry, "--json").json
    assert (told["name"], told["version"]) == ("cxrgaze", "v0001")
    text = (tmp_path / file).read_text()
    assert told["head"] in text
    assert text.startswith("<!doctype html>" if file.endswith("html") else "# cxrgaze v0001 (champion)\n\nModel card, ")
    assert cxrgaze("models", "verify", "cxrgaze", "--head", told["head"], "--registry", registry).code == 0
    named = cxrgaze("models", "card", "cxrgaze@v1", "--out", tmp_path / file, "--registry", registry)
    assert named.out.startswith(f"The card of cxrgaze@v0001 is in {tmp_path / file}.")


@pytest.mark.long
def test_a_dry_run_estimates_and_writes_nothing(
    cxrgaze: Cxrgaze, archive: Path, registry: Path, tmp_path: Path
) -> None:
    before = tree(archive), tree(registry)
    arguments = ("score", archive, "--out", tmp_path / "out", "--registry", registry, "--dry-run")
    found = cxrgaze(*arguments, "--json").json
    assert found["images"] == found["sampled"] == 2
    assert found["bytes_in"] == list_archive(str(archive)).counts["bytes"]
    assert found["bytes_out"] > 0
    assert min(found["decode_seconds"], found["model_seconds"], found["seconds"]) > 0
    assert (tree(archive), tree(registry)) == before
    assert list(tmp_path.iterdir()) == []
    assert cxrgaze(*arguments, "--limit", 1, "--json").json["images"] == 1
    assert "Nothing was written." in cxrgaze(*arguments).out


def test_a_webhook_without_a_token_does_not_start(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    (tmp_path / "webhook.yaml").write_text("config: retrain.yaml\n")
    ended = cxrgaze("webhook", "--config", tmp_path / "webhook.yaml")
    assert (ended.code, ended.out) == (2, "")
    assert "CXRGAZE_WEBHOOK_TOKEN" in ended.err


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    write_store(folder, {"train": 6, "validation": 4, "test": 3})
    return folder


@pytest.mark.long
def test_a_dry_training_tries_every_phase_and_leaves_nothing(cxrgaze: Cxrgaze, store: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    config.write_text("seed: 5\nstages:\n  encoder:\n    epochs: 3\n")
    before = tree(tmp_path), tree(store)
    arguments = (
        "train", store, "--preset", "tiny", "--phases", "encoder,classifier", "--config", config,
        "--registry", tmp_path / "registry", "--dry-run",
    )  # fmt: skip
    found = cxrgaze(*arguments, "--json").json
    assert (found["settings"]["preset"], found["settings"]["seed"]) == ("tiny", 5)
    assert (found["settings"]["stages"]["encoder"]["epochs"], found["settings"]["stages"]["encoder"]["batch"]) == (3, 8)
    encoder, classifier = found["phases"]
    assert (encoder["phase"], encoder["images"], encoder["validated"], encoder["epochs"]) == ("encoder", 6, 4, 3)
    assert min(encoder["step_s"], encoder["validation_s"], classifier["features_s"], classifier["feature_bytes"]) > 0
    assert found["seconds"] == pytest.approx(encoder["seconds"] + classifier["seconds"], abs=0.01)
    told = cxrgaze(*arguments)
    assert "All of it was checked, and nothing was trained or written." in told.err
    assert max(map(len, told.out.splitlines())) < 120
    assert (tree(tmp_path), tree(store)) == before


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (["no-store"], "There is no finished shard store"),
        (["STORE", "--from", "net@v1"], "no model net"),
        (["STORE", "--from", "cxrgaze@champion", "--set", "architecture.growth_rate=12"], "do not fit"),
        (["STORE", "--from", "cxrgaze@champion", "--backbone-weights", "first.safetensors"], "not both"),
        (["STORE", "--backbone-weights", "first.safetensors"], "first.safetensors"),
        (["STORE", "--name", "Bad Name"], "made of a-z"),
        (["damaged"], "is damaged"),
        (["miscounted"], "counted 7"),
        (["other-profile"], "does not have the store's profile"),
    ],
    ids=lambda value: " ".join(value[1:]) or value[0] if isinstance(value, list) else None,
)
def test_what_would_stop_a_training_stops_its_dry_run(
    cxrgaze: Cxrgaze, store: Path, registry: Path, tmp_path: Path, changed: list[str], told: str
) -> None:
    spoil(store, tmp_path)
    first = store if changed[0] == "STORE" else tmp_path / changed[0]
    ended = cxrgaze(
        "train", first, *changed[1:], "--preset", "tiny", "--phases", "encoder", "--registry", registry, "--dry-run"
    )
    assert (ended.code in (2, 4), ended.out) == (True, "")
    assert told in ended.err.splitlines()[-1]


def spoil(store: Path, folder: Path) -> None:
    """Copy a store into folders, each with another fault."""
    for name in ("damaged", "miscounted", "other-profile"):
        shutil.copytree(store, folder / name)
    (shard,) = (folder / "damaged").rglob("*.parquet")
    shard.write_bytes(shard.read_bytes()[:-1000])
    for name, old, new in (("miscounted", '"split_train":6', '"split_train":7'), ("other-profile", "-v1", "-v9")):
        info = folder / name / "store.json"
        info.write_text(info.read_text().replace(old, new, 1))


FRESH = "The network will start fresh, not from backbone imagenet: no ImageNet weights are of its kind and size."
LEFT = [f"{part} learns in no phase: it keeps its first weights." for part in ("The gaze path", "The classifier")]


@pytest.mark.parametrize(
    ("arguments", "notes"),
    [
        (["--preset", "tiny", "--phases", "encoder"], [*LEFT, FRESH]),
        (["--preset", "tiny", "--system", "mt-unet", "--set", "legacy_batchnorm_drift=true"],
         ["Setting legacy_batchnorm_drift has no effect: no phase computes anything with a frozen part.", FRESH]),
        (["--preset", "tiny", "--phases", "encoder", "--from", "cxrgaze@champion"], LEFT),
        (["--preset", "tiny", "--phases", "encoder", "--set", "backbone=fresh"], LEFT),
    ],
)  # fmt: skip
def test_a_dry_training_says_what_the_settings_do_not_do(
    cxrgaze: Cxrgaze, store: Path, registry: Path, arguments: list[str], notes: list[str]
) -> None:
    ended = cxrgaze("train", store, *arguments, "--registry", registry, "--dry-run", "--json")
    assert ended.code == 0
    assert ended.json["notes"] == notes


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("lerning_rate: 1", "lerning_rate"),
        ("seed: many", "seed"),
        ("preset: huge", "preset"),
        ("stages: {encoder: {epoch: 3}}", "stages.encoder.epoch"),
        ("stages: {decoder: {epochs: 3}}", "decoder"),
        ("stages: {encoder: 3}", "stages.encoder"),
        ("stages: 3", "stages"),
        ("- seed", "mapping"),
        ("1: 2", "mapping"),
        ("seed: [", "YAML"),
    ],
)
def test_a_wrong_setting_is_named(cxrgaze: Cxrgaze, tmp_path: Path, text: str, key: str) -> None:
    (tmp_path / "train.yaml").write_text(text)
    ended = cxrgaze("train", "store", "--config", tmp_path / "train.yaml", "--dry-run", "--json")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("cxrgaze: ")
    assert key in ended.err


def planned(out: Path, archive: Path) -> Run:
    manifest = list_archive(str(archive))
    plan = make_plan(manifest.table)
    spec = RunSpec(
        run_id="0123456789abcdef",
        request=Request(archive=str(archive), model="m@champion", engine="auto"),
        model=ModelPin(uri="/r", name="m", version="v0001", weights_sha256="ab", trained=False),
        profile="cxrgaze-v1",
        engine="reference-float32-cpu",
        layout=manifest.layout,
        identities=manifest.identities,
        plan_sha256="ff",
        manifest_sha256=manifest.sha256(),
        rows=plan.num_rows,
        shards=1,
        code_version=__version__,
        created_at="2026-01-01T00:00:00.000000+00:00",
    )
    return Run.create(LocalStore(str(out / spec.run_id)), spec, plan)


def test_runs_are_listed_shown_and_reported(cxrgaze: Cxrgaze, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "no run under" in cxrgaze("runs", "list", out).err
    run = planned(out, archive)
    (row,) = cxrgaze("runs", "list", out, "--json").json["runs"]
    assert (row["run"], row["files"], row["state"], row["model"]) == (run.spec.run_id, 2, "0 of 1 shards", "m v0001")
    shown = cxrgaze("runs", "show", run.store.uri, "--json").json
    assert shown["spec"] == json.loads(run.spec.model_dump_json())
    assert (shown["pending_shards"], shown["success"]) == (1, None)
    assert "UNTRAINED" in cxrgaze("runs", "show", run.store.uri).out
    report = cxrgaze("runs", "report", run.store.uri, "--out", tmp_path / "report.html", "--json")
    assert report.json == {"report": f"{tmp_path}/report.html", "lost": 0}
    assert "This run is unfinished" in (tmp_path / "report.html").read_text()


def test_a_sound_run_is_verified_and_an_unsound_one_says_how_to_mend_it(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    run = make_finished(tmp_path)
    ended = cxrgaze("runs", "verify", run.store.uri, "--json")
    assert (ended.code, ended.json) == (0, {"run": run.store.uri, "sound": True, "problems": []})
    assert (
        "The run is complete: 133 files, each with one row, in 2 shards."
        in cxrgaze("runs", "verify", run.store.uri).err
    )
    run.store.delete("results/shard-00001.parquet")
    ended = cxrgaze("runs", "verify", run.store.uri)
    assert ended.code == 2
    assert re.search(r"^results/shard-00001\.parquet +The shard is missing\.", ended.out, re.M)
    assert ended.err.endswith(
        "To mend it: remove SUCCESS.json and the files that are wrong, and run its score command again.\n"
    )
    ended = cxrgaze("runs", "verify", run.store.uri, "--json")
    assert (ended.code, ended.json["sound"]) == (2, False)
    assert {"file": "results/shard-00001.parquet", "what": "The shard is missing."} in ended.json["problems"]
    run.store.delete("SUCCESS.json")
    assert cxrgaze("runs", "verify", run.store.uri).err.endswith(
        "To mend it: remove the files that are wrong, and run its score command again.\n"
    )
    run.store.put("plan.parquet", b"-")
    assert "score the archive into a new run: --new." in cxrgaze("runs", "verify", run.store.uri).err


def test_a_cut_account_of_a_run_is_named_by_every_command(
    cxrgaze: Cxrgaze, tmp_path: Path, archive: Path, registry: Path
) -> None:
    out, sound = tmp_path / "out", make_finished(tmp_path / "out", 5, run_id="fedcba9876543210")
    run = make_finished(out, 5)
    run.store.put("SUCCESS.json", b'{"run_id": "0123')
    states = {row["run"]: row["state"] for row in cxrgaze("runs", "list", out, "--json").json["runs"]}
    assert states == {sound.spec.run_id: "complete", run.spec.run_id: "SUCCESS.json can't be read"}
    assert "SUCCESS.json " in cxrgaze("runs", "verify", run.store.uri).out
    for arguments in (
        ("runs", "show", run.store.uri),
        ("runs", "report", run.store.uri, "--out", tmp_path / "report.html"),
        ("runs", "export", run.store.uri, "--to", "csv", "--out", tmp_path / "csv"),
        ("score", archive, "--out", out, "--registry", registry, "--not-in", run.store.uri),
        ("score", archive, "--out", out, "--registry", registry, "--not-in", out),
    ):
        ended = cxrgaze(*arguments)
        assert (ended.code, ended.out) == (2, ""), arguments
        line = f"cxrgaze: {run.store.uri}/SUCCESS.json can't be read. Remove it and run the run's score command again"
        assert ended.err.startswith(line)
        assert ended.err.count("\n") == 1


@dataclass(frozen=True)
class Scored:
    """What the driver is made to answer."""

    run: Any
    already_complete: bool = False


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Put a made-up driver in place of the one that needs Ray."""
    module = ModuleType("cxrgaze_ray.scoring.driver")
    module.ScoreSettings = SimpleNamespace(build=dict)  # type: ignore[attr-defined]
    values = {
        "rows": 3, "counts": {"scored": 2, "failed": 1}, "reasons": {"truncated": 1}, "seconds": 60.0,
        "images_per_second": 0.05, "shards": [],
    }  # fmt: skip
    success = SimpleNamespace(
        **values, model_dump=lambda exclude: {k: v for k, v in values.items() if k not in exclude}
    )
    spec, store = SimpleNamespace(closed_folders=0), SimpleNamespace(uri="/out/run")
    outcome = Scored(SimpleNamespace(store=store, spec=spec, success=lambda: success))
    module.ScoreSettings = SimpleNamespace(build=lambda **_: None)  # type: ignore[attr-defined]
    module.score_archive = lambda *_, **__: outcome  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_a_night_without_anything_new_ends_well(
    cxrgaze: Cxrgaze, driver: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: Any, **__: Any) -> None:
        raise NothingNew("Nothing is new: each of the 3 files has its row.")

    monkeypatch.setattr(driver, "score_archive", nothing)
    ended = cxrgaze("score", "a", "--out", "b", "--not-in", "b")
    assert (ended.code, ended.out) == (0, "Nothing is new: each of the 3 files has its row.\n")
    assert cxrgaze("score", "a", "--out", "b", "--not-in", "b", "--json").json == {
        "run": None, "rows": 0, "closed_folders": 0,
    }  # fmt: skip


def test_a_score_says_what_it_came_to(cxrgaze: Cxrgaze, driver: ModuleType) -> None:
    ended = cxrgaze("score", "a", "--out", "b")
    assert ended.code == 0
    assert ended.out == (
        "3 files: 2 scored, 0 skipped, 1 failed.\n0.1 images/s over 60 s.\nReasons: truncated 1.\nRun: /out/run\n"
        "A page of it: cxrgaze runs report /out/run --out report.html\n"
        "Which files failed, and why: cxrgaze runs show /out/run --failed\n"
    )
    found = cxrgaze("score", "a", "--out", "b", "--json").json
    assert (found["run"], found["already_complete"], found["rows"]) == ("/out/run", False, 3)
    assert "shards" not in found


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [([], (False, False)), (["--new"], (True, False)), (["--retry-failed"], (False, True))],
    ids=["none", "new", "retry failed"],
)
def test_a_run_is_begun_afresh_or_its_failed_rows_scored_again_only_on_request(
    cxrgaze: Cxrgaze,
    driver: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    wanted: tuple[bool, bool],
) -> None:
    asked: list[tuple[Any, dict[str, Any]]] = []
    answer = driver.score_archive

    def note(*arguments: Any, **options: Any) -> Any:
        asked.append((arguments, options))
        return answer(*arguments, **options)

    monkeypatch.setattr(driver, "score_archive", note)
    assert cxrgaze("score", "a", "--out", "b", *flags).code == 0
    (((request, out, *_), options),) = asked
    assert (options["new"], options["retry_failed"]) == wanted
    assert (request.archive, request.not_in, out) == ("a", (), "b"), "flags are no part of the request"


def test_a_score_follows_links_that_lead_out_only_on_request(
    cxrgaze: Cxrgaze, driver: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    answer = driver.score_archive

    def note(request: Request, *arguments: Any, **options: Any) -> Any:
        asked.append(request.follow_links)
        return answer(request, *arguments, **options)

    monkeypatch.setattr(driver, "score_archive", note)
    for flags in ((), ("--follow-links",)):
        assert cxrgaze("score", "a", "--out", "b", *flags).code == 0
    assert asked == [False, True]


def test_failed_rows_end_a_strict_score_with_3(cxrgaze: Cxrgaze, driver: ModuleType) -> None:
    ended = cxrgaze("score", "a", "--out", "b", "--strict", "--json")
    assert ended.code == 3
    assert ended.json["counts"]["failed"] == 1


def test_closed_folders_are_told_and_end_a_strict_score_with_3(cxrgaze: Cxrgaze, driver: ModuleType) -> None:
    driver.score_archive().run.spec.closed_folders = 2
    driver.score_archive().run.success().counts.update(failed=0)
    ended = cxrgaze("score", "a", "--out", "b")
    assert (ended.code, "Warning: 2 folders of the archive could not be listed" in ended.out) == (0, True)
    ended = cxrgaze("score", "a", "--out", "b", "--strict", "--json")
    assert (ended.code, ended.json["closed_folders"]) == (3, 2)


def test_a_night_without_anything_new_but_a_closed_folder_is_not_passed_over(
    cxrgaze: Cxrgaze, driver: ModuleType
) -> None:
    def nothing(*_: Any, on_listed: Callable[[Any], None], **__: Any) -> None:
        on_listed(SimpleNamespace(counts={"closed_folders": 1}, closed=("Müller",)))
        raise NothingNew("Nothing is new.")

    driver.score_archive = nothing  # type: ignore[attr-defined]
    ended = cxrgaze("score", "a", "--out", "b", "--not-in", "b", "--strict")
    assert ended.code == 3
    assert "Warning: 1 folder of the archive could not be listed" in ended.err
    assert "Müller" not in ended.err, "what is no terminal may be a log"


def test_a_stopped_score_tells_how_to_go_on(cxrgaze: Cxrgaze, driver: ModuleType) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise Interrupted("Stopped after 2 of 3 shards.")

    driver.score_archive = stopped  # type: ignore[attr-defined]
    ended = cxrgaze("score", "my archive", "--out", "b")
    assert ended.code == 130
    assert "Stopped after 2 of 3 shards. Continue with: cxrgaze score 'my archive' --out b\n" in ended.err


def test_a_score_without_its_store_is_the_environments_fault(cxrgaze: Cxrgaze, driver: ModuleType) -> None:
    def down(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("S3 is down.", "Run it again.")

    driver.score_archive = down  # type: ignore[attr-defined]
    ended = cxrgaze("score", "a", "--out", "b")
    assert (ended.code, ended.err) == (4, "cxrgaze: S3 is down. Run it again.\n")


def test_quantities_are_told_for_people() -> None:
    assert [human_bytes(count) for count in (0, 999, 1000, 1_500_000, 2e9, 3e12)] == [
        "0 B", "999 B", "1.0 kB", "1.5 MB", "2.0 GB", "3.0 TB",
    ]  # fmt: skip
    assert [human_seconds(count) for count in (0.4, 119, 150, 7200)] == ["0 s", "119 s", "2 min", "2.0 h"]
