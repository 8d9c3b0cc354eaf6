"""Work that was promised GPUs, on a cluster where they come late or never: run as a script by a test."""

from __future__ import annotations

import json
import threading
from typing import Any

from cxrgaze_ray.cluster.connection import ClusterSettings, connect, set_ray_environment

set_ray_environment()

from ray._private import utils  # noqa: E402
from ray.cluster_utils import Cluster as Nodes  # noqa: E402
from ray.util.placement_group import placement_group_table  # noqa: E402

from cxrgaze_ray.errors import EnvironmentFault  # noqa: E402

NODE: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 100 * 2**20}


def main() -> None:
    """Ask for GPUs that don't come, then for some that do; print what is said, found and left asked for."""
    nodes = Nodes(initialize_head=True, head_node_args=NODE)
    asked = ClusterSettings(address=nodes.address, gpus=2, gpus_wait_s=120)
    try:
        with connect(asked.model_copy(update={"gpus_wait_s": 1.0}), quiet=False):
            raise AssertionError
    except EnvironmentFault as error:
        said = str(error)
    vars(utils)["set_sigterm_handler"] = lambda _: None  # it would be set on a thread that may set none
    late = threading.Timer(5, lambda: nodes.add_node(num_gpus=2, **NODE))
    late.start()
    with connect(asked, quiet=False) as cluster:
        states = {one["state"] for one in placement_group_table().values()}
        print(json.dumps({"said": said, "gpus": cluster.gpus(), "asked": sorted(states)}), flush=True)
    late.join()
    nodes.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
