"""The device that a process computes on, for the metrics: how long it was busy, and its memory."""

from __future__ import annotations

import os
import time
from pathlib import Path

from cxrgaze_ray import telemetry
from cxrgaze_ray.cluster.memory import machine_bytes
from cxrgaze_ray.telemetry.table import DEVICE_BUSY, DEVICE_MEMORY

_LOOK_S = 5.0
"""Least time between two looks at the memory: a forward pass may take a millisecond."""

_MACHINE, _PROCESS = Path("/proc/meminfo"), Path("/proc/self/statm")


class DeviceMeter:
    """Tells of the device after a piece of work.

    Parameters
    ----------
    job
        ``serve`` or ``train``.
    device
        ``cpu`` or ``cuda``.
    """

    def __init__(self, job: str, device: str) -> None:
        self._labels = {"job": job, "device": device}
        self._looked = -_LOOK_S

    def computed(self, seconds: float) -> None:
        """Add a time that the device computed, and look at its memory now and then."""
        telemetry.record(DEVICE_BUSY, seconds, **self._labels)
        if time.monotonic() - self._looked < _LOOK_S:
            return
        self._looked = time.monotonic()
        for memory, size in memory_of(self._labels["device"]).items():
            telemetry.record(DEVICE_MEMORY, size, memory=memory, **self._labels)


def memory_of(device: str) -> dict[str, int]:
    """Return the bytes of a device's memory that this process holds, that all use, and that there are.

    Empty where the system does not say.
    """
    if device == "cuda":
        import torch  # not for those who only name a device

        free, total = torch.cuda.mem_get_info()
        return {"process": torch.cuda.memory_reserved(), "used": total - free, "total": total}
    if not (_MACHINE.exists() and _PROCESS.exists()):
        return {}
    held = int(_PROCESS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    total, available = map(machine_bytes, ("MemTotal", "MemAvailable"))
    return {"process": held, "used": total - available, "total": total}
