"""A typo is said before a cluster is started: whatever a command names is looked for first, and its ports too."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from cxrgaze_ray.cli import main
from cxrgaze_ray.cluster.ports import free_port
from cxrgaze_ray.errors import EXIT_USER
from cxrgaze_ray.models.bundle import make_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.phantoms import GAZE_FOLDER, make_archive
from cxrgaze_ray.radiograph.preprocess import profile_sha256
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import SplitSettings, StoreInfo
from cxrgaze_ray.storage import LocalStore, open_store

PROFILE = "cxrgaze-v1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an archive, a registry and a shard store without shards."""
    folder = tmp_path_factory.mktemp("made")
    make_archive(open_store(str(folder / "archive")), images=2, seed=0, height=(60, 70))
    registry = Registry(LocalStore(str(folder / "registry")))
    pin = registry.publish(make_bundle(build(PRESETS["tiny"], 5), "cxrgaze", trained=False))
    registry.promote("cxrgaze", pin.version)
    about = {"profile": PROFILE, "profile_sha256": profile_sha256(PROFILE), "manifest_sha256": "0", "shards": []}
    info = StoreInfo.model_validate({**about, "split": SplitSettings(), "counts": {}})
    LocalStore(str(folder / "store")).put("store.json", info.model_dump_json().encode())
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a copy of that folder, where starting Ray is an error."""

    def start(*_: object, **__: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("cxrgaze_ray.cluster.connection._start", start)
    monkeypatch.setattr("ray.init", start)
    monkeypatch.setenv("CXRGAZE_WEBHOOK_TOKEN", "x" * 16)
    monkeypatch.delenv("CXRGAZE_TOKEN", raising=False)
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


Ended = tuple[int, str]


@pytest.fixture
def cxrgaze(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    monkeypatch.setattr(sys.modules["cxrgaze_ray.cli.main"], "set_ray_environment", lambda: None)
    monkeypatch.setattr(sys.modules["cxrgaze_ray.cli.main"], "tell_error", lambda error: print(f"cxrgaze: {error}"))

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["cxrgaze", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capfd.readouterr()
        return int(left.value.code or 0), out + err

    return run


def write(name: str, values: object) -> str:
    Path(name).write_text(yaml.safe_dump(values))
    return name


SERVE = ("serve", "--registry", "registry", "--metrics-port", "0")
INGEST = ("ingest", "archive", "--gaze", f"archive/{GAZE_FOLDER}", "--out", "new", "--identities", "keep")
SCORING = {
    "request": {"archive": "archive", "model": "cxrgaze@chapmion", "engine": "auto", "options": {"identities": "keep"}},
    "out": "out",
    "registry": "registry",
}
TRAIN = ("train", "store", "--preset", "tiny", "--registry", "registry")
SCORE = ("score", "archive", "--out", "out", "--registry", "registry", "--identities", "keep")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([*SERVE, "--model", "cxrgaze@chapmion"], "chapmion"),
        ([*SERVE, "--model", "cxrgase@champion"], "cxrgase"),
        ([*SERVE, "--registry", "regisrty"], "regisrty"),
        ([*SERVE, "--config", "s4://x/serve.yaml"], "s4"),
        ([*SERVE, "--config", "no-such.yaml"], "no-such.yaml"),
        ([*SCORE, "--model", "cxrgaze@chapmion"], "chapmion"),
        ([*SCORE, "--registry", "regisrty"], "regisrty"),
        (["score", "archvie", *SCORE[2:]], "archvie"),
        ([*SCORE, "--replicas", "3:1"], "max_replicas"),
        ([*SCORE, "--engine", "flaot32"], "engine"),
        (["ingest", "archvie", *INGEST[2:]], "archvie"),
        ([*INGEST, "--gaze", "egd-crx"], "egd-crx"),
        ([*INGEST, "--profile", "cxrgaze-v0"], "cxrgaze-v0"),
        ([*INGEST, "--out", "s4://new"], "s4"),
        (["train", "stroe", *TRAIN[2:]], "stroe"),
        ([*TRAIN, "--name", "My Model"], "name"),
        ([*TRAIN, "--from", "cxrgaze@chapmion"], "chapmion"),
        ([*TRAIN, "--registry", "store/store.json/new"], "store.json is a file"),
        ([*TRAIN, "--backbone-weights", "densenet.safetensor"], "densenet.safetensor"),
        (["evaluate", "store", "--registry", "registry", "--model", "cxrgaze@chapmion"], "chapmion"),
    ],
    ids=lambda value: " ".join(value)[-60:] if isinstance(value, list) else "",
)
def test_a_typo_is_said_before_ray_starts(cxrgaze: Callable[..., Ended], arguments: list[str], named: str) -> None:
    port = ["--port", str(free_port())] if arguments[0] == "serve" else []
    code, said = cxrgaze(*arguments, *port)
    assert (code, named in said, "Traceback" in said) == (EXIT_USER, True, False), said


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"stores": ["stroe"]}, "stroe"),
        ({"policy": "polciy.yaml"}, "polciy.yaml"),
        ({"reports": ["latset.json"]}, "latset.json"),
        ({"registry": "regisrty"}, "regisrty"),
        ({"page": "s4://reports/page.html"}, "s4"),
        ({"training": {"sede": 1}}, "sede"),
        ({"ingest": [{"archive": "archvie", "out": "new"}]}, "archvie"),
        ({"phase": ["classifier"]}, "phase"),
    ],
)
def test_a_retraining_looks_for_what_it_names(
    cxrgaze: Callable[..., Ended], wrong: dict[str, object], named: str
) -> None:
    settings = {"registry": "registry", "stores": ["store"], "ingest": [{"archive": "archive", "out": "new"}], **wrong}
    code, said = cxrgaze("retrain", "--config", write("retrain.yaml", settings))
    assert (code, named in said, "Traceback" in said) == (EXIT_USER, True, False), said


@pytest.mark.parametrize(
    ("retraining", "webhook", "named"),
    [
        ({"phase": []}, {}, "phase"),
        ({}, {"config": "retrian.yaml"}, "retrian.yaml"),
        ({}, {"registry": "regisrty"}, "regisrty"),
        ({}, {"name": "cxrgase"}, "cxrgase"),
        ({}, {"prot": 1}, "prot"),
    ],
)
def test_a_webhook_reads_the_settings_of_its_jobs(
    cxrgaze: Callable[..., Ended], retraining: dict[str, object], webhook: dict[str, object], named: str
) -> None:
    config = write("webhook.yaml", {"config": write("retrain.yaml", retraining), "port": free_port(), **webhook})
    code, said = cxrgaze("webhook", "--config", config, "--metrics-port", "0")
    assert (code, named in said) == (EXIT_USER, True), said


@pytest.fixture
def held() -> Iterator[str]:
    """Have another program listen on a port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield str(listening.getsockname()[1])


