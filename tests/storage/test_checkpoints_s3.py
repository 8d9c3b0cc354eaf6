"""A training's checkpoints in a bucket: bounded, whole, and resumed from."""

from __future__ import annotations

import pytest

from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.storage import open_store
from cxrgaze_ray.training.checkpoint import snapshot
from tests.unit.training.test_resume import Killed
from tests.unit.training.test_training import changed, settings, train


@pytest.mark.long
def test_a_training_killed_again_and_again_goes_on_from_a_bucket(s3: str) -> None:
    chosen, store = settings("encoder", epochs=3), open_store(f"{s3}/work")
    straight, _ = train(chosen, build(chosen.network, seed=3))
    killed = Killed(store, chosen, seed=5)
    resumed, _ = killed.run()
    assert killed.kills > 1
    assert not changed(snapshot(straight), snapshot(resumed))
    names = killed.kept.names()
    assert len(names) == 2
    store.put(names[0], store.get(names[0])[:1000])
    found = killed.kept.furthest()
    assert found is not None
    assert found[0] == names[1]
    assert killed.kept.names() == names[1:]
