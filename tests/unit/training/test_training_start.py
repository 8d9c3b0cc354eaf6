"""What a training starts from is written once, and read by whoever goes on with it; what stops it is told once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torchvision.models import DenseNet

from cxrgaze_ray.errors import ConfigError, RunConflict, StoreUnavailable, TrainingDiverged, UserError
from cxrgaze_ray.models import network
from cxrgaze_ray.models.bundle import Bundle, Lineage, make_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.predictor import with_golden
from cxrgaze_ray.models.pretrained import BackboneReport
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import ShardStore
from cxrgaze_ray.storage import LocalStore, Store
from cxrgaze_ray.storage.lease import Lease
from cxrgaze_ray.training import run, worker
from cxrgaze_ray.training.checkpoint import Checkpoint, Standing, rng_states, snapshot
from cxrgaze_ray.training.initial import INITIAL, read_initial
from cxrgaze_ray.training.kept import KeptCheckpoints
from cxrgaze_ray.training.settings import TrainSettings
from tests.labelled_store import write_store

SETTINGS = TrainSettings.for_preset("tiny", ["encoder"])
SIZES = {"train": 3, "validation": 3, "test": 1}


class Killed(BaseException):
    """Stands for a kill."""


End = Callable[[KeptCheckpoints], Any]


@dataclass
class Ended:
    """A run as Ray Train hands it back."""

    return_value: Any = None


class Trainer:
    """Stands for Ray Train, and ends as it is told."""

    def __init__(self, end: Callable[[], Any]) -> None:
        self.fit = end


def ended(kept: KeptCheckpoints) -> Ended:
    """Train to the end."""
    state = snapshot(build(PRESETS["tiny"], seed=9))
    kept.finish(Checkpoint(Standing(1), state, state, {}, rng_states(torch.device("cpu"))))
    return Ended()


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Return an empty registry; nothing here needs Ray."""
    monkeypatch.setattr(run, "told", lambda *_: nullcontext())
    return Registry(LocalStore(str(tmp_path / "registry")))


@pytest.fixture
def store(tmp_path: Path) -> ShardStore:
    return write_store(tmp_path / "store", SIZES)


def training(monkeypatch: pytest.MonkeyPatch, end: End, source: str = "fresh") -> None:
    """Make trainings end so, and DenseNet's first weights come from there."""

    def load_backbone(densenet: DenseNet, _file: str | None = None, **_: bool) -> BackboneReport:
        if source == "imagenet":
            torch.nn.init.ones_(densenet.features.conv0.weight)
            return BackboneReport("imagenet")
        return BackboneReport("fresh", "There is no way to the weights.")

    def make_trainer(_store: object, _config: object, work: Store, run_name: str, *_: object) -> Trainer:
        return Trainer(lambda: end(KeptCheckpoints(work, run_name)))

    monkeypatch.setattr(run, "make_trainer", make_trainer)
    monkeypatch.setattr(network, "load_backbone", load_backbone)


def killed(_kept: KeptCheckpoints) -> Ended:
    raise Killed


def test_lineage_is_what_was_written_when_a_killed_training_began(
    monkeypatch: pytest.MonkeyPatch, registry: Registry, store: ShardStore
) -> None:
    training(monkeypatch, killed, "fresh")
    monkeypatch.setattr(run, "Lineage", lambda **values: Lineage(**values, code_version="0.0.1"))
    warnings: list[str] = []
    with pytest.raises(Killed):
        run.run_stages(store, SETTINGS, registry, say=warnings.append)
    assert "no way to the weights" in warnings[0]
    (begun,) = [entry.key for entry in registry.store.list("cxrgaze/training/") if entry.key.endswith(INITIAL)]
    before = registry.store.get(begun)

    training(monkeypatch, ended, "imagenet")  # the line is back
    monkeypatch.setattr(run, "Lineage", Lineage)
    lineage = run.run_stages(store, SETTINGS, registry).info.lineage
    assert (lineage.backbone, lineage.code_version) == ("fresh", "0.0.1")
    assert (lineage.store_sha256, lineage.stores) == (store.info.sha256(), store.parts)
    assert lineage.settings == SETTINGS.model_dump(mode="json")
    assert registry.store.get(begun) == before


@pytest.mark.parametrize("source", ["fresh", "imagenet"])
def test_lineage_says_where_the_first_weights_are_from(
    monkeypatch: pytest.MonkeyPatch, registry: Registry, store: ShardStore, source: str
) -> None:
    training(monkeypatch, ended, source)
    assert run.run_stages(store, SETTINGS, registry).info.lineage.backbone == source
    chosen = SETTINGS.model_copy(update={"backbone": "fresh"})
    assert run.run_stages(store, chosen, registry, name="other").info.lineage.backbone == "fresh"


def test_a_training_begun_by_an_earlier_version_goes_on_and_its_backbone_is_not_guessed(
    monkeypatch: pytest.MonkeyPatch, registry: Registry, store: ShardStore
) -> None:
    first = snapshot(build(PRESETS["tiny"], seed=4))
    place = registry.store.child(f"cxrgaze/training/{SETTINGS.run_name(store.info.sha256(), None)}")
    place.put(INITIAL, save(first))
    training(monkeypatch, ended, "imagenet")
    lineage = run.run_stages(store, SETTINGS, registry).info.lineage
    assert lineage.backbone is None
    assert lineage.store_sha256 == store.info.sha256()
    assert all(torch.equal(tensor, first[name]) for name, tensor in load(place.get(INITIAL)).items())


