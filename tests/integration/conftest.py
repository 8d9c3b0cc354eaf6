"""One real Ray cluster for the session, and archives to work on."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ray import serve

from cxrgaze_ray.cluster.connection import (
    PROXY_MIDDLEWARES,
    PROXY_VARIABLE,
    Cluster,
    ClusterSettings,
    connect,
    set_ray_environment,
)
from cxrgaze_ray.cluster.ports import free_ports
from cxrgaze_ray.models.bundle import make_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.phantoms import GAZE_FOLDER, PhantomReport, make_archive
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.scoring.driver import Outcome, ScoreSettings, score_archive
from cxrgaze_ray.scoring.runs import Request
from cxrgaze_ray.serving import ServeFile, start_http, wait_ready
from cxrgaze_ray.shards import IngestSettings, ShardStore, SplitSettings, ingest
from cxrgaze_ray.storage import LocalStore, open_store
from tests.conftest import S3Server, clear_clients, s3_environment
from tests.fault_proxy import FaultProxy
from tests.integration.commands import Commands

set_ray_environment()

HEIGHT = (220, 300)
"""Phantoms this small are drawn and decoded in a moment."""

BREAKING = str(Path(__file__).parent / "breaking")
"""Folder for PYTHONPATH that makes decoding processes break on planted files."""

WORKERS_READ_S = 5
"""Silence of the S3 server that the cluster's processes put up with, in seconds; by default it is 20."""

WEBHOOK_TOKEN = "a-token-of-the-webhook"

LARGE = 300
"""Files of the archive that spans three shards."""


@pytest.fixture(scope="session")
def weather(s3_server: S3Server) -> Iterator[FaultProxy]:
    """Stand between the cluster and the S3 server: fair, until a test plants faults."""
    with FaultProxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def storm(weather: FaultProxy, s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FaultProxy, str]]:
    """Give the proxy that the cluster and this process go through, and a fresh prefix behind it; it heals after."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", weather.endpoint)
    clear_clients()
    weather.clear()
    yield weather, s3
    weather.clear()


@pytest.fixture(scope="session")
def cluster(s3_server: S3Server, weather: FaultProxy) -> Iterator[Cluster]:
    """Start Ray once; its workers know the S3 server, and who joins it by address inherits its token.

    Its decoding processes break on planted files: see `tests.integration.breaking.sitecustomize`.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_environment(s3_server, weather.endpoint).items():
            patch.setenv(name, value)
        patch.setenv("CXRGAZE_S3_READ_TIMEOUT_S", str(WORKERS_READ_S))
        patch.setenv("RAY_metrics_report_interval_ms", "1000")
        patch.setenv("CXRGAZE_WEBHOOK_TOKEN", WEBHOOK_TOKEN)
        patch.setenv(PROXY_VARIABLE, PROXY_MIDDLEWARES)  # Ray was imported before it could be told
        patch.setenv("PYTHONPATH", os.pathsep.join([BREAKING, *filter(None, [os.environ.get("PYTHONPATH")])]))
        with connect(ClusterSettings(num_cpus=5), quiet=False) as cluster:
            yield cluster


@pytest.fixture(scope="session")
def application(cluster: Cluster, published: str) -> Iterator[ServeFile]:
    """Host the published model over HTTP; batch jobs of the session use it too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    file = ServeFile().with_arguments(
        port=port, registry=published, engine="float32", follow_every_s=1, max_body_mib=8, decode_timeout_s=8
    )
    start_http(file)
    wait_ready(file)
    yield file
    serve.shutdown()  # type: ignore[no-untyped-call]


@contextmanager
def same_cluster() -> Iterator[Cluster]:
    """Stand for `connect` where the session's cluster is joined already."""
    yield Cluster("", private=False, logs=None)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, PhantomReport]:
    """Draw 36 phantoms, with one broken file of every kind."""
    folder = tmp_path_factory.mktemp("phantoms")
    report = make_archive(open_store(str(folder)), images=36, seed=11, faults=1, height=HEIGHT)
    return str(folder), report


@pytest.fixture(scope="session")
def store(
    cluster: Cluster, phantoms: tuple[str, PhantomReport], tmp_path_factory: pytest.TempPathFactory
) -> ShardStore:
    """Ingest the phantoms into a store that trainings of tests learn from."""
    out = str(tmp_path_factory.mktemp("training-store"))
    split = IngestSettings(split=SplitSettings(train=0.6, validation=0.2))
    return ingest(phantoms[0], f"{phantoms[0]}/{GAZE_FOLDER}", out, settings=split, workers=1)


@pytest.fixture(scope="session")
def large_archive(phantoms: tuple[str, PhantomReport], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Copy phantoms under other names into a plain folder: three shards of files."""
    folder = tmp_path_factory.mktemp("large")
    sources = sorted(path for path in Path(phantoms[0], "files").rglob("*") if path.is_file())
    for index in range(LARGE):
        source = sources[index % len(sources)]
        shutil.copyfile(source, folder / f"file-{index:04d}{source.suffix}")
    return str(folder)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a registry whose cxrgaze@champion is an untrained tiny network."""
    folder = tmp_path_factory.mktemp("registry")
    registry = Registry(LocalStore(str(folder)))
    pin = registry.publish(make_bundle(build(PRESETS["tiny"], 5), "cxrgaze", trained=False))
    registry.promote("cxrgaze", pin.version)
    return str(folder)


@pytest.fixture
def registry(published: str, tmp_path: Path) -> str:
    """Return a registry that a test may change."""
    copy = tmp_path / "registry"
    shutil.copytree(published, copy)
    return str(copy)


@pytest.fixture(scope="session")
def calm(
    application: ServeFile,
    phantoms: tuple[str, PhantomReport],
    published: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Outcome:
    """Score the phantoms undisturbed."""
    request = Request(archive=phantoms[0], model="cxrgaze@champion", engine="float32")
    out = str(tmp_path_factory.mktemp("calm"))
    return score_archive(request, out, published, same_cluster, settings=ScoreSettings(decoders=2))


@pytest.fixture(scope="session")
def whole(
    application: ServeFile, large_archive: str, published: str, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    """Score the large archive undisturbed."""
    request = Request(archive=large_archive, model="cxrgaze@champion", engine="float32")
    out = str(tmp_path_factory.mktemp("whole"))
    return score_archive(request, out, published, same_cluster, settings=ScoreSettings(decoders=2))


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Give a folder for TMPDIR that is short enough for Ray, and nobody else's."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def cxrgaze_of(scratch: Path, tmp_path: Path) -> Iterator[Callable[[str], Commands]]:
    """Give users their commands; what they left up is taken down."""
    users: list[Commands] = []

    def of(name: str) -> Commands:
        users.append(Commands(scratch, tmp_path / name, free_ports(3)))
        return users[-1]

    yield of
    for one in reversed(users):
        one("cluster", "down")