def test_a_port_of_another_program_is_one_line(cxrgaze: Callable[..., Ended], held: str) -> None:
    write("retrain.yaml", {})
    webhook = write("webhook.yaml", {"config": "retrain.yaml"})
    for command in (
        ["serve", "--registry", "registry", "--port", held],
        ["serve", "--registry", "registry", "--port", str(free_port()), "--metrics-port", held],
        ["webhook", "--config", webhook, "--port", held],
        [*SCORE, "--model", "cxrgaze@v1", "--metrics-port", held],
        ["demo", "--loop", "--dir", "demo", "--port", held],
    ):
        code, said = cxrgaze(*command)
        assert (code, said.count("\n"), held in said) == (EXIT_USER, 1, True), said


def test_http_for_others_without_a_token_is_said_before_ray_starts(cxrgaze: Callable[..., Ended]) -> None:
    config = write("serve.yaml", {"http_options": {"host": "0.0.0.0"}})
    code, said = cxrgaze(*SERVE, "--config", config)
    assert (code, "CXRGAZE_TOKEN" in said) == (EXIT_USER, True)


@pytest.mark.parametrize(
    ("job", "wrong", "named"),
    [
        ("train", {"store": "stroe", "registry": "registry"}, "stroe"),
        ("train", {"store": "store", "registry": "registry", "name": "My Model"}, "name"),
        ("train", {"store": "store", "registry": "store/store.json/new"}, "store.json is a file"),
        ("ingest", {"archive": "archvie", "out": "new"}, "archvie"),
        ("ingest", {"archive": "archive", "out": "store/store.json/new"}, "store.json is a file"),
        ("score", SCORING, "chapmion"),
        ("retrain", {"registry": "registry", "policy": "polciy.yaml"}, "polciy.yaml"),
    ],
)
def test_jobs_look_first_too(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    job: str,
    wrong: dict[str, object],
    named: str,
) -> None:
    from cxrgaze_ray.cli import job as jobs

    monkeypatch.setattr(jobs, "set_ray_environment", lambda: None)
    monkeypatch.setattr(jobs, "leaves_at_once", nullcontext)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3]))
    module = __import__(f"jobs.{job}", fromlist=["work"])
    settings = {"train": "TrainJob", "ingest": "IngestJob", "score": "ScoreJob", "retrain": "RetrainJob"}[job]
    monkeypatch.setattr(sys, "argv", [job, "--config", write("job.yaml", wrong)])
    with pytest.raises(SystemExit) as left:
        jobs.run_job(getattr(module, settings), module.work)
    assert left.value.code == EXIT_USER
    assert named in json.loads(capfd.readouterr().out)["message"]
