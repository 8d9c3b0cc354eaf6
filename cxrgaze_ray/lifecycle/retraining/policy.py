"""A hospital's choices about retraining: when to retrain, and what a candidate must prove. One YAML file."""

from __future__ import annotations

from pydantic import Field

from cxrgaze_ray.config import Settings, Text
from cxrgaze_ray.evaluation.gate import GateSettings
from cxrgaze_ray.lifecycle.monitoring.report import DRIFTS, SuspectedDrift
from cxrgaze_ray.storage import read_settings


class DecidePolicy(Settings):
    """Conditions for retraining, and for asking a person instead."""

    retrain_on: tuple[SuspectedDrift, ...] = Field(
        ("site", "exposure", "prevalence", "performance"), min_length=0, max_length=len(DRIFTS)
    )
    """Suspected drifts that new labels may remedy."""

    ask_on: tuple[SuspectedDrift, ...] = Field(("polarity", "quality", "unknown"), min_length=0, max_length=len(DRIFTS))
    """Suspected drifts that a person must look into first: a model would only learn the fault."""

    least_new_patients: int = Field(50, ge=0, le=100_000_000)
    """Least patients in the training split labelled since the champion was trained, for a retraining; patients that it
    learned from do not count, as far as its stores are among those named."""

    least_train_patients: int = Field(100, ge=0, le=100_000_000)
    """Least labelled patients in the training split in all."""

    least_test_patients: int = Field(50, ge=0, le=100_000_000)
    """Least labelled patients in the locked test split: with fewer, the gate could only answer that it cannot tell."""

    least_days_between: float = Field(7.0, ge=0, le=36_500)
    """Least days from one retraining to the next, unless a person asks for it."""

    report_days: float = Field(7.0, gt=0, le=36_500)
    """Age in days from which a monitor's report is too old to count."""

    clock_tolerance_s: float = Field(300.0, ge=0, le=31_536_000)
    """Seconds that a date may lie ahead of this machine's clock before clocks are said to disagree."""


class Policy(Settings):
    """A named policy, which every retraining's records contain."""

    name: Text = "default"
    """Name by which an auditor finds the policy."""

    decide: DecidePolicy = DecidePolicy()
    """Conditions for a retraining."""

    gate: GateSettings = GateSettings()
    """Proof that a candidate needs before it may replace the champion."""


def read_policy(policy: str | Policy) -> Policy:
    """Return a policy, read from its YAML file where a URI names one; ConfigError if a key or value is wrong."""
    if isinstance(policy, Policy):
        return policy
    return read_settings(Policy, policy)
