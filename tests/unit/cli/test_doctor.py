"""The doctor says what works, and reports what does not instead of failing on it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cxrgaze_ray.cli import app
from cxrgaze_ray.cli.doctor import Check, examine
from cxrgaze_ray.errors import StoreUnavailable, UserError
from cxrgaze_ray.models.bundle import make_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.storage import LocalStore


def findings(registry: Path | str) -> dict[str, Check]:
    return {finding.subject: finding for finding in examine(str(registry))}


@dataclass(frozen=True)
class Visit:
    """What the command answered."""

    code: int
    found: dict[str, dict[str, Any]]


def visit(registry: Path | str, *options: str) -> Visit:
    result = CliRunner().invoke(app, ["doctor", "--registry", str(registry), "--json", *options])
    return Visit(result.exit_code, json.loads(result.stdout))


def test_a_sound_installation_ends_with_0(tmp_path: Path) -> None:
    visited = visit(tmp_path)
    assert visited.code == 0
    assert [name for name, finding in visited.found.items() if finding["needed"] and not finding["sound"]] == []
    assert {"python", "device", "decode JPEG 2000", "ray", "registry store", "registry"} <= set(visited.found)


def test_a_table_is_printed_for_people(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--registry", str(tmp_path)])
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["ok", "python"] in [line[:2] for line in lines]
    assert ["--", "registry", "no", "model", "yet"] in lines


def test_the_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"-")
    finding = findings(tmp_path)["registry store"]
    assert finding.sound
    assert re.fullmatch(r"conditional put works; put [\d.]+ ms, get [\d.]+ ms", finding.detail.split(", ", 1)[1])
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_the_probe_leaves_no_folder_behind(tmp_path: Path) -> None:
    assert findings(tmp_path / "not" / "yet")["registry store"].sound
    assert list(tmp_path.iterdir()) == []


def test_other_stores_are_probed_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"-")
    one, other = str(tmp_path / "one"), str(tmp_path / "file" / "below")
    visited = visit(tmp_path / "registry", "--probe", one, "--probe", other)
    assert visited.code == 4
    assert visited.found[f"store {one}"]["sound"]
    assert not visited.found[f"store {other}"]["sound"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_options_of_s3_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.pem").write_text("-")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("CXRGAZE_S3_RETRY_S", "7")
    monkeypatch.setenv("CXRGAZE_S3_ADDRESSING", "path")
    monkeypatch.setenv("CXRGAZE_S3_REQUESTER_PAYS", "1")
    monkeypatch.setenv("CXRGAZE_S3_CA_BUNDLE", str(tmp_path / "ca.pem"))
    told = "http://127.0.0.1:9, retries for 7 s, addressing path, checksums when_required, CA {}, requester pays"
    assert findings(tmp_path)["s3"].detail == told.format(tmp_path / "ca.pem")


def test_a_wrong_option_of_s3_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRGAZE_S3_ADDRESSING", "dns")
    visited = visit(tmp_path)
    assert visited.code == 4
    assert "CXRGAZE_S3_ADDRESSING" in visited.found["s3"]["detail"]


def test_a_store_that_refuses_conditions_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: LocalStore, key: str, data: bytes) -> bool:
        raise StoreUnavailable("The store refuses conditional puts (NotImplemented).")

    monkeypatch.setattr(LocalStore, "put_if_absent", refuse)
    visited = visit(tmp_path)
    assert visited.code == 4
    assert "conditional put is refused: " in visited.found["registry store"]["detail"]
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_ignores_conditions_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ignore(self: LocalStore, key: str, data: bytes) -> bool:
        self.put(key, data)
        return True

    monkeypatch.setattr(LocalStore, "put_if_absent", ignore)
    visited = visit(tmp_path)
    assert visited.code == 4
    assert not visited.found["registry store"]["sound"]
    assert "IGNORED" in visited.found["registry store"]["detail"]
    assert list(tmp_path.iterdir()) == []


def test_models_and_their_aliases_are_named(tmp_path: Path) -> None:
    registry = Registry(LocalStore(str(tmp_path)))
    for name in ("one", "two"):
        registry.publish(make_bundle(build(PRESETS["tiny"], 0), name, trained=False))
    registry.promote("one", "v1")
    finding = findings(tmp_path)["registry"]
    assert (finding.sound, finding.detail) == (True, "one (champion), two (no alias)")


def test_a_registry_without_models_is_no_fault(tmp_path: Path) -> None:
    finding = findings(tmp_path)["registry"]
    assert (finding.sound, finding.needed, finding.detail) == (False, False, "no model yet")


def test_a_broken_ledger_is_reported(tmp_path: Path) -> None:
    LocalStore(str(tmp_path)).put("net/ledger/00000000.json", b"{}")
    visited = visit(tmp_path)
    assert visited.code == 0
    assert "ledger of net is broken" in visited.found["registry"]["detail"]


def test_an_endpoint_that_does_not_answer_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    visited = visit("s3://bucket/registry")
    assert visited.code == 4
    for subject in ("registry store", "registry"):
        assert not visited.found[subject]["sound"]
        assert "not reachable" in visited.found[subject]["detail"]
    assert visited.found["decode JPEG 2000"]["sound"]


def test_a_file_in_place_of_a_registry_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"-")
    finding = findings(tmp_path / "file")["registry store"]
    assert (finding.sound, finding.needed) == (False, True)


def test_a_registry_of_another_scheme_is_the_users_error() -> None:
    with pytest.raises(UserError, match="gs://"):
        examine("gs://bucket/registry")


@pytest.mark.parametrize(("module", "subject"), [("openjpeg", "decode JPEG 2000"), ("imagecodecs", "decode JPEG-LS")])
def test_a_missing_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, subject: str) -> None:
    monkeypatch.setattr(
        "cxrgaze_ray.radiograph.pixel_data.codecs.find_spec", lambda wanted: None if wanted == module else wanted
    )
    visited = visit(tmp_path)
    assert visited.code == 4
    assert not visited.found[subject]["sound"]
    assert "not installed" in visited.found[subject]["detail"]
    assert visited.found["decode JPEG baseline"]["sound"]


@pytest.mark.parametrize("cached", [True, False])
def test_cached_weights_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    name = "densenet201-c1103571.pth" if cached else "other.pth"
    LocalStore(str(tmp_path / "torch")).put(f"hub/checkpoints/{name}", b"-")
    finding = findings(tmp_path)["ImageNet weights"]
    assert (finding.sound, finding.needed) == (cached, False)
    assert "--backbone-weights" in finding.detail or cached
