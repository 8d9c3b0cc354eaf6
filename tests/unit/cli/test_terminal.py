"""What others wrote never steers a terminal: every command that prints stored text is given some that would."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cxrgaze_ray
from cxrgaze_ray.cli import console
from cxrgaze_ray.cli.console import bar, print_table, say, show
from cxrgaze_ray.errors import StoreUnavailable
from cxrgaze_ray.models.bundle import make_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.ledger import Draft
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.reports.printable import printable
from cxrgaze_ray.scoring.runs import Request
from cxrgaze_ray.storage import LocalStore
from tests.command import Cxrgaze, Ended, forget_terminal
from tests.labelled_store import write_store
from tests.monitor_reports import report_of
from tests.unit.cli.test_cli import COMMANDS
from tests.unit.scoring.test_runs import make_finished, make_run

MARKUP = "better [/site B] [red]x[/red] :warning:"
HOSTILE = f"{MARKUP}\x1b]0;owned\x07\x1b[2J\r\n\x9b31mcxrgaze: net is sound.\u202e\x7f"
FILE = f"{MARKUP.replace('/', '-')}\x1b[2J\udcff"
"""As a file's name, with a byte that is no UTF-8."""


def hostile(ended: Ended) -> str:
    """Return what a command printed; see that none of it would steer a terminal, and that nothing broke over it."""
    printed = ended.out + ended.err
    assert printable(printed.replace("\n", "")) == printed.replace("\n", ""), repr(printed)
    assert "Traceback" not in printed
    assert not re.search(r"^cxrgaze: net is sound", printed, re.M), "a line was forged"
    assert ended.code in (0, 2, 3, 4)
    return printed


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Leave a registry, a run, a store and an archive that are full of hostile text."""
    root = tmp_path_factory.mktemp("hostile")
    registry = Registry(LocalStore(str(root / "registry")))
    bundle = make_bundle(build(PRESETS["tiny"], 1), "net", trained=True)
    named = bundle.info.model_copy(update={"intended_use": HOSTILE, "metrics": {"note": HOSTILE}})
    pin = registry.publish(type(bundle)(named, bundle.state), HOSTILE, who=HOSTILE)
    registry.promote("net", "v1", reason=HOSTILE, who=HOSTILE)
    ledger = registry.ledger("net")
    hostile = {"version": "v0001", "weights_sha256": pin.weights_sha256, "reason": HOSTILE, "who": HOSTILE}
    for alias, action in (("canary", "promote"), (HOSTILE, "promote"), (HOSTILE, "rollback")):
        ledger.append(ledger.read(), Draft.model_validate({"action": action, "alias": alias, **hostile}))
    stray = ledger.append(ledger.read(), Draft(action="publish", version=HOSTILE, weights_sha256=HOSTILE, who=HOSTILE))
    assert stray is not None
    shutil.copytree(root / "registry", root / "broken")
    (root / "broken" / "net" / "ledger" / FILE).write_bytes(b"-")

    request = Request(archive=HOSTILE, model=HOSTILE, engine="auto")
    model = ModelPin(uri=HOSTILE, name=HOSTILE, version=HOSTILE, weights_sha256="aa", trained=True)
    run = make_finished(root / "runs", 5, request=request, model=model, profile=HOSTILE, engine=HOSTILE)
    other = make_finished(root / "runs", 5, run_id="fedcba9876543210")
    success = json.loads(other.store.get("SUCCESS.json"))
    other.store.put("SUCCESS.json", json.dumps(success | {"reasons": {HOSTILE: 1}, "counts": {HOSTILE: 5}}).encode())
    (root / "runs" / other.spec.run_id / "results" / FILE).write_bytes(b"-")
    shutil.move(run.store.uri, root / "run")
    shutil.move(make_run(root / "runs", 5, request=request, model=model).store.uri, root / "planned")

    write_store(root / "store", {"train": 1, "validation": 1, "test": 1})
    (root / "archive" / FILE).mkdir(parents=True)
    (root / "archive" / FILE / f"{FILE}.jpg").write_bytes(b"\xff\xd8 no picture")
    at = "2026-01-01T00:00:00+00:00"
    report = report_of("site", made_at=at)
    suspicions = tuple(one.model_copy(update={"sentence": HOSTILE}) for one in report.suspicions)
    (root / "report.json").write_text(report.model_copy(update={"suspicions": suspicions}).model_dump_json())
    settings = {"name": "net", "registry": "registry", "stores": ["store"], "reports": ["report.json"]}
    (root / "retrain.yaml").write_text(json.dumps(settings))
    (root / "broken.yaml").write_text(json.dumps({HOSTILE: 1}))
    return root


REGISTRY = ("--registry", "registry")
WALKED: dict[str, list[tuple[str, ...]]] = {
    "models list": [REGISTRY],
    "models show": [("net", *REGISTRY), ("net", "--registry", "broken")],
    "models promote": [("net", "canary", "--alias", "again", "--reason", HOSTILE, *REGISTRY)],
    "models rollback": [("net", "--alias", "canary", *REGISTRY)],
    "models verify": [("net", *REGISTRY), ("net", "--registry", "broken"), ("net", "--registry", FILE)],
    "models card": [("net", "--out", f"{FILE}.md", *REGISTRY), ("net", "--out", f"{FILE}.html", *REGISTRY)],
    "models compare": [("net@v1", "net@v1", *REGISTRY), (f"net@{HOSTILE}", "net@v1", *REGISTRY)],
    "models export": [("net", "--to", "onnx", "--out", "run", *REGISTRY), (HOSTILE, "--to", "onnx", "--out", FILE)],
    "models import": [(FILE, "--format", "cxrgazelearn", *REGISTRY), (FILE, "--format", HOSTILE, *REGISTRY)],
    "models init": [("--preset", HOSTILE, *REGISTRY), ("--name", "net", *REGISTRY)],
    "runs list": [("runs",), (FILE,)],
    "runs show": [("run",), ("runs/fedcba9876543210",), (FILE,)],
    "runs verify": [("run",), ("runs/fedcba9876543210",)],
    "runs report": [("planned", "--out", f"{FILE}.html"), ("run", "--truth", FILE)],
    "runs compare": [("run", "runs/fedcba9876543210"), (FILE, "run")],
    "runs query": [("run", "select * from results"), ("run", HOSTILE), (FILE, "select 1")],
    "runs export": [("run", "--to", "csv", "--out", FILE), ("run", "--to", "png", "--out", FILE)],
    "archive list": [("archive", "--identities", "keep"), (FILE,), (f"archive/{FILE}", "--out", f"{FILE}.parquet")],
    "archive look": [("archive", "--out", f"{FILE}.png"), ("archive", "--model", HOSTILE, *REGISTRY)],
    "predict": [("archive", FILE, *REGISTRY, "--model", "net@v1"), (FILE, "--model", HOSTILE, *REGISTRY)],
    "score": [
        ("archive", "--out", FILE, "--model", HOSTILE, *REGISTRY),
        ("archive", "--out", "runs", "--retry-failed"),
    ],
    "evaluate": [("store", "--model", f"net@{HOSTILE}", *REGISTRY), (FILE, "--model", "net@v1", *REGISTRY)],
    "train": [("store", "--config", "broken.yaml", "--dry-run"), (FILE, *REGISTRY)],
    "tables": [("store", "--only", HOSTILE), (FILE, *REGISTRY), ("store", "--set", f"{HOSTILE}=1")],
    "retrain": [("--config", "retrain.yaml", "--reason", "drift", "--dry-run"), ("--config", "broken.yaml")],
    "monitor": [("--baseline", "run", "--current", "runs"), ("--baseline", FILE, "--current", "run")],
    "webhook": [("--config", "broken.yaml")],
    "serve": [("--config", "broken.yaml")],
    "config show": [(), (HOSTILE,)],
    "doctor": [(*REGISTRY, "--probe", "archive"), ("--registry", "broken")],
    "cluster up": [("--host", HOSTILE), ("--join", HOSTILE), ("--token-file", FILE)],
    "cluster status": [("--address", HOSTILE), ("--address", "http://127.0.0.1:1", "--token-file", FILE)],
    "submit score": [("archive", "--out", FILE, *REGISTRY), ("--job", FILE)],
    "submit attach": [(HOSTILE, "--address", "http://127.0.0.1:1", "--token-file", FILE)],
    "submit cancel": [(HOSTILE,)],
}
"""Commands that print what is stored, or name files, and how they come by hostile text."""

ELSEWHERE = {
    "demo", "archive make", "ingest",
    "bench listing", "bench decode", "bench model", "bench train", "bench streams", "bench serve", "bench pipeline",
    "bench memory", "bench planning", "bench soak", "bench learning", "examples copy", "config env",
    "cluster down", "submit ingest", "submit train", "submit retrain", "submit tables", "submit monitor",
}  # fmt: skip
"""Commands that print figures of what they made themselves, through the same functions as the others."""


def test_every_command_is_walked_or_prints_nothing_stored() -> None:
    assert {" ".join(path) for path in COMMANDS} == WALKED.keys() | ELSEWHERE
    assert not WALKED.keys() & ELSEWHERE


@pytest.mark.parametrize(
    ("command", "arguments"),
    [(command, arguments) for command, walked in WALKED.items() for arguments in walked],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_stored_text_does_not_steer_a_terminal(
    cxrgaze: Cxrgaze, place: Path, monkeypatch: pytest.MonkeyPatch, command: str, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(place)
    hostile(cxrgaze(*command.split(), *arguments))
    if "--json" in {option for one in COMMANDS[tuple(command.split())].params for option in one.opts}:
        hostile(cxrgaze(*command.split(), *arguments, "--json"))


def test_a_reason_in_brackets_is_shown_as_it_is(cxrgaze: Cxrgaze, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for arguments in (("models", "list"), ("models", "show", "net"), ("doctor",)):
        assert MARKUP in hostile(cxrgaze(*arguments, *REGISTRY)), arguments
    assert MARKUP.replace("/", "-") in hostile(cxrgaze("models", "verify", "net", "--registry", "broken"))
    assert MARKUP in hostile(cxrgaze("runs", "show", "run"))
    assert MARKUP in hostile(cxrgaze("monitor", "--baseline", "run", "--current", "runs", "--labels", MARKUP))
    assert r"\x1b[2J" in hostile(cxrgaze("models", "show", "net", *REGISTRY))


def test_an_error_of_a_store_is_shown_as_it_is(cxrgaze: Cxrgaze, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(_: str) -> None:
        error = StoreUnavailable(HOSTILE, HOSTILE)
        error.add_note(HOSTILE)
        raise error

    monkeypatch.setattr("cxrgaze_ray.scoring.runs.find_runs", down)
    ended = cxrgaze("runs", "list", ".")
    assert (ended.code, hostile(ended).count(MARKUP), ended.err.count("\n")) == (4, 3, 1)


@pytest.fixture
def printed(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    forget_terminal()
    yield lambda: hostile(Ended(0, *capfd.readouterr()))
    forget_terminal()


def test_the_seam_itself(printed: Callable[[], str]) -> None:
    say(HOSTILE)
    print_table([HOSTILE, HOSTILE], [[HOSTILE, None], [FILE, HOSTILE]])
    show({HOSTILE: HOSTILE}, as_json=False)
    show({HOSTILE: HOSTILE, FILE: FILE}, as_json=True)
    show({}, as_json=False, lines=[HOSTILE, FILE])
    with bar(HOSTILE) as progress:
        progress.update(1, 2, HOSTILE)
    assert len(printed().splitlines()) == 9


def test_a_progress_bar_takes_no_markup(printed: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(console.terminal()), "is_terminal", True)
    with bar(MARKUP) as progress:
        progress.update(1, 2, HOSTILE)
    monkeypatch.undo()
    forget_terminal()


def test_a_bug_s_traceback_steers_nothing() -> None:
    code = (
        "import cxrgaze_ray.scoring.runs, os\n"
        "def find_runs(_):\n    raise ValueError(os.environ['HOSTILE'])\n"
        "cxrgaze_ray.scoring.runs.find_runs = find_runs\n"
        "from cxrgaze_ray.cli import main\n"
        "main()"
    )
    command = [sys.executable, "-c", code, "runs", "list", "."]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "HOSTILE": HOSTILE})
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Traceback (most recent call last):\n")
    assert printable(ended.stderr.replace("\n", "")) == ended.stderr.replace("\n", "")
    assert f"ValueError: {MARKUP}" in ended.stderr


def test_nothing_but_the_seam_writes_to_a_terminal() -> None:
    """Children that answer on stdout, and Typer's own --version, hold nothing that was stored."""
    package = Path(cxrgaze_ray.__file__).parent
    jobs = package.parent / "jobs"
    allowed = {
        "cli/console.py",
        "cli/main.py",
        "cli/job.py",
        "benchmark/bare.py",
        "benchmark/memory.py",
        "benchmark/streams.py",
    }
    found = set()
    for file in [*package.rglob("*.py"), *jobs.glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
            if name in {"print", "echo", "secho", "Console"}:
                found.add(os.path.relpath(file, package))
    assert found == allowed


def test_a_name_that_is_no_text_is_a_user_error(cxrgaze: Cxrgaze) -> None:
    ended = cxrgaze("runs", "list", "scans\udcff")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(r"cxrgaze: The name scans\udcff holds bytes that are not UTF-8. Rename it")


def test_a_text_is_made_printable() -> None:
    assert printable("a\x1b[2J\x07\r\n\t\x7f\x9b\u202e\udc80") == r"a\x1b[2J\x07\r\n\t\x7f\x9b\u202e\udc80"
    assert printable("Zürich, 東京, 🫁 [/b] :x:") == "Zürich, 東京, 🫁 [/b] :x:"
