"""Golden answers come from a GPU if there is one, and from the processor if it fails."""

from __future__ import annotations

import pytest

from cxrgaze_ray.models import predictor
from cxrgaze_ray.models.bundle import Bundle, make_bundle
from cxrgaze_ray.models.engines.engine import REFERENCE_CPU, REFERENCE_CUDA, Engine
from cxrgaze_ray.models.predictor import Predictor, with_golden
from cxrgaze_ray.models.settings import architecture
from cxrgaze_ray.models.zoo import build


@pytest.mark.parametrize("works", [True, False])
def test_golden_answers_are_a_gpu_s_where_it_works(monkeypatch: pytest.MonkeyPatch, works: bool) -> None:
    """What stands for the GPU computes on the processor: only which engine is asked is shown here."""
    asked, make = list[Engine](), Predictor.from_bundle

    def from_bundle(bundle: Bundle, engine: Engine) -> Predictor:
        asked.append(engine)
        if engine == REFERENCE_CUDA and not works:
            raise RuntimeError("CUDA out of memory")
        return make(bundle, REFERENCE_CPU)

    monkeypatch.setattr(predictor, "engines_for", lambda *_: (REFERENCE_CUDA,))
    monkeypatch.setattr(Predictor, "from_bundle", from_bundle)
    bundle = make_bundle(build(architecture("dnet201", "tiny")), "net", trained=False)
    found = with_golden(bundle).info.golden
    assert asked == ([REFERENCE_CUDA] if works else [REFERENCE_CUDA, REFERENCE_CPU])
    assert len(found) == 2
    assert make(bundle, REFERENCE_CPU).golden(found[0].seed) == found[0]
