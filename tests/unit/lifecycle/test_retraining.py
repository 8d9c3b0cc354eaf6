"""A retraining from decision to promotion: real networks, stores and ledger; training itself is stood in for.

Training runs on Ray: tests/integration/test_retraining.py does it for real.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from cxrgaze_ray.cli import app
from cxrgaze_ray.cluster import connection as cluster
from cxrgaze_ray.errors import BundleError, EnvironmentFault, RegistryError, RunConflict, UserError
from cxrgaze_ray.evaluation.gate import GateOutcome, GateSettings
from cxrgaze_ray.lifecycle.retraining import (
    Action,
    DecidePolicy,
    Hooks,
    NewData,
    Policy,
    Result,
    RetrainSettings,
    plan_retraining,
    run_retraining,
)
from cxrgaze_ray.lifecycle.retraining import run as steps
from cxrgaze_ray.lifecycle.retraining.assessment import training_settings
from cxrgaze_ray.lifecycle.retraining.workspace import make_id, retrainings
from cxrgaze_ray.models.bundle import Bundle, Golden, make_bundle, read_bundle, read_info
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.predictor import Predictor
from cxrgaze_ray.models.settings import NetworkConfig, architecture
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.mlflow_tracking import EXPERIMENT, import_quietly
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import IngestSettings, ShardStore, SplitSettings
from cxrgaze_ray.storage import LocalStore, open_store
from cxrgaze_ray.storage.lease import Lease
from tests.labelled_store import write_store
from tests.scrape import scrape

SIZES = {"train": 6, "validation": 3, "test": 9}
EASY = Policy(
    name="easy",
    decide=DecidePolicy(least_new_patients=0, least_train_patients=1, least_test_patients=1, least_days_between=0),
    gate=GateSettings(
        rounds=100, least_patients=6, auc_margin=0.5, ece_margin=0.5, cc_margin=0.5, centre_bias_margin=None,
        subgroup_patients=100, latency_ratio=50,
    ),
)  # fmt: skip
"""A policy under which a candidate that answers as the champion does is accepted with a dozen patients."""


def with_golden(bundle: Bundle) -> Bundle:
    golden = Golden(seed=1, logits=Predictor.from_bundle(bundle).golden(1).logits)
    return Bundle(bundle.info.model_copy(update={"golden": (golden,)}), bundle.state)


@pytest.fixture(scope="module")
def champion() -> Bundle:
    return with_golden(make_bundle(build(PRESETS["tiny"], 3), "cxrgaze", trained=True))


@pytest.fixture(scope="module")
def candidate(champion: Bundle) -> Bundle:
    """The champion, with all logits a little larger: hardly another model, but not the same weights."""
    state = {name: tensor.clone() for name, tensor in champion.state.items()}
    state["classifier.out.weight"] *= 1.01
    network = build(PRESETS["tiny"], 3)
    network.load_state_dict(state)
    return with_golden(make_bundle(network, "cxrgaze", trained=True))


@pytest.fixture
def registry(tmp_path: Path, champion: Bundle) -> Registry:
    opened = Registry(LocalStore(str(tmp_path / "registry")))
    pin = opened.publish(champion, "trained")
    opened.promote("cxrgaze", pin.version, reason="the first one")
    return opened


@pytest.fixture
def settings(tmp_path: Path, registry: Registry) -> RetrainSettings:
    write_store(tmp_path / "store", SIZES)
    return RetrainSettings(registry=registry.store.uri, stores=(str(tmp_path / "store"),), policy=EASY)


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the cores to the other test processes, and the stopwatch out: test_evidence.py has it."""
    monkeypatch.setattr("cxrgaze_ray.models.predictor.limit_threads", lambda _: None)
    monkeypatch.setattr("cxrgaze_ray.lifecycle.retraining.evidence.latency_ratio", lambda _champion, _candidate: 1.0)


