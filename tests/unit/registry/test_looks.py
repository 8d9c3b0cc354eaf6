"""A look at a locked test split is counted, whatever name the model is given."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cxrgaze_ray.cli import app
from cxrgaze_ray.errors import RegistryError
from cxrgaze_ray.evaluation.evaluate import evaluate as evaluate_table
from cxrgaze_ray.evaluation.table import EvaluationTableBuilder
from cxrgaze_ray.models.bundle import Bundle, make_bundle, write_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.looks import enter_look
from cxrgaze_ray.registry.versions import Registry, pin_bundle
from cxrgaze_ray.storage import LocalStore
from tests.labelled_store import write_store

NAME = "net"


@pytest.fixture(autouse=True)
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the model's answers out: what is shown to it is counted before it answers."""
    nothing = evaluate_table(EvaluationTableBuilder().build())
    monkeypatch.setattr("cxrgaze_ray.evaluation.evaluate.evaluate_bundle", lambda *_, **__: nothing)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return make_bundle(build(PRESETS["tiny"], 1), NAME, trained=True)


@pytest.fixture
def registry(tmp_path: Path, bundle: Bundle) -> Registry:
    opened = Registry(LocalStore(str(tmp_path / "registry")))
    opened.promote(NAME, opened.publish(bundle).version)
    return opened


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Return the hash of a store beside the registry."""
    (sha256,) = write_store(tmp_path / "store", {"train": 1, "validation": 1, "test": 2}).parts
    return sha256


def evaluate(tmp_path: Path, model: str, registry: str = "registry", *options: str) -> Result:
    arguments = ["evaluate", str(tmp_path / "store"), "--model", model, "--registry", str(tmp_path / registry)]
    result = CliRunner().invoke(app, [*arguments, *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def looks(registry: Registry, name: str = NAME) -> list[tuple[str | None, tuple[str, ...]]]:
    return [(entry.version, entry.stores) for entry in registry.history(name) if entry.action == "look"]


@pytest.mark.parametrize("reference", ["alias", "version", "uri", "copy", "uri of a registry not named"])
def test_a_look_is_a_look_whatever_the_model_is_called(
    tmp_path: Path, registry: Registry, store: str, reference: str
) -> None:
    uri = f"{registry.store.uri}/{NAME}/versions/v0001"
    shutil.copytree(uri, tmp_path / "a copy")
    model = {"alias": f"{NAME}@champion", "version": f"{NAME}@v1", "copy": str(tmp_path / "a copy")}.get(reference, uri)
    evaluate(tmp_path, model, "elsewhere" if "not named" in reference else "registry")
    assert looks(registry) == [("v0001", (store,))]
    evaluate(tmp_path, f"{NAME}@v1")
    assert registry.looks(NAME, [store]) == len(looks(registry)) == 1, "the same again shows nothing new"
    assert not (tmp_path / "elsewhere").exists()


def test_other_splits_are_no_looks(tmp_path: Path, registry: Registry, store: str) -> None:
    evaluate(tmp_path, f"{NAME}@v1", "registry", "--split", "validation")
    assert looks(registry) == []


def test_weights_count_under_every_name_they_were_published_as(
    registry: Registry, bundle: Bundle, store: str, tmp_path: Path
) -> None:
    for name in ("other", "third"):
        weights = bundle if name == "other" else make_bundle(build(PRESETS["tiny"], 2), name, trained=True)
        registry.publish(Bundle(weights.info.model_copy(update={"name": name}), weights.state))
    registry.publish(bundle)
    assert enter_look(registry, registry.resolve(f"{NAME}@v2"), [store], "a test") == (NAME, "other")
    assert (looks(registry), looks(registry, "other")) == ([("v0002", (store,))], [("v0001", (store,))])
    assert looks(registry, "third") == []


@pytest.mark.parametrize("place", ["elsewhere", f"registry/{NAME}/retraining/0123456789abcdef/candidate"])
def test_weights_that_were_never_published_count_under_their_models_name(
    registry: Registry, store: str, tmp_path: Path, place: str
) -> None:
    write_bundle(LocalStore(str(tmp_path / place)), make_bundle(build(PRESETS["tiny"], 2), NAME, trained=True))
    evaluate(tmp_path, str(tmp_path / place))
    assert looks(registry) == [(None, (store,))]


def test_a_look_that_no_registry_can_count_is_told(tmp_path: Path, bundle: Bundle, store: str) -> None:
    write_bundle(LocalStore(str(tmp_path / "bundle")), bundle)
    pin = pin_bundle(str(tmp_path / "bundle"))
    assert enter_look(Registry(LocalStore(str(tmp_path / "none"))), pin, [store], "a test") == ()
    assert not (tmp_path / "none").exists()


def test_a_broken_ledger_lets_nobody_look(tmp_path: Path, registry: Registry, store: str) -> None:
    registry.store.put(f"{NAME}/ledger/00000000.json", b"{}")
    with pytest.raises(RegistryError, match="broken at entry 0"):
        evaluate(tmp_path, f"{registry.store.uri}/{NAME}/versions/v0001")
