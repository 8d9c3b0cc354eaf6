"""The monitor's findings, as values that are stored as JSON and read back."""

from __future__ import annotations

from typing import Any, Literal, get_args

from cxrgaze_ray.config import Record
from cxrgaze_ray.lifecycle.monitoring.settings import MonitorSettings

Family = Literal["acquisition", "intensity", "scores", "predictions", "saliency", "outcomes", "performance"]
FAMILIES: tuple[Family, ...] = get_args(Family)

SuspectedDrift = Literal["exposure", "polarity", "site", "prevalence", "quality", "performance", "unknown"]
DRIFTS: tuple[SuspectedDrift, ...] = get_args(SuspectedDrift)


class Bin(Record):
    """Share of a bin or category on either side, in [0,1]."""

    name: str
    baseline: float
    current: float


class Finding(Record):
    """The comparison of one feature."""

    family: Family
    feature: str
    """Name of a column, or of a figure of quality, or column=value for a rate."""

    measure: Literal["psi", "difference"]
    """psi: see `drift.Shift`. difference: current rate minus baseline; for a labelled figure, how much worse it is."""

    effect: float | None
    threshold: float
    """Least effect that is worth an alert."""

    noise: float | None
    """Effect that chance alone reaches; None if it was not computed because there are too few patients."""

    status: Literal["ok", "alert", "too_few", "absent"]
    """alert: the effect is beyond threshold and noise. too_few: a side has too few patients. absent: not comparable."""

    subgroup: str | None = None
    """facet=value if only a part of the images was compared."""

    detail: str
    """A sentence for people."""

    baseline: float | None = None
    current: float | None = None
    """The rate or figure on either side, where the measure is a difference."""

    bins: tuple[Bin, ...] = ()
    """Both distributions, where there are any."""


class Suspicion(Record):
    """A drift that the alerts together look like."""

    drift: SuspectedDrift
    features: tuple[str, ...]
    """Alerted features that led to the suspicion."""

    sentence: str


class RunPoint(Record):
    """One run of a side by itself."""

    run_id: str
    at: str
    """Time at which it was planned."""

    images: int
    failed: float
    """Share of its files, in [0,1]; so is `skipped`."""

    skipped: float
    predicted: dict[str, float] = {}
    """Share of each class among its answers; empty if it has none."""

    confidence: float | None = None
    """Mean probability of the predicted class."""

    brightness: float | None = None
    """Mean of column ``intensity_mean``."""


class Side(Record):
    """One side of the comparison."""

    runs: tuple[str, ...]
    """URIs of the runs, by time of planning."""

    images: int
    """Number of rows; an image that several runs hold counts once."""

    patients: int
    scored: int
    skipped: int = 0
    failed: int = 0
    labelled: int = 0
    """Number of scored images whose diagnosis has arrived."""

    auc_macro: float | None = None
    """Macro AUC of the labelled images."""

    first_at: str
    """Time at which the first run was planned."""

    last_at: str
    """Time at which the last run was finished."""

    models: tuple[str, ...]
    """Models of the runs, as name@version."""

    weights: tuple[str, ...]
    """SHA-256 of the models' weights."""

    trend: tuple[RunPoint, ...] = ()
    """The runs one by one, by time; empty in reports of earlier versions."""


class MonitorReport(Record):
    """The whole report of a comparison."""

    baseline: Side
    current: Side
    findings: tuple[Finding, ...]
    suspicions: tuple[Suspicion, ...]
    notes: tuple[str, ...]
    """Limits of the comparison, for people."""

    made_at: str
    settings: MonitorSettings

    @property
    def alerts(self) -> tuple[Finding, ...]:
        """Findings beyond threshold and noise."""
        return tuple(finding for finding in self.findings if finding.status == "alert")

    @property
    def enough(self) -> bool:
        """Whether both sides hold the least number of patients."""
        return min(self.baseline.patients, self.current.patients) >= self.settings.least_patients

    def summary(self) -> dict[str, Any]:
        """Return what was found, without the data behind it: alerts, suspicions, notes, whether there was enough."""
        return {
            "alerts": [finding.model_dump(exclude={"bins"}) for finding in self.alerts],
            "suspicions": [suspicion.model_dump() for suspicion in self.suspicions],
            "notes": self.notes,
            "enough": self.enough,
        }
