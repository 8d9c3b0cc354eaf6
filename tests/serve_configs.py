"""The Serve config of a cluster, and the same for one small machine without GPUs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

CLUSTER: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[1] / "serve_configs" / "cluster.yaml").read_text(encoding="utf-8")
)
"""Contents of `serve_configs/cluster.yaml`."""


def without_gpus(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config with one or two small replicas of each deployment, on CPUs; all else stays."""
    found = copy.deepcopy(config)
    for deployment in found["applications"][0]["deployments"]:
        deployment["autoscaling_config"] |= {"min_replicas": 1, "max_replicas": 2}
        deployment["ray_actor_options"] = {"num_cpus": 1}
    return found
