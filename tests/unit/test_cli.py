"""The command line: what every command says of itself, what it writes, and how it ends."""

from __future__ import annotations

import json
import re
import shlex
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
from cxrgaze_ray.bundle import read_info
from cxrgaze_ray.cli import app, console, main
from cxrgaze_ray.cli.console import human_bytes, human_seconds
from cxrgaze_ray.errors import Interrupted, NothingNew, StoreUnavailable
from cxrgaze_ray.identities import open_key
from cxrgaze_ray.manifest import list_archive
from cxrgaze_ray.registry import Registry
from cxrgaze_ray.runs import ModelPin, Request, Run, RunSpec, make_plan
from cxrgaze_ray.storage import LocalStore

HEAVY = ("torch", "ray", "boto3", "botocore", "pyarrow", "numpy", "cv2", "sklearn", "pydicom", "fastapi")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one line of JSON on stdout."""
        (line,) = self.out.splitlines()
        result: dict[str, Any] = json.loads(line)
        return result


Cxrgaze = Callable[..., Ended]


def forget_terminal() -> None:
    if console.terminal.cache_info().currsize:
        console.terminal().file.close()
        console.terminal.cache_clear()


@pytest.fixture
def cxrgaze(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Cxrgaze]:
    """Run `main` with arguments in this process, as the console script does."""
    monkeypatch.setattr(sys.modules["cxrgaze_ray.cli.main"], "set_ray_environment", lambda: None)
    forget_terminal()

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["cxrgaze", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            main()
        out, err = capfd.readouterr()
        return Ended(int(leaving.value.code or 0), out, err)

    yield run
    forget_terminal()


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
        "demo", "archive make", "archive list", "archive look", "ingest", "train", "evaluate", "score", "serve",
        "webhook", "doctor",
        "runs list", "runs show", "runs report", "runs verify", "runs export", "bench listing", "bench decode",
        "bench serve", "bench pipeline", "bench memory", "bench planning",
        "models init", "models list", "models show", "models promote", "models rollback",
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
    assert "Example: cxrgaze" in result.stdout
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
    assert cxrgaze("--version") == Ended(0, f"cxrgaze {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "a", "--out", "b", "--no-such-option"],
        ["score", "a"],
        ["score", "a", "--out", "b", "--limit", "0"],
        ["score", "a", "--out", "b", "--replicas", "1:"],
        ["score", "a", "--out", "b", "--replicas", "many"],
        ["archive", "make", "x", "--drift", "2"],
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
        (["models", "init", "--preset", "huge", "--registry", "new"], "Presets are full, small, tiny"),
        (["models", "init", "--name", "Bad Name", "--registry", "new"], "made of a-z"),
        (["models", "list", "--registry", "gs://bucket"], "gs:// is not supported"),
        (["score", "here", "--out", "new", "--view", "side", "--dry-run"], "view"),
        (["score", "here", "--out", "new", "--engine", "warp", "--dry-run"], "engine"),
        (["score", "here", "--out", "new", "--dry-run", "--registry", "here"], "models init --preset tiny"),
        (["train", "here", "--preset", "huge", "--dry-run"], "Presets are"),
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

    monkeypatch.setattr("cxrgaze_ray.runs.find_runs", broken)
    with pytest.raises(ZeroDivisionError):
        cxrgaze("runs", "list", ".")


def test_ctrl_c_ends_with_130(cxrgaze: Cxrgaze, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cxrgaze_ray.runs.find_runs", interrupted)
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
    assert listed == {"models": [{"name": "cxrgaze", "versions": 1, "aliases": "champion=v0001"}]}
    shown = cxrgaze("models", "show", "cxrgaze", "--registry", registry, "--json").json
    assert shown["aliases"] == {"champion": "v0001"}
    assert shown["bundle"]["trained"] is False
    assert [entry["action"] for entry in shown["ledger"]] == ["publish", "promote"]
    told = cxrgaze("models", "show", "cxrgaze", "--registry", registry).err
    assert "UNTRAINED" in told
    assert "not for clinical use" in told


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


def test_a_dry_training_prints_its_settings(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    config.write_text("seed: 5\nstages:\n  encoder:\n    epochs: 3\n")
    before = tree(tmp_path)
    found = cxrgaze(
        "train", tmp_path / "no-store", "--preset", "tiny", "--phases", "encoder,classifier", "--config", config,
        "--registry", tmp_path / "registry", "--dry-run", "--json",
    ).json  # fmt: skip
    assert (found["preset"], found["seed"]) == ("tiny", 5)
    assert list(found["stages"]) == ["encoder", "classifier"]
    assert (found["stages"]["encoder"]["epochs"], found["stages"]["encoder"]["batch"]) == (3, 8)
    assert tree(tmp_path) == before


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
    assert report.json == {"report": f"{tmp_path}/report.html"}
    assert "This run is unfinished" in (tmp_path / "report.html").read_text()


@dataclass(frozen=True)
class Scored:
    """What the driver is made to answer."""

    run: Any
    success: Any
    failed: int
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
    success = SimpleNamespace(**values, model_dump=lambda: dict(values))
    outcome = Scored(SimpleNamespace(store=SimpleNamespace(uri="/out/run")), success, failed=1)
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
    assert cxrgaze("score", "a", "--out", "b", "--not-in", "b", "--json").json == {"run": None, "rows": 0}


def test_a_score_says_what_it_came_to(cxrgaze: Cxrgaze, driver: ModuleType) -> None:
    ended = cxrgaze("score", "a", "--out", "b")
    assert ended.code == 0
    assert ended.out == (
        "3 files: 2 scored, 0 skipped, 1 failed.\n0.1 images/s over 60 s.\nReasons: truncated 1.\nRun: /out/run\n"
    )
    found = cxrgaze("score", "a", "--out", "b", "--json").json
    assert (found["run"], found["already_complete"], found["rows"]) == ("/out/run", False, 3)
    assert "shards" not in found


def test_failed_rows_end_a_strict_score_with_3(cxrgaze: Cxrgaze, driver: ModuleType) -> None:
    ended = cxrgaze("score", "a", "--out", "b", "--strict", "--json")
    assert ended.code == 3
    assert ended.json["counts"]["failed"] == 1


def test_a_stopped_score_tells_how_to_go_on(cxrgaze: Cxrgaze, driver: ModuleType) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise Interrupted("Stopped after 2 of 3 shards.")

    driver.score_archive = stopped  # type: ignore[attr-defined]
    ended = cxrgaze("score", "my archive", "--out", "b")
    assert ended.code == 130
    assert "Stopped after 2 of 3 shards. Go on with: cxrgaze score 'my archive' --out b\n" in ended.err


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
