"""What a hospital may choose about retraining: when to, and what a candidate must prove. One YAML file."""

from __future__ import annotations

from typing import Literal

from cxrgaze_ray.config import Settings
from cxrgaze_ray.gate import GateSettings
from cxrgaze_ray.storage import open_parent

DriftKind = Literal["exposure", "polarity", "site", "prevalence", "quality", "performance", "unknown"]


class DecidePolicy(Settings):
    """When to retrain, and when to ask a person instead."""

    retrain_on: tuple[DriftKind, ...] = ("site", "exposure", "prevalence", "performance")
    """Suspicions that new labels may mend."""

    ask_on: tuple[DriftKind, ...] = ("polarity", "quality", "unknown")
    """Suspicions that a person must look into first: a model would only learn the fault."""

    least_new_patients: int = 50
    """Newly labelled patients of the training split, since the champion was trained, that are worth a retraining."""

    least_train_patients: int = 100
    """Labelled patients of the training split in all."""

    least_test_patients: int = 50
    """Labelled patients of the locked test split: with fewer, the gate could only answer that it cannot tell."""

    least_days_between: float = 7.0
    """Days from one retraining to the next, unless a person asks for it."""

    report_days: float = 7.0
    """Age in days at which a monitor's report says nothing of today any more."""

    clock_tolerance_s: float = 300.0
    """How far ahead of this machine's clock a date may lie, in seconds, before clocks are said to disagree."""


class Policy(Settings):
    """A named policy: it stands in every retraining's records."""

    name: str = "default"
    """Under which an auditor finds it."""

    decide: DecidePolicy = DecidePolicy()
    """When to retrain."""

    gate: GateSettings = GateSettings()
    """What a candidate must prove before it may replace the champion."""


def read_policy(policy: str | Policy) -> Policy:
    """Return a policy, read from its YAML file where a URI names one; ConfigError if a key or value is wrong."""
    if isinstance(policy, Policy):
        return policy
    store, key = open_parent(policy)
    return Policy.from_yaml(store.read_text(key))
