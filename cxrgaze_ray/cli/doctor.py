"""Find out what this installation can do."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrgaze_ray.cluster.ray_internals import STAYS_LOCAL
from cxrgaze_ray.errors import CxrgazeError
from cxrgaze_ray.storage import open_store, probe, s3_summary


@dataclass(frozen=True)
class Check:
    """One thing that was checked; `needed` if nothing works without it."""

    subject: str
    sound: bool
    detail: str
    needed: bool = True


def examine(registry: str, probes: Sequence[str] = ()) -> list[Check]:
    """Check Python, devices, decoders, Ray, S3's options, and the stores of the registry and of other URIs."""
    stores = [_store("registry store", registry), *(_store(f"store {uri}", uri) for uri in probes)]
    return [_python(), _device(), *_decoders(), _ray(), _weights(), _s3(), *stores, _registry(registry)]


def _python() -> Check:
    return Check("python", True, f"{platform.python_version()}, {os.cpu_count()} cores")


def _device() -> Check:
    import torch

    from cxrgaze_ray.models.engines.engine import engines_for

    gpus = torch.cuda.device_count()
    place = f"{gpus} x {torch.cuda.get_device_name()}" if gpus else "CPU only"
    return Check(
        "device", True, f"torch {torch.__version__}, {place}; --engine fast tries {engines_for('fast')[0].name} first"
    )


def _decoders() -> list[Check]:
    from cxrgaze_ray.radiograph.reading import CODECS

    compressed = [codec for codec in CODECS if codec.family != "native"]
    missing = "not installed: "
    return [
        Check(f"decode {codec.name}", codec.available, ("" if codec.available else missing) + codec.library)
        for codec in compressed
    ]


def _ray() -> Check:
    import ray

    mode = os.environ.get("RAY_AUTH_MODE", "Ray's default")
    where = f"as {STAYS_LOCAL} says" if STAYS_LOCAL in os.environ else "on 127.0.0.1"
    open_ports = "Serve's replicas with the token, PyTorch's process group in training without"
    listens = f"a private cluster listens {where}; on all interfaces: {open_ports}"
    return Check("ray", True, f"{ray.__version__}, authentication: {mode}; {listens}")


def _weights() -> Check:
    import torch

    found = any(Path(torch.hub.get_dir(), "checkpoints").glob("densenet201*"))
    detail = "cached" if found else "not cached: downloaded when first needed, unless --backbone-weights FILE is given"
    return Check("ImageNet weights", found, detail, needed=False)


def _s3() -> Check:
    try:
        return Check("s3", True, s3_summary())
    except CxrgazeError as error:
        return Check("s3", False, str(error))


def _store(subject: str, uri: str) -> Check:
    store = open_store(uri)
    try:
        result = probe(store)
    except CxrgazeError as error:
        return Check(subject, False, f"{uri}: {error}")
    return Check(subject, result.sound, f"{uri}, {result}")


def _registry(uri: str) -> Check:
    from cxrgaze_ray.registry.versions import Registry

    try:
        registry = Registry(open_store(uri).without_retries())
        models = [f"{name} ({', '.join(registry.aliases(name)) or 'no alias'})" for name in registry.models()]
    except CxrgazeError as error:
        return Check("registry", False, str(error), needed=False)
    return Check("registry", bool(models), ", ".join(models) or "no model yet", needed=False)
