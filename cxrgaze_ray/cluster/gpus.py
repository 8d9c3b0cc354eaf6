"""Wait for the GPUs that work was promised: on a cluster that grows on demand there are none before somebody asks."""

from __future__ import annotations

import time

from cxrgaze_ray.errors import EnvironmentFault

_LOOK_S = 1.0


def await_gpus(wanted: int, wait_s: float) -> None:
    """Return once the cluster that this process is on has so many GPUs, whoever uses them.

    What is missing is asked for as a placement group, which an autoscaler answers with nodes, and which ends with this
    process however that ends. Work sizes itself by what is there when it begins; so this comes before it.

    Raises
    ------
    EnvironmentFault
        If there are fewer after `wait_s` seconds.
    """
    if (there := _gpus()) >= wanted:
        return
    from ray.util.placement_group import placement_group, remove_placement_group

    asked = placement_group([{"GPU": 1.0}] * (wanted - there))
    try:
        last = time.monotonic() + wait_s
        while not asked.wait(_LOOK_S) and _gpus() < wanted:
            if time.monotonic() >= last:
                raise EnvironmentFault(
                    f"The cluster has {_gpus()} of the {wanted} GPUs that were asked for, after {wait_s:.0f} s.",
                    "Look at its GPU nodes, or ask for fewer: gpus.",
                )
    finally:
        remove_placement_group(asked)


def _gpus() -> int:
    import ray

    return int(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
