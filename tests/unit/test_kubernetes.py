"""What is given to Kubernetes: `infra/kuberay`, every kustomization of it as it is applied."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml

from cxrgaze_ray import __version__
from cxrgaze_ray.cli import app
from cxrgaze_ray.cluster.connection import PROXY_MIDDLEWARES, PROXY_VARIABLE
from cxrgaze_ray.config.serve_file import TOKEN_VARIABLE, ServeFile
from tests.kustomizations import Document, containers, documents, render
from tests.serve_configs import CLUSTER, without_gpus

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "infra" / "kuberay"
FOLDERS = sorted(path.parent for path in KUBERAY.rglob("kustomization.yaml"))
EVERY = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(KUBERAY)))
APPLIED = ("overlays/local", "overlays/gpu-cluster", "overlays/gpu-cluster/jobs", "nightly/raycron")
KUBERNETES = "1.33"

PLAIN = {"HOME", "RAY_USAGE_STATS_ENABLED", "RAY_ENABLE_UV_RUN_RUNTIME_ENV", PROXY_VARIABLE}
PLAIN |= {"CXRGAZE_REGISTRY", "CXRGAZE_PSEUDONYMS"}
"""Variables that are written out in manifests; all others come from Secrets."""

JOB = "entrypoint submissionMode backoffLimit activeDeadlineSeconds shutdownAfterJobFinishes ttlSecondsAfterFinished"
CLUSTER_KEYS = "rayVersion authOptions enableInTreeAutoscaling autoscalerOptions headGroupSpec workerGroupSpecs"
FIELDS = {
    "RayService": "excludeHeadPodFromServeSvc upgradeStrategy serveConfigV2 rayClusterConfig",
    "RayJob": f"{JOB} submitterPodTemplate rayClusterSpec",
    "RayCronJob": "schedule timeZone jobTemplate",
    "jobTemplate": f"{JOB} submitterPodTemplate rayClusterSpec",
    "rayClusterConfig": CLUSTER_KEYS,
    "rayClusterSpec": CLUSTER_KEYS,
    "upgradeStrategy": "type",
    "authOptions": "mode secretName",
    "autoscalerOptions": "version idleTimeoutSeconds securityContext resources",
    "headGroupSpec": "rayStartParams template",
    "workerGroupSpecs": "groupName replicas minReplicas maxReplicas rayStartParams template",
    "rayStartParams": "num-cpus dashboard-host metrics-export-port",
}
"""The keys of KubeRay's resources that are used here, by the key they are below; others are dropped silently."""

_rendered = cache(render)


def resources(kind: str | None = None, folder: Path | None = None) -> Iterator[Document]:
    """Yield the resources of one kustomization, or of all, perhaps of one kind."""
    for one in [folder] if folder else FOLDERS:
        yield from (document for document in _rendered(one) if kind in (None, document["kind"]))


