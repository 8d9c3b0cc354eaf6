"""The settings files of jobs, made of what `cxrgaze submit` was told: as a command's options, or as a file."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cxrgaze_ray.cli.examples import examples_folder
from cxrgaze_ray.config import Settings
from cxrgaze_ray.errors import ConfigError

Asked = dict[str, Any]

_PLACES = {
    "archive", "gaze", "out", "registry", "store", "stores", "reports", "policy", "page", "pseudonyms", "tensorboard",
    "backbone_weights", "json_out", "textfile", "baseline", "current", "labels", "not_in", "tracking",
}  # fmt: skip
"""Keys of paths and URIs."""

_NAMES = {"model", "parent"}
"""Keys of names in a registry, or of paths and URIs."""

_NESTED = {"request", "ingest", "outputs"}
"""Keys of settings with paths of their own; others hold none."""

_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]*@")


def score_settings(asked: Asked) -> Asked:
    """Return what jobs/score.py is told, from the options of `cxrgaze score`."""
    from cxrgaze_ray.api.run import make_request
    from cxrgaze_ray.cli.score import replica_settings

    names = ("model", "engine", "view", "decode", "identities", "limit", "cam", "follow_links")
    chosen = {name: asked[name] for name in names} | {"not_in": tuple(asked["not_in"] or ())}
    return {
        "request": make_request(asked["archive"], **chosen).model_dump(mode="json"),
        "settings": {"model": replica_settings(asked["replicas"], asked["gpus_per_replica"])},
        "pseudonyms": asked["pseudonymise"],
        **_some(asked, "out", "registry", "retry_failed", "new"),
    }


def ingest_settings(asked: Asked) -> Asked:
    """Return what jobs/ingest.py is told, from the options of `cxrgaze ingest`."""
    from cxrgaze_ray.cli.ingest import settings_of

    how = settings_of(**_some(asked, "keep", "labels", "split", "split_salt", "split_shares", "profile"))
    return {
        "settings": how.model_dump(mode="json"),
        "pseudonyms": asked["pseudonymise"],
        **_some(asked, "archive", "gaze", "out", "identities", "follow_links", "workers"),
    }


def train_settings(asked: Asked) -> Asked:
    """Return what jobs/train.py is told, from the options of `cxrgaze train`."""
    from cxrgaze_ray.cli.train import order_of

    return order_of(**asked).model_dump(mode="json", exclude_unset=True)


def retrain_settings(asked: Asked) -> Asked:
    """Return what jobs/retrain.py is told, from the options of `cxrgaze retrain`."""
    from cxrgaze_ray.cli.retrain import settings_of

    found = settings_of(**_some(asked, "config", "auto_promote", "phases", "page", "tracking"))
    return found.model_dump(mode="json", exclude_unset=True) | {"reason": asked["reason"]}


def tables_settings(asked: Asked) -> Asked:
    """Return what jobs/tables.py is told, from the options of `cxrgaze tables`."""
    from cxrgaze_ray.cli.tables import settings_of

    how = settings_of(**_some(asked, "preset", "only", "seeds", "epochs", "single"))
    return {
        "settings": how.model_dump(mode="json", exclude_unset=True),
        **_some(asked, "store", "registry", "out", "backbone_weights", "workers"),
    }


def monitor_settings(asked: Asked) -> Asked:
    """Return what jobs/monitor.py is told, from the options of `cxrgaze monitor`."""
    from cxrgaze_ray.lifecycle.monitoring import MonitorSettings
    from cxrgaze_ray.storage import read_settings

    how = {} if asked["config"] is None else read_settings(MonitorSettings, asked["config"]).model_dump(mode="json")
    outputs = _some(asked, "out", "json_out", "textfile")
    return {"settings": how, "outputs": outputs, **_some(asked, "baseline", "current", "last", "labels")}


FROM_OPTIONS: dict[str, Callable[[Asked], Asked]] = {
    "score": score_settings,
    "ingest": ingest_settings,
    "train": train_settings,
    "retrain": retrain_settings,
    "tables": tables_settings,
    "monitor": monitor_settings,
}
"""What makes the settings of each job of the options of the command of that name."""


def checked_settings(name: str, values: Asked) -> Asked:
    """Return a job's settings as it will read them, with paths in full: it runs in another folder.

    Raises
    ------
    ConfigError
        If the job would refuse them, or they hold a password: whoever has the cluster's token could read it.
    """
    settings = job_class(name).build(**values).model_dump(mode="json", exclude_unset=True)
    if any(_PASSWORD.search(text) for text in _texts(settings)):
        raise ConfigError(
            "A URL with a password in it would be sent with the job.",
            "Leave it out, and give the cluster's nodes the password in their environment.",
        )
    placed: Asked = _placed(settings)
    return placed


def waiting_for(gpus: int, name: str, values: Asked) -> Asked:
    """Return a job's settings with GPUs that it waits for.

    Raises
    ------
    ConfigError
        If the job needs no cluster.
    """
    if "cluster" not in job_class(name).model_fields:
        raise ConfigError(f"cxrgaze {name} computes on no GPU.", "Leave out --gpus.")
    return values | {"cluster": {**values.get("cluster", {}), "gpus": gpus}}


def job_file(name: str) -> Path:
    """Return a job's entry point, as it comes with the package."""
    return examples_folder() / "jobs" / f"{name}.py"


def job_class(name: str) -> type[Settings]:
    """Return the class of a job's settings, from its entry point."""
    known = f"cxrgaze_job_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, job_file(name))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    kind: type[Settings] = getattr(sys.modules[known], f"{name.capitalize()}Job")
    return kind


def local_paths(settings: Asked) -> list[str]:
    """Return the paths among settings: every node must see the same files there."""
    return [place for key, place in _walk(settings) if _is_path(key, place)]


def _some(asked: Asked, *names: str) -> Asked:
    return {name: asked[name] for name in names}


def _placed(settings: Any, key: str = "") -> Any:
    if isinstance(settings, dict):
        inside = not key or key in _NESTED
        return {name: _placed(one, name) if inside else one for name, one in settings.items()}
    if isinstance(settings, list | tuple):
        return [_placed(one, key) for one in settings]
    return str(Path(settings).expanduser().absolute()) if _is_path(key, settings) else settings


def _walk(settings: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(settings, dict):
        for name, one in settings.items() if not key or key in _NESTED else ():
            yield from _walk(one, name)
    elif isinstance(settings, list | tuple):
        for one in settings:
            yield from _walk(one, key)
    else:
        yield key, settings


def _texts(settings: Any) -> Iterator[str]:
    if isinstance(settings, dict):
        for one in settings.values():
            yield from _texts(one)
    elif isinstance(settings, list | tuple):
        for one in settings:
            yield from _texts(one)
    elif isinstance(settings, str):
        yield settings


def _is_path(key: str, place: Any) -> bool:
    if not isinstance(place, str) or "://" in place:
        return False
    return key in _PLACES or (key in _NAMES and Path(place).exists())
