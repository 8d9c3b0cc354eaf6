"""The gate's policy, and what else it is applied to beside predictions."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from cxrgaze_ray.config import Record, Seed, Settings, Text
from cxrgaze_ray.evaluation.table import FACETS, Facet, Target


class Superiority(Settings):
    """A target on which the candidate must be better, not only no worse."""

    target: Target
    """By what."""

    facet: Facet | None = None
    """Judge one subgroup only: images whose facet has the value; None for all images."""

    value: Text | None = None
    """The facet's value; `not stated` where the file does not say."""

    margin: float = Field(0.0, ge=0, le=2)
    """Units of the target: by how much better it must be shown to be."""

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.facet is None) != (self.value is None):
            raise ValueError("facet and value go together")
        return self


class GateSettings(Settings):
    """Every number that a gate decides by."""

    alpha: float = Field(0.05, gt=0, lt=0.5)
    """One-sided risk of each bound: 0.05 for bounds of 95% confidence."""

    rounds: int = Field(2000, ge=100, le=1_000_000)
    """Bootstrap draws of patients."""

    seed: Seed = 0
    """Seed of the draws: the same predictions and settings give the same report."""

    auc_margin: float = Field(0.02, ge=0, le=1)
    """Macro AUC in [0,1]: a loss that is not shown to be smaller than this is not accepted."""

    ece_margin: float = Field(0.02, ge=0, le=1)
    """Expected calibration error in [0,1]: how much it may rise."""

    ece_rule: Literal["guard", "non_inferiority"] = "guard"
    """guard: the rise that the test split shows must be within the margin, and a shown rise beyond it rejects.
    non_inferiority: it must be proved to be within the margin, which takes thousands of patients."""

    cc_margin: float = Field(0.02, ge=0, le=2)
    """Mean correlation with the readers' gaze, in [-1,1]: the same for a loss."""

    subgroup_margin: float = Field(0.05, ge=0, le=1)
    """Macro AUC: no subgroup may be estimated to lose more than this."""

    subgroup_patients: int = Field(30, ge=2, le=10_000_000)
    """Labelled patients from which on a subgroup is judged."""

    facets: tuple[Facet, ...] = Field(FACETS, min_length=0, max_length=len(FACETS))
    """Facts whose every value is a subgroup."""

    superiority: Superiority | None = None
    """A target on which the candidate must be better; None where being no worse is enough."""

    least_patients: int = Field(50, ge=2, le=10_000_000)
    """Labelled patients below which the gate cannot tell; with gaze, below which saliency is not judged."""

    latency_ratio: float = Field(1.5, gt=0, le=1000)
    """Most times the champion's latency."""

    size_mib: float = Field(1024, gt=0, le=1_000_000)
    """MiB, most size of the bundle."""

    looks: int = Field(20, ge=1, le=1_000_000)
    """Candidates that the same test split may be shown to: each look lets chance choose a little more."""


class ModelFacts(Record):
    """What the gate knows of a candidate beside its predictions."""

    golden_reproduced: bool
    """The published bundle gives its own recorded golden outputs, within the engine's tolerance."""

    golden_difference: float
    """Largest absolute difference from them."""

    latency_ratio: float | None
    """Candidate's latency over the champion's, measured side by side; None if nobody measured it."""

    size_mib: float
    """MiB of the candidate's bundle."""

    looks_used: int
    """Candidates that this test split was shown to, this one included."""

    looks_of: int
    """How many the ledger's keeper allows; the policy's `looks` holds as well."""