@contextmanager
def no_cluster() -> Iterator[None]:
    yield


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, candidate: Bundle) -> list[str]:
    """Have training give the candidate, and note who was its parent."""
    parents: list[str] = []

    def train(*_: object, parent: str, **__: object) -> Bundle:
        parents.append(parent)
        return candidate

    monkeypatch.setattr(steps, "run_stages", train)
    return parents


def retrain(settings: RetrainSettings, **values: Any) -> Result:
    return run_retraining(settings.model_copy(update=values), "manual", no_cluster)


def actions(registry: Registry) -> list[tuple[str, str | None]]:
    return [(entry.action, entry.version) for entry in registry.history("cxrgaze")]


FIRST = [("publish", "v0001"), ("promote", "v0001")]
JUDGED = [*FIRST, ("look", None), ("publish", "v0002"), ("gate", "v0002")]


def test_an_accepted_candidate_waits_for_a_person(
    registry: Registry, settings: RetrainSettings, trained: list[str]
) -> None:
    result = retrain(settings)
    assert result.exit_code == 0
    assert result.gate is not None
    assert result.gate.outcome is GateOutcome.ACCEPTED, result.gate.criteria
    assert trained == ["cxrgaze@v0001"]
    assert actions(registry) == JUDGED
    assert registry.aliases("cxrgaze") == {"champion": "v0001"}
    assert result.conclusion is not None
    assert result.conclusion.why.endswith(
        f"To put it into service: cxrgaze models promote cxrgaze v0002 --registry {settings.registry}"
    )


def test_auto_promote_puts_it_into_service(registry: Registry, settings: RetrainSettings, trained: list[str]) -> None:
    result = retrain(settings, auto_promote=True)
    assert result.conclusion is not None
    assert result.conclusion.promoted
    assert actions(registry) == [*JUDGED, ("promote", "v0002")]
    last = registry.history("cxrgaze")[-1]
    assert result.conclusion.retraining_id in last.reason


def test_mlflow_is_told_the_verdict_and_what_it_rests_on(
    settings: RetrainSettings, trained: list[str], tmp_path: Path
) -> None:
    result = retrain(settings, tracking=str(tmp_path / "mlflow"))
    assert result.gate is not None
    client = import_quietly().MlflowClient(tracking_uri=str(tmp_path / "mlflow"))
    (run,) = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    assert run.data.tags["gate"] == "accepted"
    first = next(one for one in result.gate.criteria if one.candidate is not None and one.subgroup is None)
    assert run.data.metrics[f"candidate/{first.name}"] == first.candidate


def test_the_ledger_names_the_table_that_led_there(
    registry: Registry, settings: RetrainSettings, trained: list[str]
) -> None:
    result = retrain(settings)
    (gate,) = [entry for entry in registry.history("cxrgaze") if entry.action == "gate"]
    assert gate.outcome == "accepted"
    assert gate.evidence is not None
    stored = json.loads(registry.store.get(f"cxrgaze/{gate.evidence}"))
    assert result.gate is not None
    assert len(stored["criteria"]) == len(result.gate.criteria) >= 4
    page = registry.store.get(f"cxrgaze/{gate.evidence}".replace("gate.json", "page.html")).decode()
    assert "http" not in page.replace("http-equiv", "")
    assert result.gate.why in page


def test_the_published_bundle_carries_what_the_look_told(
    registry: Registry, settings: RetrainSettings, trained: list[str]
) -> None:
    retrain(settings)
    info = read_info(open_store(registry.resolve("cxrgaze@v2").uri))
    assert info.metrics["images"] == SIZES["test"]
    assert info.ledger_head in {registry.head("cxrgaze")} | {
        entry.previous_sha256 for entry in registry.history("cxrgaze")
    }


