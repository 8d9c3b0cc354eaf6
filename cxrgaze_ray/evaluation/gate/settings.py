"""The gate's policy, and the facts besides predictions that it is applied to."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from cxrgaze_ray.config import Record, Seed, Settings, Text
from cxrgaze_ray.evaluation.table import FACETS, Facet, Target


class Superiority(Settings):
    """A target on which the candidate must be better, not only no worse."""

    target: Target
    """Metric on which the candidate must be better."""

    facet: Facet | None = None
    """Judge one subgroup only: images whose facet has the value; None for all images."""

    value: Text | None = None
    """The facet's value; `not stated` selects files that do not state it."""

    margin: float = Field(0.0, ge=0, le=2)
    """Gain that must be shown, in units of the target."""

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.facet is None) != (self.value is None):
            raise ValueError("facet and value go together")
        return self


class GateSettings(Settings):
    """Every number by which a gate decides."""

    alpha: float = Field(0.05, gt=0, lt=0.5)
    """One-sided risk of each bound: 0.05 for bounds of 95% confidence."""

    rounds: int = Field(2000, ge=100, le=1_000_000)
    """Bootstrap draws of patients."""

    seed: Seed = 0
    """Seed of the draws: the same predictions and settings give the same report."""

    auc_margin: float = Field(0.02, ge=0, le=1)
    """Macro AUC in [0,1]: a loss must be shown to be smaller than this to be accepted."""

    ece_margin: float = Field(0.02, ge=0, le=1)
    """Largest allowed rise of the expected calibration error, in [0,1]."""

    ece_rule: Literal["guard", "non_inferiority"] = "guard"
    """guard: the rise that the test split shows must be within the margin, and a shown rise beyond it rejects.
    non_inferiority: it must be proved to be within the margin, which takes thousands of patients."""

    cc_margin: float = Field(0.02, ge=0, le=2)
    """Mean correlation with the readers' gaze, in [-1,1]: a loss must be shown to be smaller than this."""

    centre_bias_margin: float | None = Field(0.01, ge=0, le=1)
    """Gain in shuffled AUC over the training split's mean gaze map that must be shown to be larger; None: not judged.
    Every map that is the same for all images has a shuffled AUC of 0.5, whatever its CC."""

    subgroup_margin: float = Field(0.05, ge=0, le=1)
    """Largest loss of macro AUC that any subgroup may be estimated to have."""

    subgroup_patients: int = Field(30, ge=2, le=10_000_000)
    """Least labelled patients for a subgroup to be judged."""

    facets: tuple[Facet, ...] = Field(FACETS, min_length=0, max_length=len(FACETS))
    """Facts of which every value forms a subgroup."""

    superiority: Superiority | None = None
    """A target on which the candidate must be better; None where being no worse is enough."""

    least_patients: int = Field(50, ge=2, le=10_000_000)
    """Labelled patients below which the gate cannot tell; with gaze, below which saliency is not judged. Between models
    that predict saliency only, those with gaze count for both."""

    latency_ratio: float = Field(1.5, gt=0, le=1000)
    """Largest allowed latency, as a multiple of the champion's."""

    size_mib: float = Field(1024, gt=0, le=1_000_000)
    """Largest allowed size of the bundle, in MiB."""

    looks: int = Field(20, ge=1, le=1_000_000)
    """Candidates that the same test split may be shown to: each look lets chance choose a little more."""


class ModelFacts(Record):
    """Facts the gate knows about a candidate besides its predictions."""

    golden_reproduced: bool
    """Whether the published bundle reproduces its recorded golden outputs, within the engine's tolerance."""

    golden_difference: float
    """Largest absolute difference from the recorded golden outputs."""

    latency_ratio: float | None
    """Candidate's latency over the champion's, measured side by side; None if it was not measured."""

    size_mib: float
    """Size of the candidate's bundle in MiB."""

    looks_used: int
    """Candidates that this test split was shown to, this one included."""

    looks_of: int
    """Looks that the ledger's keeper allows; the policy's `looks` applies as well."""
