"""What this installation can do."""

from __future__ import annotations

import os
import platform
import uuid
from dataclasses import dataclass
from pathlib import Path

from cxrgaze_ray.errors import CxrgazeError
from cxrgaze_ray.storage import open_store


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `needed` if nothing works without it."""

    subject: str
    sound: bool
    detail: str
    needed: bool = True


def examine(registry: str) -> list[Finding]:
    """Look at Python, devices, decoders, Ray and the registry's store."""
    return [_python(), _device(), *_decoders(), _ray(), _weights(), _store(registry), _registry(registry)]


def _python() -> Finding:
    return Finding("python", True, f"{platform.python_version()}, {os.cpu_count()} cores")


def _device() -> Finding:
    import torch

    from cxrgaze_ray.predictor import plan_engine

    gpus = torch.cuda.device_count()
    place = f"{gpus} x {torch.cuda.get_device_name()}" if gpus else "CPU only"
    return Finding("device", True, f"torch {torch.__version__}, {place}; fast engine is {plan_engine('fast').name}")


def _decoders() -> list[Finding]:
    from cxrgaze_ray.radiograph import CODECS

    compressed = [codec for codec in CODECS if codec.family != "native"]
    missing = "not installed: "
    return [
        Finding(f"decode {codec.name}", codec.available, ("" if codec.available else missing) + codec.library)
        for codec in compressed
    ]


def _ray() -> Finding:
    import ray

    mode = os.environ.get("RAY_AUTH_MODE", "Ray's default")
    return Finding("ray", True, f"{ray.__version__}, authentication: {mode}")


def _weights() -> Finding:
    import torch

    found = any(Path(torch.hub.get_dir(), "checkpoints").glob("densenet201*"))
    detail = "cached" if found else "not cached: downloaded when first needed, or give --backbone-weights FILE"
    return Finding("ImageNet weights", found, detail, needed=False)


def _store(uri: str) -> Finding:
    """Write a probe twice under a condition: the second one must be refused, or commits are not safe there."""
    store, key = open_store(uri), f".doctor-{uuid.uuid4().hex}"
    try:
        first, second = store.put_if_absent(key, b"a"), store.put_if_absent(key, b"b")
        kept = store.get(key)
        store.delete(key)
    except CxrgazeError as error:
        return Finding("registry store", False, str(error))
    sound = first and not second and kept == b"a"
    return Finding("registry store", sound, f"{uri}, conditional put {'works' if sound else 'is IGNORED'}")


def _registry(uri: str) -> Finding:
    from cxrgaze_ray.registry import Registry

    try:
        registry = Registry(open_store(uri))
        models = [f"{name} ({', '.join(registry.aliases(name)) or 'no alias'})" for name in registry.models()]
    except CxrgazeError as error:
        return Finding("registry", False, str(error), needed=False)
    return Finding("registry", bool(models), ", ".join(models) or "no model yet", needed=False)
