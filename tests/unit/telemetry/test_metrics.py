"""The table of metrics: names and units that Prometheus's users expect, labels that are bounded and name nobody."""

from __future__ import annotations

import math
import re
from http import HTTPStatus
from typing import get_args

import pytest

from cxrgaze_ray.evaluation.gate.checks import answers, checks
from cxrgaze_ray.evaluation.gate.report import Verdict
from cxrgaze_ray.evaluation.gate.settings import GateSettings, ModelFacts
from cxrgaze_ray.evaluation.table import Target
from cxrgaze_ray.lifecycle.monitoring.features import FEATURES
from cxrgaze_ray.lifecycle.monitoring.report import DRIFTS, FAMILIES
from cxrgaze_ray.models.engines.engine import ENGINES
from cxrgaze_ray.schemas import Reason, Status
from cxrgaze_ray.telemetry import TABLE, Label, Metric, code_label, labels, record
from cxrgaze_ray.training.recipes import STAGE_ORDER

EVERY = pytest.mark.parametrize("metric", TABLE, ids=lambda metric: metric.name)
LABELS = {label: metric for metric in TABLE for label in metric.labels}

_IDENTIFIERS = re.compile(r"(image|study|subject|patient|uri|path|key|request|run|shard|bundle|version|host)_?(id)?")
_WORD = re.compile(r"[a-z0-9][a-zA-Z0-9_=/ .-]*|/[a-z0-9/._]+")


@EVERY
def test_exactly_the_labels_and_values_of_the_table(metric: Metric) -> None:
    right = {label.name: label.values[0] for label in metric.labels}
    record(metric, 1.0, **right)
    with pytest.raises(ValueError, match=metric.name):
        record(metric, 1.0, **right, image_id="x")
    for name in right:
        with pytest.raises(ValueError, match=metric.name):
            record(metric, 1.0, **{key: value for key, value in right.items() if key != name})
        with pytest.raises(ValueError, match=metric.name) as refused:
            record(metric, 1.0, **{**right, name: "MRN-774411"})
        assert "MRN" not in str(refused.value), "who refuses a name does not repeat it"


@EVERY
def test_prometheus_can_scrape_it_and_its_name_tells_the_unit(metric: Metric) -> None:
    assert re.fullmatch(r"cxrgaze_[a-z0-9_]+", metric.name)
    assert not metric.name.endswith("_total")
    assert bool(metric.boundaries) == (metric.kind == "histogram")
    assert list(metric.boundaries) == sorted(set(metric.boundaries))
    assert metric.description.endswith(".")
    assert metric.name.endswith("_seconds") == metric.unit.endswith("seconds")
    assert ("_time_" in metric.name) == (metric.unit == "unix seconds")
    assert metric.name.endswith("_bytes") == (metric.unit == "bytes")


def test_names_are_unique() -> None:
    assert len({metric.name for metric in TABLE}) == len(TABLE) > 40


@EVERY
def test_what_it_costs_prometheus_is_bounded(metric: Metric) -> None:
    """The worst that could ever be: every value of every label, at one process."""
    assert series(metric) <= 2000


def series(metric: Metric) -> int:
    every = math.prod(len(label.values) for label in metric.labels)
    return every * (len(metric.boundaries) + 3 if metric.kind == "histogram" else 1)


@pytest.mark.parametrize("label", LABELS, ids=lambda label: f"{label.name} of {LABELS[label].name}")
def test_a_label_is_a_short_list_of_words_and_no_identifier(label: Label) -> None:
    assert not _IDENTIFIERS.fullmatch(label.name)
    assert 1 < len(label.values) < 80
    assert len(set(label.values)) == len(label.values)
    assert all(_WORD.fullmatch(value) and len(value) < 50 for value in label.values)


def test_lists_that_other_rooms_own_are_the_same_there() -> None:
    assert set(labels.STATUS.values) == set(Status)
    assert set(labels.REASON.values) == {*Reason, labels.NONE}
    assert set(labels.ENGINE.values) == {engine.name for engine in ENGINES}
    assert set(labels.DEVICE.values) == {engine.device for engine in ENGINES}
    assert set(labels.TRAINING_STAGE.values) == set(STAGE_ORDER)
    assert set(labels.FAMILY.values) == set(FAMILIES)
    assert set(labels.FEATURE.values) == {feature for some in FEATURES.values() for feature in some}
    assert set(labels.DRIFT.values) == set(DRIFTS)
    assert set(labels.VERDICT.values) == set(get_args(Verdict))
    facts = ModelFacts(
        golden_reproduced=True, golden_difference=0, latency_ratio=1, size_mib=1, looks_used=1, looks_of=1
    )
    checked = [*checks(facts, GateSettings(), 100), *answers(("classes", "saliency"), ("classes",))]
    assert set(labels.CRITERION.values) == {*get_args(Target), "centre_bias", *(one.name for one in checked)}


@pytest.mark.parametrize("code", [*map(int, HTTPStatus), 0, 99, 600, 999])
def test_every_status_has_a_label_of_its_own_class(code: int) -> None:
    label = code_label(code)
    assert label in labels.CODE.allowed
    assert label[0] == (str(code)[0] if code in set(HTTPStatus) else "5")
