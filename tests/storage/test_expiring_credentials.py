"""Temporary credentials are renewed where Arrow and Ray use them, as they are in our own requests."""

from __future__ import annotations

import json
import pickle
import shlex
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from cxrgaze_ray.errors import StoreDenied
from cxrgaze_ray.shards.plan import write_plan
from cxrgaze_ray.storage import Store, open_store
from cxrgaze_ray.storage.s3_client import forget_clients
from tests.conftest import S3Server


class Role:
    """Credentials from a process, as a role gives them: with an end so near that every use asks for new ones."""

    def __init__(self, folder: Path, server: S3Server) -> None:
        self._file, self._server = folder / "credentials.json", server
        print_it = f"import pathlib; print(pathlib.Path({str(self._file)!r}).read_text())"
        config = folder / "config"
        config.write_text(f"[default]\ncredential_process = {shlex.join([sys.executable, '-c', print_it])}\n")
        self.config = str(config)

    def expire(self) -> None:
        """Give what the server does not accept."""
        self._write("an-access-key-that-expired", "its-secret-key")

    def renew(self) -> None:
        """Give what it accepts."""
        self._write(self._server.access_key, self._server.secret_key)

    def _write(self, key: str, secret: str) -> None:
        end = datetime.now(UTC) + timedelta(minutes=5)
        found = {"Version": 1, "AccessKeyId": key, "SecretAccessKey": secret, "Expiration": end.isoformat()}
        self._file.write_text(json.dumps(found))


@pytest.fixture
def role(s3: str, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Role:
    role = Role(tmp_path, s3_server)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", role.config)
    monkeypatch.setenv("CXRGAZE_S3_RETRY_S", "0")
    role.renew()
    forget_clients()
    return role


@pytest.fixture
def store(role: Role, s3: str) -> Store:
    store = open_store(s3)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": [1, 2]}), sink)
    store.put("table.parquet", sink.getvalue().to_pybytes())
    return store


def read(filesystem: pafs.FileSystem, root: str) -> object:
    return pq.read_table(f"{root}/table.parquet", filesystem=filesystem)["x"].to_pylist()


def test_a_filesystem_lives_longer_than_the_credentials_it_began_with(store: Store, role: Role) -> None:
    filesystem, root = store.filesystem()
    role.expire()
    with pytest.raises(OSError, match=r"ACCESS_DENIED|InvalidAccessKeyId|403"):
        read(filesystem, root)
    role.renew()
    assert read(filesystem, root) == [1, 2]
    role.expire()
    with pytest.raises(OSError, match=r"ACCESS_DENIED|InvalidAccessKeyId|403"):
        read(filesystem, root)


def test_what_ray_sends_to_workers_holds_no_secret_and_works(store: Store, role: Role, s3_server: S3Server) -> None:
    filesystem, root = store.filesystem()
    assert read(filesystem, root) == [1, 2]
    sent = pickle.dumps(filesystem)
    assert s3_server.secret_key.encode() not in sent
    assert read(pickle.loads(sent), root) == [1, 2]  # noqa: S301
    assert pickle.loads(sent) == filesystem  # noqa: S301


def test_a_checkpoint_s_steps_work(store: Store, tmp_path: Path) -> None:
    filesystem, root = store.filesystem()
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "state").write_bytes(b"weights")
    filesystem.create_dir(f"{root}/ray/checkpoint")
    pafs.copy_files(str(tmp_path / "checkpoint"), f"{root}/ray/checkpoint", destination_filesystem=filesystem)
    found = filesystem.get_file_info(pafs.FileSelector(f"{root}/ray", recursive=True))
    assert [one.path for one in found if one.is_file] == [f"{root}/ray/checkpoint/state"]
    (tmp_path / "back").mkdir()
    pafs.copy_files(f"{root}/ray/checkpoint", str(tmp_path / "back"), source_filesystem=filesystem)
    assert (tmp_path / "back" / "state").read_bytes() == b"weights"
    filesystem.move(f"{root}/ray/checkpoint/state", f"{root}/ray/moved")
    with filesystem.open_input_stream(f"{root}/ray/moved") as file:
        assert file.read() == b"weights"
    filesystem.delete_dir(f"{root}/ray")
    assert [info.key for info in store.list()] == ["table.parquet"]


def test_an_ingest_plan_is_read_on_with_new_credentials(store: Store, role: Role) -> None:
    rows = pa.table({"source": ["a.png", "b.png"]})
    plan = write_plan(store, rows, Counter(), shard_rows=1)
    assert plan.read(0).num_rows == 1
    role.expire()
    with pytest.raises(StoreDenied):
        plan.read(1)
    role.renew()
    assert plan.read(1).num_rows == 1
