"""Fixtures of every test: a clean environment, and a real S3 server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from hypothesis import settings

from cxrgaze_ray.cluster.ports import free_ports
from cxrgaze_ray.storage.s3_client import forget_clients
from tests.fault_proxy import FaultProxy

pytest.register_assert_rewrite("tests.store_contract")

_CACHE = "CXRGAZE_CACHE"
_PREFIXES = ("AWS_", "CXRGAZE_", "RAY_ADDRESS")
_START_S = 60.0
_S3_PARTS = ("s3", "master", "volume", "filer", "admin")


def pytest_configure(config: pytest.Config) -> None:
    """Answer signals as a fresh process does (`nohup` and a shell's `&` ignore some); set Hypothesis no deadline."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    settings.register_profile("untimed", deadline=None)  # no test fails because a machine is busy
    settings.load_profile("untimed")
    if _CACHE not in os.environ:  # converted models are shared by all workers, and leave the user's own alone
        folder = TemporaryDirectory(prefix="cxrgaze-tests-")
        config.add_cleanup(folder.cleanup)
        os.environ[_CACHE] = folder.name


class S3Server:
    """A SeaweedFS on a folder, with one bucket, ``test``; stopped and started again it has the same ports and data.

    Attributes
    ----------
    endpoint, access_key, secret_key
        Where the server answers, and whom it lets in.
    """

    access_key = "test-access-key"
    secret_key = "test-secret-key"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = free_ports(2 * len(_S3_PARTS))
        self.endpoint = f"http://127.0.0.1:{self._ports[0]}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until the bucket is there."""
        log = self._folder / "log.txt"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self._folder,
                env=self._environment(),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            _wait(self._process, self, log)
        except RuntimeError:
            self.stop()
            raise

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End its processes by a signal; nothing happens if it is not running."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            os.killpg(process.pid, number)
            process.wait(60)

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    def _command(self) -> list[str]:
        folder, ports, grpc = self._folder, self._ports, self._ports[len(_S3_PARTS) :]
        return [
            str(Path(sys.executable).parent / "weed"), "mini",
            f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=test", "-admin.ui=false", "-webdav=false",
            "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-admin.dataDir={folder}/admin",
            "-s3.domainName=localhost",
            f"-filer.localSocket={folder}/filer.sock", f"-s3.localSocket={folder}/s3.sock",
            *[f"-{name}.port={port}" for name, port in zip(_S3_PARTS, ports, strict=False)],
            *[f"-{name}.port.grpc={port}" for name, port in zip(_S3_PARTS, grpc, strict=True)],
        ]  # fmt: skip


def clear_clients() -> None:
    """Forget the S3 clients that hold the environment of another test."""
    forget_clients()


@pytest.fixture(scope="session", autouse=True)
def own_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the pseudonym key of the tests apart from the user's; the whole session has one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))  # nor is a cluster that is up here theirs
        yield


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide the user's own endpoint, credentials, settings and cluster."""
    for name in [name for name in os.environ if name.startswith(_PREFIXES) and name != _CACHE]:
        monkeypatch.delenv(name)
    nothing = str(tmp_path_factory.getbasetemp() / "no-such-file")
    monkeypatch.setenv("AWS_CONFIG_FILE", nothing)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", nothing)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    clear_clients()
    yield
    clear_clients()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Start the session's server; a test that stops one makes its own `S3Server`."""
    with S3Server(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


def _wait(process: subprocess.Popen[bytes], server: S3Server, log: Path) -> None:
    """Wait until the bucket can be listed."""
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=2),
    )
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            client.list_objects_v2(Bucket="test", MaxKeys=1)
            return
        except (ClientError, BotoCoreError):
            time.sleep(0.1)
    raise RuntimeError(f"SeaweedFS did not start:\n{log.read_text(errors='replace')[-2000:]}")


def s3_environment(server: S3Server, endpoint: str | None = None) -> dict[str, str]:
    """Return what a process needs to use the server, straight or through a proxy's endpoint."""
    return {
        "AWS_ENDPOINT_URL": endpoint or server.endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
    }


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a fresh ``s3://`` prefix; the environment holds what is needed to use it."""
    for name, value in s3_environment(s3_server).items():
        monkeypatch.setenv(name, value)
    clear_clients()
    return f"s3://test/{uuid.uuid4().hex}"


@pytest.fixture
def fault_proxy(s3_server: S3Server, s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Stand between this test and the S3 server; faults are added to it. Use it before `s3` is contacted."""
    with FaultProxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        clear_clients()
        yield proxy
    clear_clients()
