"""A service that things happen to keeps its promises, as whoever runs the soak is told; but for those about seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from cxrgaze_ray.benchmark.soak.cluster import CONTROLLER, DECODING, INGRESS, MODEL, PROXY
from cxrgaze_ray.benchmark.soak.faults import Event
from cxrgaze_ray.errors import EXIT_STRICT


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_promise_is_kept() -> None:
    options = ["--minutes", "0.3", "--patience", "60", "--json"]
    command = [sys.executable, "-m", "cxrgaze_ray", "bench", "soak", *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ, timeout=850)
    assert ended.stdout, ended.stderr[-3000:]
    found = json.loads(ended.stdout)
    assert {one["what"]: one["found"] for one in found["promises"] if not (one["kept"] or one["timed"])} == {}
    assert ended.returncode == (0 if found["kept"] else EXIT_STRICT)
    tallies = {one["event"]: one for one in found["tallies"]}
    assert list(tallies) == list(Event)
    assert all(one["scored"] > 0 and one["refused"] > 0 and one["wrong"] == 0 for one in tallies.values())
    assert {one["role"] for one in found["held"]} == {CONTROLLER, DECODING, INGRESS, MODEL, PROXY}
