"""Commands that read what is there answer at once: they load neither torch nor Ray, whatever they share with others."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from cxrgaze_ray.models.bundle import make_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.storage import LocalStore
from tests.dicom_files import gradient, make_dicom
from tests.unit.export.test_export import make_scored

SLOW = ("torch", "torchvision", "ray", "sklearn", "fastapi")
"""Each takes a second or more. (pandas is not among them: Arrow itself loads it, where it is installed.)"""

COMMANDS = {
    "runs list": ["."],
    "runs show": ["run"],
    "runs verify": ["run"],
    "runs report": ["run"],
    "runs export": ["run", "--to", "csv", "--out", "tables"],
    "runs query": ["run", "select count(*) from results"],
    "archive list": ["archive", "--identities", "keep"],
    "archive look": ["archive", "--identities", "keep"],
    "models list": [],
    "models show": ["m"],
    "models verify": ["m"],
    "models card": ["m"],
    "models promote": ["m", "v1", "--reason", "again"],
    "models rollback": ["m", "--reason", "back"],
    "monitor": ["--baseline", "run", "--current", "run", "--out", "monitor.html"],
}

CODE = f"""
import json, sys
from cxrgaze_ray.cli import main
told = {{}}
for name, arguments in json.load(sys.stdin).items():
    sys.argv = ["cxrgaze", *name.split(), *arguments]
    try:
        main()
    except SystemExit as leaving:
        told[name] = [leaving.code or 0, sorted({{*{SLOW}}} & {{*sys.modules}})]
with open("told.json", "w") as file:
    json.dump(told, file)
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, list[str]]]:
    """Run every command in one process, and note how each ended and what was loaded by then."""
    root = tmp_path_factory.mktemp("work")
    registry = Registry(LocalStore(str(root / "registry")))
    for seed in range(2):
        pin = registry.publish(make_bundle(build(PRESETS["tiny"], seed), "m", trained=True))
        registry.promote("m", pin.version, reason="test")
    make_scored(root, {"a.dcm": make_dicom(gradient())})
    ended = subprocess.run(
        [sys.executable, "-c", CODE],
        input=json.dumps(COMMANDS),
        cwd=root,
        env={name: value for name, value in os.environ.items() if not name.startswith("CXRGAZE_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, tuple[int, list[str]]] = json.loads((root / "told.json").read_text())
    return found


UNSOUND = {"runs verify", "monitor"}
"""Made-up rows are not what the run's model says, and a run is not compared with itself."""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_only_reads_loads_nothing_slow(command: str, told: dict[str, tuple[int, list[str]]]) -> None:
    code, loaded = told[command]
    assert not loaded
    assert code == (2 if command in UNSOUND else 0)


def test_a_driver_and_an_ingress_load_no_torch() -> None:
    """It would be more than half of their memory; replicas alone compute."""
    code = "import sys, cxrgaze_ray.scoring.driver, cxrgaze_ray.serving.ingress; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
