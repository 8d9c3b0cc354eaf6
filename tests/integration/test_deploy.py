"""The Serve config of clusters, as `serve deploy` puts it on one and changes it while requests come in."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from cxrgaze_ray.cluster.ports import free_port
from tests.dicom_files import gradient, make_dicom
from tests.integration.commands import Commands

pytestmark = pytest.mark.long

CONFIG = Path(__file__).parents[2] / "serve_configs" / "cluster.yaml"
TOKEN = "a-token-of-those-who-ask-for-scores"
BEGUN_S = 120.0


class Deployment:
    """An application on a cluster of its own, changed by `serve deploy`."""

    def __init__(self, cxrgaze: Commands, dashboard: str, registry: str, folder: Path) -> None:
        self._variables = cxrgaze.variables
        self._dashboard, self._file = dashboard, folder / "config.yaml"
        self._config = yaml.safe_load(CONFIG.read_text())
        self._config["http_options"] = {"host": "127.0.0.1", "port": free_port()}
        self.url = f"http://127.0.0.1:{self._config['http_options']['port']}"
        (application,) = self._config["applications"]
        self._ingress = application["args"]["ingress"]
        self._ingress["registry"] = registry
        for deployment in application["deployments"]:
            deployment["autoscaling_config"] |= {"min_replicas": 2, "max_replicas": 2}
            deployment["ray_actor_options"] = {"num_cpus": 0.5}

    def deploy(self, **ingress: Any) -> None:
        """Deploy the config with other settings of the ingress."""
        self._ingress |= ingress
        self._file.write_text(yaml.safe_dump(self._config))
        self._serve("deploy", str(self._file))

    def states(self) -> list[str]:
        """Return the states of the ingress's replicas, or none while the deployment is not as it is to be."""
        (application,) = yaml.safe_load(self._serve("status"))["applications"].values()
        replicas = application["deployments"].get("Ingress", {}).get("replica_states", {})
        return sorted(name for name, count in replicas.items() for _ in range(count))

    def status(self) -> str:
        """Return the application's status."""
        (application,) = yaml.safe_load(self._serve("status"))["applications"].values()
        return str(application["status"])

    def wait(self, done: Callable[[], bool]) -> None:
        """Wait until something is so."""
        end = time.monotonic() + BEGUN_S
        while not done():
            assert time.monotonic() < end, self._serve("status")
            time.sleep(0.5)

    def _serve(self, command: str, *words: str) -> str:
        program = Path(sys.executable).with_name("serve")
        done = subprocess.run(
            [program, command, *words, "--address", self._dashboard],
            capture_output=True, text=True, env=self._variables, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def deployment(
    cxrgaze_of: Callable[[str], Commands], registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Deployment:
    monkeypatch.setenv("CXRGAZE_TOKEN", TOKEN)
    cxrgaze = cxrgaze_of("operator")
    told = cxrgaze.up()
    cxrgaze.variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": told["token_file"]}
    return Deployment(cxrgaze, told["dashboard"], registry, tmp_path)


@contextmanager
def asking(url: str) -> Iterator[Counter[int | str]]:
    """Have three clients ask all the time; yield the answers by status, errors by name."""
    answers: Counter[int | str] = Counter()
    over, body = threading.Event(), make_dicom(gradient())

    def ask() -> None:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=120) as client:
            while not over.is_set():
                try:
                    answers[client.post("/v1/predict", content=body).status_code] += 1
                except httpx.HTTPError as error:
                    answers[type(error).__name__] += 1

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for one in clients:
        one.start()
    try:
        yield answers
    finally:
        over.set()
        for one in clients:
            one.join()


@pytest.mark.timeout(900)
def test_a_second_deployment_replaces_the_first_and_no_request_fails(deployment: Deployment) -> None:
    deployment.deploy()
    deployment.wait(lambda: deployment.status() == "RUNNING")
    assert httpx.post(f"{deployment.url}/v1/predict", content=make_dicom(gradient())).status_code == 401
    lateral = make_dicom(gradient(), ViewPosition="LL")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx.post(f"{deployment.url}/v1/predict", content=lateral, headers=headers, timeout=60).status_code == 422
    with asking(deployment.url) as answers:
        deployment.wait(lambda: answers[200] > 10)
        deployment.deploy(view="all")
        deployment.wait(lambda: deployment.status() == "DEPLOYING")
        deployment.wait(lambda: deployment.status() == "RUNNING")
        asked = answers.total()
        deployment.wait(lambda: answers.total() > asked + 20)
    assert set(answers) == {200}
    assert httpx.post(f"{deployment.url}/v1/predict", content=lateral, headers=headers, timeout=60).status_code == 200

    # a model that can't be found gets no request: its replicas are in the making, and the others answer
    with asking(deployment.url) as answers:
        deployment.deploy(model="cxrgaze@nobody")
        deployment.wait(lambda: deployment.states() == ["RUNNING", "STARTING"])
        asked = answers.total()
        deployment.wait(lambda: answers.total() > asked + 100)
        assert deployment.states() == ["RUNNING", "STARTING"]
    assert set(answers) == {200}
