"""Two bundles: what they are made of, how they were trained, and what each was measured to be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cxrgaze_ray.evaluation.comparison import Comparison, Section, differences, paired_section
from cxrgaze_ray.evaluation.gate import GateReport, gate_rows
from cxrgaze_ray.evaluation.metrics import DIAGNOSIS_TITLES, SALIENCY_TITLES
from cxrgaze_ray.evaluation.paired import paired_tests
from cxrgaze_ray.evaluation.table import EvaluationTable
from cxrgaze_ray.models.bundle import BundleInfo
from cxrgaze_ray.schemas import CLASSES

TITLES = {
    **{f"auc_{name}": f"AUC {name.replace('_', ' ')}" for name in CLASSES},
    **DIAGNOSIS_TITLES,
    **{name: f"saliency {title}" for name, title in SALIENCY_TITLES.items()},
}


def compare_models(
    first: BundleInfo,
    second: BundleInfo,
    names: tuple[str, str],
    answers: tuple[EvaluationTable, EvaluationTable] | None = None,
    gate: Section | None = None,
) -> Comparison:
    """Compare two bundles.

    Parameters
    ----------
    names
        What they are called, such as cxrgaze@v0002.
    answers
        Their answers to the same images, which are then compared by paired tests.
    gate
        What a gate recorded of these two: see `gate_section`.
    """
    sections = [
        differences("The models", _facts(first, second), names),
        differences("How they were trained", list(_settings(first, second)), names),
        _metrics(first, second, names),
        *([] if gate is None else [gate]),
    ]
    facts: dict[str, Any] = {"same_weights": first.weights_sha256 == second.weights_sha256}
    conclusion = "They have the same weights." if facts["same_weights"] else "Their weights differ."
    if answers is not None:
        tests = list(paired_tests(answers[1], answers[0]).values())
        sections.append(paired_section(tests, names, TITLES))
        better = [TITLES[test.figure] for test in tests if test.p is not None and test.p < 0.05]
        facts["significant"] = [test.figure for test in tests if test.p is not None and test.p < 0.05]
        told = ", ".join(better) if better else "none of the figures"
        conclusion += f" On the same images more than chance (p < 0.05) tells them apart in {told}."
    return Comparison("Models", *names, conclusion, tuple(sections), facts)


def gate_section(report: GateReport, champion: str, candidate: str) -> Section:
    """Return what a gate recorded of a candidate beside its champion, both by their names: on the same images."""
    rows = tuple(
        (row.criterion, row.champion, row.candidate, row.difference, row.bounds, row.verdict)
        for row in gate_rows(report.judged)
        if row.difference
    )
    note = f"Differences are {candidate} minus {champion}, on the same {report.images} images. {report.why}"
    return Section(
        "What the gate found", ("criterion", champion, candidate, "difference", "bounds", "verdict"), rows, note
    )


def _facts(first: BundleInfo, second: BundleInfo) -> list[tuple[str, object, object]]:
    mine, theirs = (_told(info) for info in (first, second))
    return [(name, mine[name], theirs[name]) for name in mine]


def _told(info: BundleInfo) -> dict[str, object]:
    lineage, calibration = info.lineage, info.lineage.calibration
    return {
        "trained": "yes" if info.trained else "no",
        "weights": info.weights_sha256[:16],
        "network": info.network.system,
        **_flat(info.network.model_dump(mode="json", exclude={"system"})),
        "predicts": " and ".join(info.predicts),
        "profile": f"{info.profile} {info.profile_sha256[:12]}",
        "temperature": info.temperature,
        "recalibrated on": f"{calibration.images} images" if calibration and not calibration.why else "nothing",
        "phases": ", ".join(info.phases) if info.phases is not None else "not recorded",
        "warm start from": lineage.parent,
        "first weights": lineage.backbone,
        "shard store": (lineage.store_sha256 or "none")[:16],
        "split by": lineage.split_by,
        "trained by": f"cxrgaze {lineage.code_version}",
    }


def _settings(first: BundleInfo, second: BundleInfo) -> Iterator[tuple[str, object, object]]:
    mine, theirs = (_flat(info.lineage.settings) for info in (first, second))
    for name in dict.fromkeys([*mine, *theirs]):
        yield name, mine.get(name), theirs.get(name)


def _flat(values: dict[str, Any], before: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in values.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return found


def _metrics(first: BundleInfo, second: BundleInfo, names: tuple[str, str]) -> Section:
    """Put recorded figures side by side: lenient, as bundles of other versions may hold more or less."""
    mine, theirs = (_recorded(info.metrics) for info in (first, second))
    stores = {info.lineage.store_sha256 for info in (first, second)}
    same = len(stores) == 1 and None not in stores
    rows = tuple(
        (
            title, _shown(mine.get(name)), _shown(theirs.get(name)),
            _difference(mine.get(name), theirs.get(name)) if same else "",
        )
        for name, title in TITLES.items()
        if name in mine or name in theirs
    )  # fmt: skip
    if same:
        note = (
            "As recorded on the same store's test split. Whether a difference is more than chance takes both models' "
            "answers to the same images: --store."
        )
    else:
        # where a hash is missing, nobody knows that the images were the same
        where = "test splits that are not both known" if None in stores else "different test splits"
        note = f"Recorded on {where}, so no difference is shown; --store has both answer the same images."
    columns = ("figure", *names, "difference")
    return Section("What was measured", columns, rows, note if rows else "Neither bundle carries figures.")


_Figure = tuple[float, float | None, float | None]


def _recorded(metrics: dict[str, Any]) -> dict[str, _Figure]:
    diagnosis, saliency = metrics.get("diagnosis") or {}, metrics.get("saliency") or {}
    values = {**diagnosis, **saliency, **{f"auc_{name}": one for name, one in (diagnosis.get("auc") or {}).items()}}
    intervals = metrics.get("intervals") or {}
    found: dict[str, _Figure] = {}
    for name in TITLES:
        interval = intervals.get(name) or {}
        if isinstance(value := values.get(name), int | float):
            found[name] = (float(value), interval.get("low"), interval.get("high"))
    return found


def _shown(figure: _Figure | None) -> str:
    if figure is None:
        return "not known"
    value, low, high = figure
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


def _difference(mine: _Figure | None, theirs: _Figure | None) -> str:
    return "" if mine is None or theirs is None else f"{theirs[0] - mine[0]:+.3f}"
