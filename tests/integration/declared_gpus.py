"""A batch job's own application on a cluster that says it has two GPUs and has none: run as a script by a test."""

from __future__ import annotations

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import ray
from ray import serve

from cxrgaze_ray.models.bundle import make_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.serving import BatchModel, ModelSettings, batch_model
from cxrgaze_ray.storage import LocalStore
from tests.integration.serving_load import held, processes, wait_until

MOST = 3
IMAGES = np.zeros((16, 640, 512), np.uint16)


def main(folder: str) -> None:
    """Scale up and down again; replace a replica; leave nothing."""
    ray.init(num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20)
    pin = Registry(LocalStore(folder)).publish(make_bundle(build(PRESETS["tiny"], 5), "cxrgaze", trained=False))
    settings = ModelSettings(max_replicas=MOST, gpus=0.5, cpus=0.5, threads=1, upscale_delay_s=1, downscale_delay_s=3)
    with batch_model(settings, 2) as model:
        engine = model.plan_engine(pin, "float32")
        assert engine == "reference-float32-cpu", "a declared GPU is no device"
        (process,) = processes(model.application)
        model.warm(pin, engine)
        assert processes(model.application) == {process}, "warming must not restart a replica"
        assert held(model.application) == [[(pin.weights_sha256, engine)]]
        follow_load(model, pin, engine)
        replace(model, pin, engine)
    assert not serve.status().applications


def follow_load(model: BatchModel, pin: ModelPin, engine: str) -> None:
    """Keep chunks in flight until the most replicas run, then wait until one is left."""
    done = False

    def send() -> None:
        reference = ray.put(IMAGES)
        while not done:
            model.handle.predict.remote(reference, pin, engine).result()

    with ThreadPoolExecutor(2 * MOST) as pool:
        sent = [pool.submit(send) for _ in range(2 * MOST)]
        try:
            wait_until(lambda: len(processes(model.application)) == MOST, "the load added no replicas")
            assert ray.available_resources().get("GPU") == 2 - MOST * 0.5  # type: ignore[no-untyped-call]
        finally:
            done = True
        for one in sent:
            one.result()
    wait_until(lambda: len(processes(model.application)) == 1, "idle replicas were kept")


def replace(model: BatchModel, pin: ModelPin, engine: str) -> None:
    """Kill the replica: the next one holds the bundle before anything was asked of it."""
    before = processes(model.application)
    for process in before:
        os.kill(process, signal.SIGKILL)
    wait_until(lambda: bool(processes(model.application) - before), "no replica took its place")
    assert held(model.application) == [[(pin.weights_sha256, engine)]]


if __name__ == "__main__":
    main(sys.argv[1])
