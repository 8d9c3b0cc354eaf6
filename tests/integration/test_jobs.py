"""The files in jobs/, as `ray job submit` would run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from cxrgaze_ray.cluster.connection import Cluster
from cxrgaze_ray.config import Settings
from cxrgaze_ray.lifecycle.monitoring import MonitorReport
from cxrgaze_ray.phantoms import PhantomReport
from tests.populations import make_run, population

ROOT = Path(__file__).parents[2]
JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("*.py"))


def load(name: str) -> ModuleType:
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"job_{name}", ROOT / "jobs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_jobs_are_there() -> None:
    assert {"ingest", "score", "train"} <= set(JOBS)


@pytest.mark.parametrize("name", JOBS)
def test_the_example_config_is_one_the_job_reads(name: str) -> None:
    module = load(name)
    settings: type[Settings] = getattr(module, f"{name.capitalize()}Job")
    settings.from_yaml((ROOT / "jobs" / f"{name}.yaml").read_text())
    assert len((ROOT / "jobs" / f"{name}.py").read_text().splitlines()) <= 40


def run(name: str, config: Path) -> tuple[int, dict[str, object]]:
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=200, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.long
@pytest.mark.usefixtures("application")
def test_a_score_job_prints_one_line_of_json(
    cluster: Cluster, phantoms: tuple[str, PhantomReport], registry: str, tmp_path: Path
) -> None:
    config = tmp_path / "score.yaml"
    request = {"archive": phantoms[0], "model": "cxrgaze@champion", "engine": "float32", "options": {"limit": 20}}
    job = {"request": request, "out": str(tmp_path), "registry": registry, "cluster": {"address": cluster.address}}
    config.write_text(yaml.safe_dump(job | {"settings": {"decoders": 1}}))
    code, result = run("score", config)
    assert (code, result["rows"]) == (0, 20)
    assert Path(str(result["run"]), "SUCCESS.json").exists()


@pytest.mark.long
def test_a_monitor_job_writes_its_report(tmp_path: Path) -> None:
    make_run(tmp_path / "usual", population(60, seed=1))
    make_run(tmp_path / "new", population(60, seed=2, site=1.0), name="new", at="2026-02-01T00:00:00+00:00")
    config, report = tmp_path / "monitor.yaml", tmp_path / "report.json"
    sides = {"baseline": [str(tmp_path / "usual")], "current": [str(tmp_path / "new")]}
    config.write_text(yaml.safe_dump(sides | {"outputs": {"json_out": str(report)}}))
    code, result = run("monitor", config)
    assert (code, result["enough"]) == (0, True)
    written = MonitorReport.model_validate_json(report.read_text())
    assert [one.drift for one in written.suspicions] == ["site"]
    assert str(result["suspicions"]).count("site") >= 1


def test_a_wrong_config_ends_with_2_and_names_the_key(tmp_path: Path) -> None:
    config = tmp_path / "score.yaml"
    config.write_text("out: x\nregistry: y\nspeed: 9\nrequest: {archive: a, model: m, engine: auto}\n")
    code, result = run("score", config)
    assert code == 2
    assert "speed" in str(result["message"])
