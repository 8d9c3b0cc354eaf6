"""A service that things happen to keeps its promises, as whoever runs the soak is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from cxrgaze_ray.benchmark.soak.cluster import CONTROLLER, DECODING, INGRESS, MODEL, PROXY
from cxrgaze_ray.benchmark.soak.faults import Event


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_promise_is_kept() -> None:
    command = [sys.executable, "-m", "cxrgaze_ray", "bench", "soak", "--minutes", "0.3", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ, timeout=850)
    assert ended.stdout, ended.stderr[-3000:]
    found = json.loads(ended.stdout)
    assert {one["what"]: one["found"] for one in found["promises"] if not one["kept"]} == {}
    assert (ended.returncode, found["kept"]) == (0, True)
    tallies = {one["event"]: one for one in found["tallies"]}
    assert list(tallies) == list(Event)
    assert all(one["scored"] > 0 and one["refused"] > 0 and one["wrong"] == 0 for one in tallies.values())
    assert {one["role"] for one in found["held"]} == {CONTROLLER, DECODING, INGRESS, MODEL, PROXY}