@pytest.mark.parametrize("damage", ["short", "cut", "changed"])
def test_damaged_first_weights_are_told_with_their_place(
    monkeypatch: pytest.MonkeyPatch, registry: Registry, store: ShardStore, damage: str
) -> None:
    training(monkeypatch, killed, "fresh")
    with pytest.raises(Killed):
        run.run_stages(store, SETTINGS, registry)
    (begun,) = [entry.key for entry in registry.store.list("cxrgaze/training/") if entry.key.endswith(INITIAL)]
    whole = registry.store.get(begun)
    bad = {"short": whole[:100], "cut": whole[:-9], "changed": whole[:-1] + bytes([whole[-1] ^ 1])}
    registry.store.put(begun, bad[damage])
    with pytest.raises(RunConflict, match=f"damaged: .*{begun}"):
        read_initial(registry.store.locate(begun))
    if damage == "short":  # the command reads the beginning, the workers all of it
        with pytest.raises(RunConflict, match="damaged"):
            run.run_stages(store, SETTINGS, registry)


def test_a_second_command_at_the_same_training_is_told(
    monkeypatch: pytest.MonkeyPatch, registry: Registry, store: ShardStore
) -> None:
    training(monkeypatch, ended)
    place = registry.store.child(f"cxrgaze/training/{SETTINGS.run_name(store.info.sha256(), None)}")
    said: list[str] = []
    with Lease(place), pytest.raises(RunConflict, match="Another driver is working on this training"):
        run.run_stages(store, SETTINGS, registry, say=said.append)
    assert "Watching for 10 s if another command is at this training." in said
    run.run_stages(store, SETTINGS, registry)


def test_the_parent_is_named_by_its_version(
    monkeypatch: pytest.MonkeyPatch, registry: Registry, store: ShardStore
) -> None:
    parent = make_bundle(build(PRESETS["tiny"], 6), "cxrgaze", trained=True)
    registry.publish(parent)
    registry.promote("cxrgaze", "v1", reason="first")
    training(monkeypatch, ended)
    lineage = run.run_stages(store, SETTINGS, registry, parent="cxrgaze@champion").info.lineage
    assert (lineage.parent, lineage.backbone) == ("cxrgaze@v0001", None)
    (begun,) = [entry.key for entry in registry.store.list("cxrgaze/training/") if entry.key.endswith(INITIAL)]
    assert all(torch.equal(tensor, parent.state[name]) for name, tensor in load(registry.store.get(begun)).items())


@pytest.mark.parametrize(
    ("trained", "lineage", "before"),
    [
        (True, Lineage(settings={"stages": {"encoder": {}}}), ("encoder",)),
        (
            True,
            Lineage(parent="a@v0001", parent_phases=("contrastive",), settings={"stages": {"encoder": {}}}),
            ("contrastive", "encoder"),
        ),
        (True, Lineage(parent="a@v0001", settings={"stages": {"encoder": {}}}), None),
        (True, Lineage(imported_format="cxrgazelearn"), None),
        (False, Lineage(), ()),
    ],
)
def test_the_phases_of_the_parents_are_recorded(
    monkeypatch: pytest.MonkeyPatch,
    registry: Registry,
    store: ShardStore,
    trained: bool,
    lineage: Lineage,
    before: tuple[str, ...] | None,
) -> None:
    registry.publish(make_bundle(build(PRESETS["tiny"], 6), "cxrgaze", trained=trained, lineage=lineage))
    training(monkeypatch, ended)
    said: list[str] = []
    found = run.run_stages(store, SETTINGS, registry, parent="cxrgaze@v0001", say=said.append).info.lineage
    assert found.parent_phases == before
    left = [note for note in said if note.startswith("The classifier learns in no phase")]
    assert len(left) == (before is not None), "a parent of unrecorded phases is taken to have had all"
    assert found.phases == (None if before is None else (*before, *SETTINGS.stages))


def test_two_beginnings_of_one_training_are_refused(registry: Registry, store: ShardStore) -> None:
    with pytest.raises(ConfigError, match="a parent or from backbone weights"):
        run.run_stages(store, SETTINGS, registry, parent="cxrgaze@champion", backbone_weights="file.safetensors")


def test_a_user_s_error_ends_the_training_instead_of_being_tried_again(
    monkeypatch: pytest.MonkeyPatch, registry: Registry, store: ShardStore
) -> None:
    """Ray Train starts again what raises, twice, and would go through a training that ends there every time."""
    found: list[UserError] = [TrainingDiverged("The training was stopped.", "Lower it.")]

    def walk(_config: dict[str, Any]) -> None:
        raise found[0]

    monkeypatch.setattr(worker, "_walk_stages", walk)
    returned = worker.train_loop_per_worker({})
    assert returned is found[0]
    training(monkeypatch, lambda _: Ended(returned))
    with pytest.raises(TrainingDiverged, match="The training was stopped"):
        run.run_stages(store, SETTINGS, registry)
    assert registry.models() == ()


def test_a_fault_of_the_environment_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def walk(_config: dict[str, Any]) -> None:
        raise StoreUnavailable("The store is away.")

    monkeypatch.setattr(worker, "_walk_stages", walk)
    with pytest.raises(StoreUnavailable):
        worker.train_loop_per_worker({})


def test_a_network_whose_golden_answers_overflow_is_no_bundle() -> None:
    state = snapshot(build(PRESETS["tiny"], seed=9))
    state["classifier.hidden.bias"].fill_(1e30)
    state["classifier.out.weight"].fill_(1e30)
    whole = make_bundle(build(PRESETS["tiny"], seed=9), "cxrgaze", trained=True)
    with pytest.raises(UserError, match="not finite"):
        with_golden(Bundle(whole.info, state))
