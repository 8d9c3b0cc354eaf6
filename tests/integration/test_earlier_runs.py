"""A run that an earlier version began is finished by this one: see `tests/artefacts`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.scoring.runs import Request, ScoreOptions
from cxrgaze_ray.storage import Store, open_store
from tests.integration.scored import rows, score

ARTEFACTS = Path(__file__).parents[1] / "artefacts"
EXPECTED: dict[str, Any] = json.loads((ARTEFACTS / "expected.json").read_text())

ROOT = "s3://test/before"
"""Where they were written: a run's id and its plan hold the places of its files."""

pytestmark = pytest.mark.usefixtures("application", "s3")


@pytest.fixture
def earlier(s3: str) -> Store:
    store = open_store(ROOT)
    for path in ARTEFACTS.rglob("*"):
        if path.is_file():
            store.put(str(path.relative_to(ARTEFACTS)), path.read_bytes())
    return store


def test_a_run_begun_before_is_finished_with_the_rows_it_would_have_had(earlier: Store) -> None:
    options = ScoreOptions(identities="keep")
    archive = f"{ROOT}/archive/list.csv"
    asked = Request(archive=archive, model="cxrgaze@champion", engine="float32", options=options)
    said: list[str] = []
    outcome = score(asked, f"{ROOT}/runs", f"{ROOT}/registry", identities=Identities, say=said.append)
    assert said[1] == f"Continuing run {EXPECTED['run_id']}: 1 of 2 shards are committed."
    assert (outcome.continued, outcome.success.rows) == (True, EXPECTED["row_count"])
    found = {(row["shard"], row["position"]): row for row in rows(outcome.run).to_pylist()}
    for wanted in EXPECTED["rows"]:
        row = found[wanted["shard"], wanted["position"]]
        png = row["saliency_png"]
        row["saliency_png_sha256"] = png and hashlib.sha256(png).hexdigest()
        row |= {name: pytest.approx(value, abs=1e-5) for name, value in wanted.items() if isinstance(value, float)}
        assert wanted == {name: row[name] for name in wanted}
