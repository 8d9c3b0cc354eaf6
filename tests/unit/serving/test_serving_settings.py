"""Serve config files are read strictly, and are what Ray reads too; replicas are asked for within sense."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from cxrgaze_ray.cli.score import replica_settings
from cxrgaze_ray.config.serve_file import IngressSettings
from cxrgaze_ray.errors import ConfigError, EnvironmentFault
from cxrgaze_ray.http.proxy import ProxyLimits
from cxrgaze_ray.scoring.driver import ScoreSettings
from cxrgaze_ray.serving import ModelSettings, ServeFile
from cxrgaze_ray.serving.batch import CALLS_A_REPLICA, _deployment, _remove_abandoned
from cxrgaze_ray.serving.ingress import MAX_INSIDE, check_closed

FILES = sorted((Path(__file__).parents[3] / "serve_configs").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_config_file_is_one_for_us_and_for_ray(path: Path) -> None:
    text = path.read_text()
    ours, rays = ServeFile.from_yaml(text), ServeDeploySchema.model_validate(yaml.safe_load(text))
    assert [one.name for one in rays.applications[0].deployments] == ["Ingress", "Model"]
    for mine, theirs in zip(ours.applications[0].deployments, rays.applications[0].deployments, strict=True):
        for name, value in mine.model_dump(exclude_unset=True).items():
            assert same(getattr(theirs, name), value), name


def same(theirs: Any, ours: Any) -> bool:
    """Whether what we read stands in what Ray read, which knows more keys."""
    if not isinstance(ours, dict):
        return bool(theirs == ours)
    found = theirs if isinstance(theirs, dict) else theirs.model_dump()
    return all(found[name] == value for name, value in ours.items())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_ingress_takes_on_more_than_its_proxy_lets_in(path: Path) -> None:
    (ingress,) = [
        one for one in ServeFile.from_yaml(path.read_text()).applications[0].deployments if one.name == "Ingress"
    ]
    assert (ingress.max_ongoing_requests or MAX_INSIDE) > ProxyLimits().requests


def test_the_cluster_s_file_asks_for_a_token_and_several_replicas_on_gpus() -> None:
    file = ServeFile.from_yaml(next(path for path in FILES if path.name == "cluster.yaml").read_text())
    model = next(one for one in file.applications[0].deployments if one.name == "Model")
    assert file.ingress.require_token
    assert file.ingress.page is False
    assert file.proxy_location == "EveryNode"
    assert model.autoscaling_config is not None
    assert model.autoscaling_config.max_replicas > 1
    assert model.ray_actor_options is not None
    assert model.ray_actor_options.num_gpus > 0


@pytest.mark.parametrize(
    ("host", "said", "shown"),
    [
        ("127.0.0.1", None, True),
        ("::1", None, True),
        ("0.0.0.0", None, False),
        ("0.0.0.0", True, True),
        ("::1", False, False),
    ],
)
def test_the_page_is_on_for_this_machine_alone_or_if_asked_for(host: str, said: bool | None, shown: bool) -> None:
    file = ServeFile.build(http_options={"host": host}, applications=[{"args": {"ingress": {"page": said}}}])
    assert file.with_page().ingress.page is shown


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("applications: [{deployments: [{name: Modle}]}]", "name"),
        ("applications: [{deployments: [{name: Model, num_replica: 2}]}]", "num_replica"),
        ("applications: [{args: {model: {max_replicas: 2}}}]", "max_replicas"),
        ("proxy_location: Everywhere", "proxy_location"),
    ],
)
def test_misspelt_keys_are_named(text: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ServeFile.from_yaml(text)
    assert named in caught.value.message


@pytest.mark.parametrize(
    ("host", "required", "closed"),
    [
        ("127.0.0.1", False, False),
        (None, False, False),
        ("127.0.0.1", True, True),
        ("0.0.0.0", False, True),
        ("::", False, True),
    ],
)
def test_an_ingress_that_others_can_reach_does_not_start_without_a_token(
    monkeypatch: pytest.MonkeyPatch, host: str | None, required: bool, closed: bool
) -> None:
    monkeypatch.setattr("cxrgaze_ray.serving.ingress.http_host", lambda: host)
    with pytest.raises(EnvironmentFault, match="CXRGAZE_TOKEN is not set") if closed else nullcontext():
        check_closed(IngressSettings(require_token=required))


@pytest.mark.parametrize(
    "values", [{"min_replicas": 0}, {"min_replicas": 3, "max_replicas": 2}, {"gpus": -1.0}, {"cpus": -0.5}]
)
def test_impossible_replicas_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ModelSettings.build(**values)


@pytest.mark.parametrize(("asked", "there", "given"), [(None, 0, 0.0), (None, 2, 1.0), (0.5, 2, 0.5), (0.0, 2, 0.0)])
def test_a_replica_takes_a_gpu_where_there_is_one(asked: float | None, there: int, given: float) -> None:
    deployment = _deployment(ModelSettings(gpus=asked), there)
    assert deployment.ray_actor_options is not None
    assert deployment.ray_actor_options["num_gpus"] == given


def test_replicas_scale_between_limits_and_take_single_requests_beside_a_job() -> None:
    settings = ModelSettings(min_replicas=2, max_replicas=40)
    deployment = _deployment(settings, 0)
    scaling = deployment._deployment_config.autoscaling_config
    assert scaling is not None
    assert (scaling.min_replicas, scaling.max_replicas) == (2, 40)
    assert deployment.max_ongoing_requests > CALLS_A_REPLICA * settings.max_replicas
    assert _deployment(ModelSettings(min_replicas=3, max_replicas=3), 0).num_replicas == 3


def test_a_job_s_config_carries_the_replicas() -> None:
    settings = ScoreSettings.from_yaml("model: {min_replicas: 1, max_replicas: 4, gpus: 0.5}")
    assert (settings.model.max_replicas, settings.model.gpus, settings.scorers) == (4, 0.5, None)


@pytest.mark.parametrize(
    ("replicas", "gpus", "settings"),
    [
        (None, None, {}),
        ("3", None, {"min_replicas": 3, "max_replicas": 3}),
        ("1:4", 0.5, {"min_replicas": 1, "max_replicas": 4, "gpus": 0.5}),
    ],
)
def test_options_become_replicas(replicas: str | None, gpus: float | None, settings: dict[str, Any]) -> None:
    assert replica_settings(replicas, gpus) == settings


def test_what_a_killed_job_left_is_removed_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    deleted: list[str] = []
    jobs = [{"JobID": "01000000", "IsDead": True}, {"JobID": "02000000", "IsDead": False}]
    monkeypatch.setattr("ray._private.state.jobs", lambda: jobs)
    monkeypatch.setattr("ray.serve.delete", deleted.append)
    _remove_abandoned(
        ["cxrgaze-batch-01000000-ab", "cxrgaze-batch-02000000-cd", "another", "cxrgaze-batch-03000000-ef"]
    )
    assert deleted == ["cxrgaze-batch-01000000-ab"]
