"""`cxrgaze serve`, as a user starts and stops it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from cxrgaze_ray.models.bundle import make_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.storage import LocalStore
from tests.dicom_files import gradient, make_dicom

CONFIG = Path(__file__).parents[2] / "serve_configs" / "local.yaml"


@pytest.mark.long
def test_it_serves_until_it_is_asked_to_stop(tmp_path: Path) -> None:
    registry = Registry(LocalStore(str(tmp_path)))
    pin = registry.publish(make_bundle(build(PRESETS["tiny"], 5), "cxrgaze", trained=False))
    registry.promote("cxrgaze", pin.version)
    command = [sys.executable, "-m", "cxrgaze_ray", "serve", "--config", str(CONFIG), "--port", "8765"]
    command += ["--registry", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as server:
        watchdog = threading.Timer(200, server.kill)
        watchdog.start()
        try:
            assert server.stderr is not None
            assert server.stderr.readline().startswith("Starting Ray")
            told = server.stderr.readline()
            found = re.search(r"on (http://127\.0\.0\.1:8765)\.", told)
            assert found, told
            answer = httpx.post(f"{found[1]}/v1/predict", content=make_dicom(gradient()), timeout=60)
            assert answer.json()["model"]["version"] == "v0001"
            server.send_signal(signal.SIGTERM)
            rest = server.stderr.read()
            assert server.wait() == 130, rest
            assert "Traceback" not in rest
        finally:
            watchdog.cancel()
            server.kill()
