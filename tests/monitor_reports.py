"""Reports as the monitor writes them, of runs that never were."""

from __future__ import annotations

from cxrgaze_ray.lifecycle.monitoring import Finding, MonitorReport, MonitorSettings, Side, Suspicion


def side(at: str, patients: int = 300) -> Side:
    """Return one side of a comparison."""
    return Side(
        runs=("r",), images=patients, patients=patients, scored=patients, labelled=0, first_at=at, last_at=at,
        models=("cxrgaze@v0001",), weights=("00",),
    )  # fmt: skip


def report_of(*kinds: str, made_at: str, patients: int = 300) -> MonitorReport:
    """Return a report that suspects some kinds of drift, by one alert."""
    alert = Finding(
        family="acquisition", feature="manufacturer", measure="psi", effect=1.0, threshold=0.2, noise=0.1,
        status="alert", subgroup=None, detail="",
    )  # fmt: skip
    return MonitorReport(
        baseline=side(made_at),
        current=side(made_at, patients),
        findings=(alert,) if kinds else (),
        suspicions=tuple(
            Suspicion(drift=kind, features=("manufacturer",), sentence=f"It looks like {kind}.") for kind in kinds
        ),
        notes=(),
        made_at=made_at,
        settings=MonitorSettings(),
    )


def drifted(made_at: str) -> MonitorReport:
    """Return a report on another hospital's images."""
    return report_of("site", made_at=made_at)
