"""A retraining with every URI in a bucket: lease, answers, evidence, ledger and promotion; training is stood in for."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from cxrgaze_ray.lifecycle.retraining import RetrainSettings, run_retraining
from cxrgaze_ray.lifecycle.retraining import run as steps
from cxrgaze_ray.models.bundle import Golden, make_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.predictor import Predictor
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.audit import verify_registry
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.storage import open_store
from tests.labelled_store import write_store


@pytest.mark.long
def test_a_retraining_lives_in_a_bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    champion, candidate = (make_bundle(build(PRESETS["tiny"], seed), "cxrgaze", trained=True) for seed in (3, 4))
    golden = Golden(seed=1, logits=Predictor.from_bundle(candidate).golden(1).logits)
    candidate = candidate.__class__(candidate.info.model_copy(update={"golden": (golden,)}), candidate.state)
    registry = Registry(open_store(f"{s3}/registry"))
    registry.promote("cxrgaze", registry.publish(champion).version)
    write_store(f"{s3}/store", {"train": 6, "validation": 3, "test": 9})
    open_store(s3).put("policy.yaml", b"{name: bucket, gate: {rounds: 100}}")
    monkeypatch.setattr(steps, "run_stages", lambda *_, **__: candidate)
    settings = RetrainSettings(
        registry=f"{s3}/registry", stores=(f"{s3}/store",), policy=f"{s3}/policy.yaml", page=f"{s3}/page.html"
    )
    result = run_retraining(settings, "manual", nullcontext)
    assert result.exit_code == 11, "a dozen patients can't tell"
    assert b"Retraining" in open_store(s3).get("page.html")
    registry.promote("cxrgaze", "v2", reason="by hand")
    assert registry.rollback("cxrgaze").version == "v0001"
    assert [one.action for one in registry.history("cxrgaze")] == [
        "publish", "promote", "look", "publish", "gate", "promote", "rollback",
    ]  # fmt: skip
    assert verify_registry(registry, "cxrgaze", registry.head("cxrgaze")) == []
    # the champion is another one now, and the promotion was undone: the same is asked for, and was done
    assert run_retraining(settings, "manual", nullcontext).already
