"""What an earlier version left on disk is read, audited and named as it was: see `tests/artefacts`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cxrgaze_ray.models.bundle import read_bundle
from cxrgaze_ray.models.predictor import Predictor
from cxrgaze_ray.radiograph.preprocess import prepare, profile_names, profile_sha256
from cxrgaze_ray.radiograph.reading import read_radiograph
from cxrgaze_ray.registry.audit import verify_registry
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.schemas import CLASSES
from cxrgaze_ray.scoring.runs import make_run_id
from cxrgaze_ray.scoring.runs.run import Run
from cxrgaze_ray.shards import ShardStore
from cxrgaze_ray.shards.plan import Plan
from cxrgaze_ray.storage import LocalStore, open_store
from cxrgaze_ray.training.checkpoint import load_optimiser_state, load_rng_states, read_checkpoint
from cxrgaze_ray.training.settings import TrainSettings

ARTEFACTS = Path(__file__).parents[1] / "artefacts"
EXPECTED = json.loads((ARTEFACTS / "expected.json").read_text())
NAMES = {"p0": "chest-0.png", "p1": "chest-1.png", "p2": "chest-2.png", "p3": "chest-3.png", "p4": "chest-4.dcm"}
RUN = LocalStore(str(ARTEFACTS / "runs" / EXPECTED["run_id"]))


def test_names_that_are_hashes_are_the_same() -> None:
    assert {name: profile_sha256(name) for name in profile_names()} == EXPECTED["profiles"]
    assert TrainSettings.for_preset("tiny").run_name("s" * 64, None) == EXPECTED["train_run_name"]
    spec = Run.open(RUN).spec
    made = make_run_id(
        spec.manifest_sha256,
        spec.model,
        profile_sha256(spec.profile),
        spec.engine,
        spec.request.options,
        spec.identities,
    )
    assert made == spec.run_id == EXPECTED["run_id"]


def test_a_stopped_run_is_open_where_it_stopped() -> None:
    run = Run.open(RUN)
    assert run.pending_shards() == [1]
    assert (run.plan().num_rows, run.success()) == (EXPECTED["row_count"], None)
    rows = {row["position"]: row for row in run.read_shard(0).to_pylist()}
    for wanted in (row for row in EXPECTED["rows"] if row["shard"] == 0):
        found = rows[wanted["position"]]
        assert {name: found[name] for name in wanted if name in found} == {
            name: value for name, value in wanted.items() if name in found
        }


def test_a_published_bundle_answers_as_it_did() -> None:
    bundle = read_bundle(open_store(str(ARTEFACTS / "registry" / "cxrgaze" / "versions" / "v0001")))
    predictor = Predictor.from_bundle(bundle)
    for wanted in (row for row in EXPECTED["rows"] if row["status"] == "scored"):
        name = NAMES[wanted["subject_id"]]
        image = prepare(read_radiograph((ARTEFACTS / "archive" / name).read_bytes()), bundle.info.profile)
        answered = predictor.predict(image.pixels[None])
        assert answered.probabilities_BK is not None
        chances = [wanted[f"p_{one}"] for one in CLASSES]
        assert answered.probabilities_BK[0].tolist() == pytest.approx(chances, abs=1e-5)


def test_a_ledger_is_sound_and_its_champion_stands() -> None:
    registry = Registry(LocalStore(str(ARTEFACTS / "registry")))
    assert registry.resolve("cxrgaze@champion").version == "v0001"
    chain = registry.ledger("cxrgaze").read()
    assert [entry.action for entry in chain.entries] == ["publish", "promote", "publish", "look"]
    assert list(verify_registry(registry, "cxrgaze")) == []


def test_a_store_has_its_name_and_its_plan() -> None:
    store = LocalStore(str(ARTEFACTS / "store"))
    assert ShardStore.open(store.uri).info.sha256() == EXPECTED["store_sha256"]
    assert Plan(store).read(0).num_rows > 0


def test_a_checkpoint_goes_on_from_where_it_was() -> None:
    checkpoint = read_checkpoint(ARTEFACTS / "checkpoint")
    assert (checkpoint.standing.stage, checkpoint.standing.epoch, checkpoint.standing.best_loss) == (1, 2, 0.5)
    assert checkpoint.model["weight"].shape == (2, 3)
    optimiser = torch.optim.Adam(torch.nn.Linear(3, 2).parameters())
    load_optimiser_state(optimiser, checkpoint.optimiser)
    assert optimiser.state_dict()["state"][0]["step"] == 1
    with torch.random.fork_rng():
        load_rng_states(checkpoint.rng, torch.device("cpu"))