def below(node: Any, key: str) -> Iterator[Any]:
    """Yield all that has this key, however deep."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from below(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from below(value, key)


def pods(document: Document) -> Iterator[Document]:
    """Yield every pod template of a resource."""
    for key in ("template", "submitterPodTemplate"):
        yield from (one for one in below(document, key) if "containers" in one["spec"])


def clusters(folder: Path | None = None) -> Iterator[Document]:
    """Yield every Ray cluster."""
    for document in resources(folder=folder):
        for key in ("rayClusterConfig", "rayClusterSpec"):
            yield from below(document, key)


@EVERY
def test_every_kustomization_renders_into_one_namespace(folder: Path) -> None:
    for document in resources(folder=folder):
        assert {"apiVersion", "kind", "metadata"} <= set(document)
        assert document["metadata"].get("namespace", "cxrgaze") == "cxrgaze"


@pytest.mark.parametrize("folder", [KUBERAY / "overlays" / name for name in ("local", "gpu-cluster/jobs")])
def test_kubectl_renders_the_same(folder: Path) -> None:
    kubectl = shutil.which("kubectl")
    version = subprocess.run([kubectl or "false", "version", "--client"], capture_output=True, text=True, check=False)
    if not re.search(r"Kustomize Version: v[5-9]", version.stdout):
        pytest.skip("needs a kubectl with kustomize 5")
    said = subprocess.run([str(kubectl), "kustomize", folder], capture_output=True, text=True, check=True).stdout
    assert by_name(yaml.safe_load_all(said)) == by_name(resources(folder=folder))


def by_name(found: Iterator[Document]) -> dict[tuple[str, str], Document]:
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def test_no_file_is_left_out() -> None:
    used = set()
    for folder in FOLDERS:
        (one,) = documents(folder / "kustomization.yaml")
        names = ["kustomization.yaml", *one["resources"], *(patch["path"] for patch in one.get("patches", []))]
        used |= {(folder / name).resolve() for name in names}
    assert {path.resolve() for path in KUBERAY.rglob("*.*")} <= used


def test_what_is_kubernetes_own_is_as_kubernetes_has_it() -> None:
    seen = []
    for document in [one for folder in APPLIED for one in resources(folder=KUBERAY / folder)]:
        found = [{"apiVersion": "v1", "kind": "Pod"} | pod for pod in pods(document)]
        ours = not re.match(r"ray\.io/|monitoring\.coreos\.com/", document["apiVersion"])
        for one in [document] * ours + found:
            if one not in seen:
                seen.append(one)
                kubernetes_validate.validate(one, KUBERNETES, strict=True)
    assert len(seen) > 20


def test_kuberay_s_resources_have_only_keys_that_it_knows() -> None:
    for document in resources():
        if document["apiVersion"].startswith("ray.io/"):
            assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
            check_keys(document["kind"], document["spec"])


def check_keys(place: str, node: Any) -> None:
    for one in node if isinstance(node, list) else [node]:
        if place in FIELDS:
            assert set(one) <= set(FIELDS[place].split()), place
            for key, value in one.items():
                check_keys(key, value)


def test_the_service_is_that_of_the_serve_config() -> None:
    (service,) = resources("RayService", KUBERAY / "overlays" / "gpu-cluster")
    assert yaml.safe_load(service["spec"]["serveConfigV2"]) == CLUSTER
    (local,) = resources("RayService", KUBERAY / "overlays" / "local")
    assert yaml.safe_load(local["spec"]["serveConfigV2"]) == without_gpus(CLUSTER)


def test_the_service_s_config_has_no_unknown_key_or_deployment_and_no_page() -> None:
    for service in resources("RayService"):
        file = ServeFile.build(**yaml.safe_load(service["spec"]["serveConfigV2"]))
        assert (file.ingress.require_token, file.ingress.page) == (True, False)
        assert {one.name for one in file.applications[0].deployments} == {"Ingress", "Model"}
        ports = {
            port["containerPort"] for ports in below(service, "ports") for port in ports if port["name"] == "serve"
        }
        assert ports == {file.http_options.port}


def test_every_node_of_the_service_has_the_token_and_bounds_requests() -> None:
    for service in resources("RayService"):
        for pod in pods(service):
            (node,) = pod["spec"]["containers"]
            env = {one["name"]: one for one in node["env"]}
            assert env[PROXY_VARIABLE]["value"] == PROXY_MIDDLEWARES
            assert "secretKeyRef" in env[TOKEN_VARIABLE]["valueFrom"]


def test_a_replica_fits_on_a_worker() -> None:
    for service in resources("RayService"):
        groups = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        limits = [group["template"]["spec"]["containers"][0]["resources"]["limits"] for group in groups]
        file = ServeFile.build(**yaml.safe_load(service["spec"]["serveConfigV2"]))
        for options in file.applications[0].deployments:
            asked = options.ray_actor_options
            assert asked
            fits = [
                one for one in limits
                if int(one["cpu"]) >= asked.num_cpus and int(one.get("nvidia.com/gpu", 0)) >= asked.num_gpus
            ]  # fmt: skip
            assert fits, options.name


def test_versions_are_those_of_the_lock_and_of_the_package() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert {f"ray=={cluster['rayVersion']}" for cluster in clusters()} <= set(lock.split())
    for container in containers(list(resources())):
        assert re.fullmatch(rf"(registry\.example\.org/)?cxrgaze:{re.escape(__version__)}", container["image"])


def called() -> Iterator[list[str]]:
    """Yield the words of every command of ours."""
    for document in resources():
        yield from map(shlex.split, below(document, "entrypoint"))
        for container in containers(document):
            words = container.get("command", [])
            yield from [shlex.split(words[2].partition(";")[0])] if words[:2] == ["sh", "-c"] else [words]


def test_every_entry_point_exists_and_can_be_typed() -> None:
    known: dict[str, Any] = vars(typer.main.get_command(app))["commands"]
    tried = set()
    for words in called():
        if words and words[0] != "install":
            assert words[0] == "cxrgaze"
            known[words[1]].make_context(words[1], words[2:])
            tried.add(words[1])
    assert tried == {"ingest", "train", "score", "monitor", "retrain"}


def test_secrets_are_named_and_never_written() -> None:
    assert not list(resources("Secret"))
    for container in containers(list(resources())):
        assert {one["name"] for one in container.get("env", []) if "value" in one} <= PLAIN
    named = {one["name"] for one in below(list(resources()), "secretRef")}
    named |= {one["name"] for one in below(list(resources()), "secretKeyRef")}
    named |= set(below(list(resources()), "secretName"))
    told = (ROOT / "docs" / "how-to" / "kubernetes.md").read_text()
    assert {name for name in named if f"create secret generic {name}" not in told} == set()


@EVERY
def test_every_container_is_bounded_and_without_rights(folder: Path) -> None:
    for document in resources(folder=folder):
        for pod in pods(document):
            assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
            assert pod["spec"]["securityContext"]["runAsUser"] > 0
            assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for container in containers(pod):
                bounded(container)
                mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
                assert "/tmp" in mounts or container["name"] == "key", "Ray, and HOME, write there"
                assert set(mounts.values()) <= {one["name"] for one in pod["spec"]["volumes"]}
    for cluster in clusters(folder):
        bounded(cluster["autoscalerOptions"])


def bounded(container: Document) -> None:
    context = container["securityContext"]
    assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
    assert context["capabilities"] == {"drop": ["ALL"]}
    for bounds in (container["resources"]["requests"], container["resources"]["limits"]):
        assert {"cpu", "memory"} <= set(bounds)


@EVERY
def test_what_stays_is_asked_for_its_health(folder: Path) -> None:
    for document in resources(folder=folder):
        for pod in below(document, "template"):
            if "cxrgaze" in pod.get("metadata", {}).get("labels", {}) and document["kind"] != "CronJob":
                (container,) = pod["spec"]["containers"]
                assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)


def test_clusters_ask_for_a_token_scale_and_keep_the_head_free() -> None:
    for cluster in clusters():
        assert cluster["authOptions"] == {"mode": "token", "secretName": "cxrgaze-ray"}
        assert cluster["enableInTreeAutoscaling"] is True
        assert cluster["autoscalerOptions"]["version"] == "v2"
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        for group in cluster["workerGroupSpecs"]:
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
            assert group["minReplicas"] == 0 or group["groupName"] != "gpu"
            assert group["template"]["spec"]["automountServiceAccountToken"] is False


def test_a_job_finds_its_workers_when_it_begins() -> None:
    """A driver divides its work by what the cluster has then: the first GPU must be there before it is asked for."""
    for kind in ("RayJob", "RayCronJob"):
        for document in resources(kind):
            for group in next(below(document, "workerGroupSpecs")):
                assert group["replicas"] >= 1


def test_both_ways_of_a_night_do_the_same() -> None:
    plain, ray = ({one["metadata"]["name"]: one for one in resources(None, KUBERAY / "nightly" / way)} for way in WAYS)
    assert plain.keys() == ray.keys()
    for name in ("cxrgaze-score", "cxrgaze-retrain"):
        (container,) = next(below(plain[name], "containers"))
        words = container["command"]
        command = words[2].partition(";")[0] if words[0] == "sh" else shlex.join(words)
        assert ray[name]["spec"]["jobTemplate"]["entrypoint"] == command
        for key in ("schedule", "timeZone"):
            assert ray[name]["spec"][key] == plain[name]["spec"][key]
        for key in ("backoffLimit", "activeDeadlineSeconds"):
            assert ray[name]["spec"]["jobTemplate"][key] == plain[name]["spec"]["jobTemplate"]["spec"][key]
        assert plain[name]["spec"]["concurrencyPolicy"] == "Forbid"
    assert ray["cxrgaze-retrain"]["spec"]["jobTemplate"]["backoffLimit"] == 0, "a rejected candidate is not tried again"


WAYS = ("cron", "raycron")


def test_a_night_s_cluster_is_that_of_the_jobs() -> None:
    for name in ("cluster.yaml", "submitter.yaml"):
        ((job,),), ((night,),) = (documents(KUBERAY / one / name) for one in ("jobs", "nightly/raycron"))
        assert job["value"] == night["value"]


@pytest.mark.parametrize(("code", "passes"), [(0, True), (10, True), (11, True), (4, False), (1, False)])
def test_the_gate_s_answers_are_no_failures_to_kubernetes(tmp_path: Path, code: int, passes: bool) -> None:
    (cron,) = [one for one in resources("CronJob", KUBERAY / "nightly/cron") if "retrain" in one["metadata"]["name"]]
    ((container,),) = below(cron, "containers")
    (tmp_path / "cxrgaze").write_text(f"#!/bin/sh\nexit {code}\n")
    (tmp_path / "cxrgaze").chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    assert subprocess.run(container["command"], env={"PATH": path}, check=False).returncode == (0 if passes else code)


OPEN = {"cxrgaze-closed": [], "cxrgaze-http": [8000], "cxrgaze-metrics": [8080, 9464, 44217, 44227]}
OPEN |= {"cxrgaze-operator": [8000, 8265]}


def test_the_network_is_closed_but_for_who_is_named() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in resources("NetworkPolicy", KUBERAY / "base")}
    assert policies["cxrgaze-closed"] == {
        "podSelector": {"matchExpressions": [{"key": "cxrgaze", "operator": "Exists"}]},
        "policyTypes": ["Ingress"],
    }
    for name, spec in policies.items():
        opened = sorted(port["port"] for rule in spec.get("ingress", []) for port in rule.get("ports", []))
        assert all(rule["from"] for rule in spec.get("ingress", []))
        if name.endswith("-cluster"):
            assert spec["ingress"] == [{"from": [{"podSelector": spec["podSelector"]}]}]
        else:
            assert opened == OPEN[name]
    ((prometheus,),) = (rule["from"] for rule in policies["cxrgaze-metrics"]["ingress"])
    assert prometheus["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}


@EVERY
def test_every_pod_is_one_that_the_network_s_rules_know(folder: Path) -> None:
    for document in resources(folder=folder):
        for pod in pods(document):
            assert pod["metadata"]["labels"]["cxrgaze"] in ("serving", "batch", "nightly", "monitor")


def test_a_drained_node_leaves_a_worker_that_answers() -> None:
    (budget,) = resources("PodDisruptionBudget", KUBERAY / "base")
    (service,) = resources("RayService", KUBERAY / "base")
    selected = dict(budget["spec"]["selector"]["matchLabels"])
    assert selected.pop("ray.io/node-type") == "worker"
    group = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    assert selected == group["template"]["metadata"]["labels"]
    assert budget["spec"]["minAvailable"] < group["minReplicas"]


def test_prometheus_looks_at_ports_that_pods_have() -> None:
    (monitor,) = resources("PodMonitor")
    asked = monitor["spec"]["podMetricsEndpoints"]
    assert all(one["honorLabels"] for one in asked)
    there = {port["name"]: port["containerPort"] for ports in below(list(resources("RayService")), "ports")
             for port in ports if "name" in port}  # fmt: skip
    assert {there[one["port"]] for one in asked} == set(OPEN["cxrgaze-metrics"]) - {9464}
