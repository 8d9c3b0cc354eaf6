"""What the gate looks at beside predictions."""

from __future__ import annotations

import pytest

from cxrgaze_ray.lifecycle.retraining.evidence import gather_facts, golden_difference, latency_ratio, size_mib
from cxrgaze_ray.models.bundle import Bundle, Golden, make_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.predictor import Predictor
from cxrgaze_ray.models.zoo import build


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return make_bundle(build(PRESETS["tiny"], 3), "cxrgaze", trained=True)


def with_golden(bundle: Bundle, shift: float) -> Bundle:
    first, *rest = Predictor.from_bundle(bundle).golden(1).logits
    golden = Golden(seed=1, logits=(first + shift, *rest))
    return Bundle(bundle.info.model_copy(update={"golden": (golden,)}), bundle.state)


def test_golden_outputs_are_computed_again(bundle: Bundle) -> None:
    assert golden_difference(with_golden(bundle, 0.0)) == pytest.approx(0, abs=1e-5)
    assert golden_difference(with_golden(bundle, 0.25)) == pytest.approx(0.25, abs=1e-4)
    assert golden_difference(bundle) is None


@pytest.mark.long
def test_the_gate_is_told_what_was_found(bundle: Bundle) -> None:
    facts = gather_facts(bundle, with_golden(bundle, 0.0), (3, 20))
    assert facts.golden_reproduced
    assert (facts.looks_used, facts.looks_of) == (3, 20)
    assert facts.latency_ratio is not None
    assert facts.latency_ratio > 0
    assert not gather_facts(bundle, bundle, (1, 20)).golden_reproduced, "a bundle without golden outputs proves nothing"


def test_latency_is_a_ratio_and_size_is_of_the_weights(bundle: Bundle) -> None:
    assert latency_ratio(bundle, bundle, rounds=1) > 0
    numbers = sum(tensor.numel() for tensor in bundle.state.values())
    assert size_mib(bundle) == pytest.approx(4 * numbers / 2**20, rel=0.01)