def test_a_worse_candidate_is_rejected_and_never_promoted(
    registry: Registry, settings: RetrainSettings, monkeypatch: pytest.MonkeyPatch, candidate: Bundle
) -> None:
    other = Bundle(
        candidate.info.model_copy(update={"golden": (Golden(seed=1, logits=(9.0, 9.0, 9.0)),)}), candidate.state
    )
    monkeypatch.setattr(steps, "run_stages", lambda *_, **__: other)
    result = retrain(settings, auto_promote=True)
    assert result.exit_code == 10
    assert registry.aliases("cxrgaze") == {"champion": "v0001"}
    (wrong,) = [one for one in result.gate.criteria if one.verdict == "fail"] if result.gate else []
    assert "golden" in wrong.name


def test_with_a_handful_of_patients_it_cannot_tell(
    registry: Registry, settings: RetrainSettings, trained: list[str]
) -> None:
    asked = {"least_patients": 50, "centre_bias_margin": 0.01}
    strict = EASY.model_copy(update={"gate": EASY.gate.model_copy(update=asked)})
    result = retrain(settings, policy=strict, auto_promote=True)
    assert result.exit_code == 11
    assert result.conclusion is not None
    assert result.conclusion.why.endswith(
        "Wait for more labels, or decide yourself: cxrgaze models promote cxrgaze v0002 "
        f"--registry {settings.registry} --reason WHY"
    )
    assert actions(registry) == JUDGED
    assert result.gate is not None
    (centre,) = [one for one in result.gate.criteria if one.name == "centre_bias"]
    assert (centre.verdict, centre.patients) == ("not_applicable", 9)


def test_the_evidence_holds_the_centre_bias_baseline(
    registry: Registry, settings: RetrainSettings, trained: list[str]
) -> None:
    asked = EASY.model_copy(update={"gate": EASY.gate.model_copy(update={"centre_bias_margin": 0.01})})
    result = retrain(settings, policy=asked)
    assert result.gate is not None
    (centre,) = [one for one in result.gate.criteria if one.name == "centre_bias"]
    assert (centre.rule, centre.patients, centre.verdict == "pass") == ("baseline", 9, False)
    (work,) = retrainings(registry.store.child("cxrgaze/retraining"))
    kept = work.evaluation_table("candidate")
    assert kept is not None
    assert centre.champion == pytest.approx(kept.centre().scores("sauc").mean())
    assert centre.candidate == pytest.approx(kept.scores("sauc").mean())


def test_the_same_again_does_nothing(registry: Registry, settings: RetrainSettings, trained: list[str]) -> None:
    first, again = retrain(settings), retrain(settings)
    assert again.already
    assert (again.exit_code, again.conclusion) == (first.exit_code, first.conclusion)
    assert len(trained) == 1
    assert actions(registry) == JUDGED


BREAKS = [
    pytest.param(step, after, marks=() if step == "publish" else pytest.mark.long)
    for step in ("look", "publish", "record_gate", "promote")
    for after in (False, True)
]


