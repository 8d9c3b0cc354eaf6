"""What is installed from a wheel, without a checkout, works, and says what is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from cxrgaze_ray import __version__
from cxrgaze_ray.config import EXTRAS
from cxrgaze_ray.models.bundle import make_bundle, write_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.storage import LocalStore
from tests.dicom_files import gradient, make_dicom

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, as pip lays them out."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def run_from(site: Path, *arguments: str, cwd: Path) -> str:
    command = [sys.executable, "-P", "-m", "cxrgaze_ray", *arguments]
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_an_installed_command_knows_its_version_and_commit(installed: Path, tmp_path: Path) -> None:
    told = run_from(installed, "--version", cwd=tmp_path)
    assert told.startswith(f"cxrgaze {__version__} (commit ")
    assert (installed / "cxrgaze_ray" / "commit.txt").read_text().strip() in told


def test_an_installed_command_brings_its_examples(installed: Path, tmp_path: Path) -> None:
    run_from(installed, "examples", "copy", "site", cwd=tmp_path)
    for folder in ("jobs", "serve_configs", "infra"):
        ours = {
            file.relative_to(ROOT) for file in (ROOT / folder).rglob("*") if file.suffix in (".py", ".yaml", ".yml")
        }
        ours -= {Path("infra/packaging/record_commit.py")}  # it builds this package, and is no example
        assert ours <= {file.relative_to(tmp_path / "site") for file in (tmp_path / "site").rglob("*")}


def test_the_wheel_holds_the_package_and_nothing_of_the_tests(installed: Path) -> None:
    assert {entry.name for entry in installed.iterdir()} == {"cxrgaze_ray", f"cxrgaze-{__version__}.dist-info"}
    ours = {file.relative_to(ROOT) for file in (ROOT / "cxrgaze_ray").rglob("*.*") if "__pycache__" not in file.parts}
    assert ours <= {file.relative_to(installed) for file in installed.rglob("*")}


def test_a_wheel_is_built_without_git(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=os.environ | {"PATH": str(tmp_path)})
    (wheel,) = tmp_path.glob("*.whl")
    assert "cxrgaze_ray/commit.txt" not in zipfile.ZipFile(wheel).namelist()


def test_every_extra_is_one_that_can_be_asked_for() -> None:
    offered = PROJECT["optional-dependencies"]
    assert set(EXTRAS) <= set(offered)
    assert offered["all"] == [f"cxrgaze[{','.join(EXTRAS)}]"]


@pytest.mark.long
def test_who_scores_needs_no_extra(tmp_path: Path) -> None:
    write_bundle(LocalStore(str(tmp_path / "bundle")), make_bundle(build(PRESETS["tiny"], 5), "cxrgaze", trained=False))
    (tmp_path / "chest.dcm").write_bytes(make_dicom(gradient(200, 300), ViewPosition="PA"))
    hidden = {module: None for module, _ in EXTRAS.values()}
    code = f"""
import sys
sys.modules.update({hidden!r})
from cxrgaze_ray.cli import main
sys.argv = ["cxrgaze", "predict", "chest.dcm", "--model", "bundle", "--overlays", "out", "--engine", "float32"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out").iterdir())
