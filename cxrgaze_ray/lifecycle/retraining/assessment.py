"""Assess a retraining: everything that its decision rests on is read before anything is changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from cxrgaze_ray.lifecycle.retraining.data import (
    learned_from,
    missing_stores,
    open_stores,
    read_reports,
    split_warnings,
)
from cxrgaze_ray.lifecycle.retraining.decide import Decision, Reason, Situation, decide
from cxrgaze_ray.lifecycle.retraining.policy import Policy, read_policy
from cxrgaze_ray.lifecycle.retraining.settings import RetrainSettings
from cxrgaze_ray.lifecycle.retraining.workspace import FOLDER, last_at
from cxrgaze_ray.models.bundle import BundleInfo, read_info
from cxrgaze_ray.models.settings import Preset, overrides_of
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import CHAMPION, Registry
from cxrgaze_ray.shards import ShardStore
from cxrgaze_ray.shards.union import ShardUnion, label_counts
from cxrgaze_ray.storage import Store, open_parent, open_store
from cxrgaze_ray.training.run import check_store
from cxrgaze_ray.training.settings import STAGE_NAMES, TrainSettings


@dataclass(frozen=True)
class Assessment:
    """Everything that a decision rests on, read before anything is changed."""

    registry: Registry
    root: Store
    policy: Policy
    champion: ModelPin
    stores: ShardUnion
    situation: Situation
    decision: Decision


def plan_retraining(settings: RetrainSettings, reason: Reason) -> dict[str, Any]:
    """Return what a retraining would do, and change nothing; without a decision if stores must be made first."""
    missing = missing_stores(settings)
    assessment = None if missing else assess(settings, reason)
    champion = assessment.champion if assessment else _champion(settings)
    training = training_settings(settings, read_info(open_store(champion.uri)))
    warnings = split_warnings(settings)
    plan: dict[str, Any] = {
        "champion": f"{champion.name}@{champion.version}",
        "to_ingest": [new.archive for new in missing],
        "phases": list(training.stages),
        "epochs": {name: stage.epochs for name, stage in training.stages.items()},
        "policy": read_policy(settings.policy).name,
        "auto_promote": settings.auto_promote,
        "warnings": warnings,
    }
    if assessment is not None:
        plan |= assessment.situation.model_dump(exclude={"reason", "now"})
        plan |= {"decision": str(assessment.decision.action), "reasons": list(assessment.decision.reasons)}
    return plan


def check_settings(settings: RetrainSettings) -> None:
    """Check everything that the settings name, as far as it exists before new stores are made.

    Raises
    ------
    RegistryError
        If the model has no champion.
    UserError
        If a store, a report, the policy or a training setting is missing or wrong.
    """
    champion = _champion(settings)
    read_policy(settings.policy)
    read_reports(settings.reports)
    training_settings(settings, read_info(open_store(champion.uri)))
    for uri in settings.stores:
        ShardStore.open(uri)
    if settings.page:
        open_parent(settings.page)


def assess(settings: RetrainSettings, reason: Reason) -> Assessment:
    """Read champion, stores, reports and ledger, and decide.

    Raises
    ------
    RegistryError
        If the model has no champion.
    UserError
        If a store can't be learned from, or stores do not fit together.
    BundleError
        If the champion learned from images of another profile.
    """
    registry, policy = Registry(open_store(settings.registry)), read_policy(settings.policy)
    # resolved again: the retraining that held the lease before this one may have promoted another
    champion = registry.resolve(f"{settings.name}@{CHAMPION}")
    info, stores = read_info(open_store(champion.uri)), open_stores(settings)
    check_store(stores.info, info)
    root = registry.store.child(f"{settings.name}/{FOLDER}")
    learned = learned_from(info)
    fresh = label_counts(stores, learned)
    everything = label_counts(stores, ())
    situation = Situation(
        reason=reason,
        now=now(),
        train_patients=everything["train"].patients,
        new_patients=fresh["train"].patients,
        champion_stores_named=bool(learned) and {*learned} <= {*stores.parts},
        test_patients=everything["test"].patients,
        looks_used=registry.looks(settings.name, stores.locked_tests),
        last_retraining_at=last_at(root),
    )
    decision = decide(policy, situation, read_reports(settings.reports))
    if caution := stores.info.caution():
        decision = decision.model_copy(update={"reasons": (*decision.reasons, caution)})
    return Assessment(registry, root, policy, champion, stores, situation, decision)


def _champion(settings: RetrainSettings) -> ModelPin:
    return Registry(open_store(settings.registry)).resolve(f"{settings.name}@{CHAMPION}")


def training_settings(settings: RetrainSettings, info: BundleInfo) -> TrainSettings:
    """Return the training's settings: the champion's network, and the requested phases, by default all."""
    phases = None if settings.phases == STAGE_NAMES else list(settings.phases)
    network = {"system": info.network.system, "architecture": overrides_of(info.network)}
    return TrainSettings.for_preset(cast("Preset", info.network.preset), phases, **(network | settings.training))


def now() -> str:
    """Return the time as records state it: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