@pytest.mark.long
@pytest.mark.parametrize(("before", "after"), BREAKS)
def test_a_crash_anywhere_goes_on_with_the_same_command(
    before: str,
    after: bool,
    registry: Registry,
    settings: RetrainSettings,
    trained: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real: Callable[..., Any] = getattr(Registry, before)

    def crash(*arguments: Any, **named: Any) -> Any:
        if after:
            real(*arguments, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(Registry, before, crash)
        with pytest.raises(KeyboardInterrupt):
            retrain(settings, auto_promote=True)
    result = retrain(settings, auto_promote=True)
    assert result.conclusion is not None
    assert result.conclusion.promoted
    assert len(trained) == 1, "it trained again"
    assert actions(registry) == [*JUDGED, ("promote", "v0002")]


def test_another_temperature_makes_another_champion_of_the_same_weights(registry: Registry) -> None:
    pin = registry.resolve("cxrgaze@champion")
    changed: list[dict[str, Any]] = [{}, {"version": "v0002"}, {"temperature": 0.8}]
    first, same, other = (make_id("s", pin.model_copy(update=one), ("store",), EASY) for one in changed)
    assert first == same != other


def test_one_retraining_at_a_time(registry: Registry, settings: RetrainSettings, trained: list[str]) -> None:
    root = registry.store.child("cxrgaze/retraining")
    with Lease(root), pytest.raises(RunConflict, match="Another driver is working on this retraining"):
        retrain(settings)
    assert actions(registry) == FIRST


def test_a_champion_that_moved_meanwhile_is_not_replaced(
    registry: Registry, settings: RetrainSettings, candidate: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = with_golden(make_bundle(build(PRESETS["tiny"], 8), "cxrgaze", trained=True))

    def train(*_: object, **__: object) -> Bundle:
        registry.publish(other)
        registry.promote("cxrgaze", "v0002", reason="by hand, meanwhile")
        return candidate

    monkeypatch.setattr(steps, "run_stages", train)
    result = retrain(settings, auto_promote=True)
    assert result.conclusion is not None
    assert not result.conclusion.promoted
    assert "Not promoted" in result.conclusion.why
    assert registry.aliases("cxrgaze") == {"champion": "v0002"}


def test_the_budget_of_looks_is_kept(
    registry: Registry, settings: RetrainSettings, trained: list[str], candidate: Bundle
) -> None:
    stores = [one.stores for one in registry.history("cxrgaze") if one.stores]
    assert not stores
    tight = EASY.model_copy(update={"gate": EASY.gate.model_copy(update={"looks": 1})})
    retrain(settings, policy=tight)
    assert retrain(settings, policy=tight, training={"seed": 9}).decision.action is Action.ASK
    assert [entry.action for entry in registry.history("cxrgaze")].count("look") == 1


def test_a_dry_run_changes_nothing(registry: Registry, settings: RetrainSettings, tmp_path: Path) -> None:
    before = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    plan = plan_retraining(settings, "schedule")
    assert plan["decision"] == "retrain"
    assert (plan["train_patients"], plan["test_patients"], plan["new_patients"]) == (6, 9, 6)
    assert {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_new_labels_are_what_the_champion_has_not_learned(
    tmp_path: Path, registry: Registry, settings: RetrainSettings, champion: Bundle
) -> None:
    known = write_store(tmp_path / "store", SIZES)
    lineage = champion.info.lineage.model_copy(update={"stores": known.parts})
    grown = Bundle(champion.info.model_copy(update={"lineage": lineage}), champion.state)
    registry.promote("cxrgaze", registry.publish(grown).version, reason="it knows the store")
    assert plan_retraining(settings, "schedule")["new_patients"] == 0
    write_store(tmp_path / "more", {"train": 4, "test": 2}, prefix="b")
    both = settings.model_copy(update={"stores": (*settings.stores, str(tmp_path / "more"))})
    plan = plan_retraining(both, "schedule")
    assert (plan["new_patients"], plan["train_patients"], plan["test_patients"]) == (4, 10, 11)
    assert plan["champion_stores_named"]
    elsewhere = settings.model_copy(update={"stores": (str(tmp_path / "more"),)})
    assert not plan_retraining(elsewhere, "schedule")["champion_stores_named"]


SIXTY: dict[str, Any] = {"salt": "ours", "train": 0.6, "validation": 0.1}


@pytest.mark.parametrize(
    ("asked", "made", "warned"),
    [
        ({}, SIXTY, ""),
        ({"shard_rows": 8}, SIXTY, ""),
        ({"split": {"train": 0.8}}, {"salt": "ours", "train": 0.8, "validation": 0.1}, "by the shares 0.8,0.1, and "),
        ({"split": {"salt": "other"}}, SIXTY | {"salt": "other"}, "by another salt"),
        ({"split": {"train": 0.8}, "split_by": "archive"}, {"salt": "ours", "train": 0.8, "validation": 0.1}, ""),
    ],
)
def test_new_data_is_split_as_the_first_store_or_a_warning_says_otherwise(
    tmp_path: Path,
    settings: RetrainSettings,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, Any],
    made: dict[str, Any],
    warned: str,
) -> None:
    info = ShardStore.open(settings.stores[0]).info.model_copy(update={"split": SplitSettings(**SIXTY)})
    open_store(settings.stores[0]).put("store.json", info.model_dump_json().encode())
    new = NewData.model_validate({"archive": "labelled", "out": str(tmp_path / "new"), "settings": asked})
    splits: list[SplitSettings] = []

    def ingested(*_: object, settings: IngestSettings, **__: object) -> None:
        splits.append(settings.split)
        raise UserError("Far enough.")

    monkeypatch.setattr("cxrgaze_ray.lifecycle.retraining.data.ingest", ingested)
    said: list[str] = []
    with pytest.raises(UserError, match="Far enough"):
        run_retraining(settings.model_copy(update={"ingest": (new,)}), "manual", no_cluster, Hooks(say=said.append))
    assert splits == [SplitSettings(**made)]
    warnings = [one for one in said if one.startswith("Warning")]
    assert len(warnings) == bool(warned)
    assert all(warned in one for one in warnings)


def test_waiting_is_no_failure_and_asking_is_for_a_person(
    registry: Registry, settings: RetrainSettings, trained: list[str]
) -> None:
    greedy = EASY.model_copy(update={"decide": EASY.decide.model_copy(update={"least_new_patients": 1000})})
    waiting = run_retraining(settings.model_copy(update={"policy": greedy}), "schedule", no_cluster)
    assert (waiting.decision.action, waiting.exit_code) == (Action.WAIT, 0)
    asking = run_retraining(settings, "drift", no_cluster)
    assert (asking.decision.action, asking.exit_code) == (Action.ASK, 2)
    assert trained == []
    assert not list(retrainings(registry.store.child("cxrgaze/retraining")))


def test_without_a_champion_there_is_nothing_to_compare_with(tmp_path: Path, settings: RetrainSettings) -> None:
    empty = settings.model_copy(update={"registry": str(tmp_path / "empty")})
    with pytest.raises(RegistryError, match="There is no model cxrgaze"):
        run_retraining(empty, "schedule", no_cluster)
    assert not (tmp_path / "empty").exists()


def test_a_champion_without_an_alias_is_told(tmp_path: Path, settings: RetrainSettings, champion: Bundle) -> None:
    registry = Registry(LocalStore(str(tmp_path / "other")))
    registry.publish(champion)
    with pytest.raises(RegistryError, match="has no alias champion"):
        retrain(settings, registry=str(tmp_path / "other"))


def test_a_store_of_another_profile_is_refused(tmp_path: Path, settings: RetrainSettings) -> None:
    write_store(tmp_path / "odd", SIZES, prefix="c", profile="0" * 64)
    with pytest.raises((UserError, BundleError), match="profile"):
        retrain(settings, stores=(str(tmp_path / "odd"),))


def test_without_labels_a_person_is_asked(tmp_path: Path, settings: RetrainSettings, trained: list[str]) -> None:
    write_store(tmp_path / "bare", SIZES, prefix="d", labelled=False)
    result = retrain(settings, stores=(str(tmp_path / "bare"),))
    assert result.exit_code == 2
    assert "label some first" in result.decision.reasons[0]
    assert trained == []


def test_what_a_split_can_t_vouch_for_is_said_on_the_page_and_beside_the_figures(
    registry: Registry, settings: RetrainSettings, trained: list[str]
) -> None:
    store = ShardStore.open(settings.stores[0])
    counts = store.info.counts | {"images_without_patient": 2}
    store.store.put("store.json", store.info.model_copy(update={"counts": counts}).model_dump_json().encode())
    result, said = retrain(settings), "nobody names the patients of 2 of "
    assert result.page is not None
    assert said in Path(result.page).read_text()
    assert said in read_info(open_store(registry.resolve("cxrgaze@v2").uri)).metrics["note"]


def test_settings_without_a_store_are_refused(settings: RetrainSettings) -> None:
    with pytest.raises(UserError, match="name no store"):
        retrain(settings, stores=())


def test_golden_outputs_are_those_of_the_published_bytes(
    registry: Registry, settings: RetrainSettings, trained: list[str]
) -> None:
    result = retrain(settings)
    assert result.gate is not None
    published = read_bundle(open_store(registry.resolve("cxrgaze@v2").uri))
    assert torch.equal(
        published.state["classifier.out.weight"], read_candidate(registry).state["classifier.out.weight"]
    )


def read_candidate(registry: Registry) -> Bundle:
    (work,) = retrainings(registry.store.child("cxrgaze/retraining"))
    kept = work.candidate()
    assert kept is not None
    return kept


def states(path: Path) -> list[str]:
    """Return what a textfile says of the last retraining: one state."""
    found = scrape(path.read_text())
    return [labels[0] for (name, *labels), value in found.items() if name == "cxrgaze_retraining" and value]


@pytest.fixture
def typed(settings: RetrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Type the command with a textfile; return its exit code."""
    monkeypatch.setattr(cluster, "connect", lambda _: no_cluster())
    config, gauges = tmp_path / "retrain.yaml", tmp_path / "retrain.prom"
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    arguments = ["retrain", "--config", str(config), "--textfile", str(gauges), "--auto-promote"]
    return lambda: CliRunner().invoke(app, arguments).exit_code


def test_prometheus_is_told_how_it_goes_and_what_the_gate_found(
    typed: Callable[[], int], tmp_path: Path, candidate: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    gauges, seen = tmp_path / "retrain.prom", []

    def train(*_: object, **__: object) -> Bundle:
        seen.extend(states(gauges))
        return candidate

    monkeypatch.setattr(steps, "run_stages", train)
    assert typed() == 0
    found = scrape(gauges.read_text())
    assert (seen, states(gauges)) == (["running"], ["accepted"])
    assert found["cxrgaze_retraining_promoted",] == 1
    assert found["cxrgaze_retraining_time_seconds",] > 1.7e9
    assert found["cxrgaze_gate_criteria", "fail"] == 0
    assert found["cxrgaze_gate_criteria", "pass"] >= 4
    for model in ("champion", "candidate"):
        assert 0 <= found["cxrgaze_gate_value", "auc_macro", model] <= 1


def test_prometheus_is_told_of_a_failure_and_another_one_s_file_is_left_alone(
    typed: Callable[[], int], tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    gauges = tmp_path / "retrain.prom"

    def fail(*_: object, **__: object) -> Bundle:
        raise EnvironmentFault("The store is down.", "Run it again.")

    monkeypatch.setattr(steps, "run_stages", fail)
    with Lease(registry.store.child("cxrgaze/retraining")):
        assert typed() != 0
    assert not gauges.exists()
    assert typed() != 0
    assert states(gauges) == ["failed"]
    assert not [key for key in scrape(gauges.read_text()) if key[0].startswith("cxrgaze_gate")]


@pytest.mark.parametrize(
    ("config", "phases"),
    [
        (architecture("dnet201-cl", "tiny"), ["contrastive", "encoder"]),
        (architecture("mt-unet", "tiny"), ["joint"]),
        (architecture("gazenet", "tiny", {"tap": "transition3"}), ["contrastive", "encoder", "saliency", "classifier"]),
    ],
)
def test_a_champion_is_retrained_as_the_network_that_it_is(config: NetworkConfig, phases: list[str]) -> None:
    info = make_bundle(build(config), "cxrgaze", trained=True).info
    training = training_settings(RetrainSettings(), info)
    assert training.network == config
    assert list(training.stages) == phases
