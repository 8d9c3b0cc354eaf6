"""A training's run on Ray Train: how many workers, what becomes of failures, and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchTrainer

from cxrgaze_ray.cluster.connection import find_cause
from cxrgaze_ray.cluster.ray_internals import counting_failures_without, keeping_ctrl_c, training_callback
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.shards import StoreIndex
from cxrgaze_ray.storage import Store
from cxrgaze_ray.training.board import ask_and_wait
from cxrgaze_ray.training.kept import KeptCheckpoints
from cxrgaze_ray.training.requests import checkpoint_before_the_end
from cxrgaze_ray.training.running import Workers
from cxrgaze_ray.training.supervision import Progress, Supervisor
from cxrgaze_ray.training.worker import train_loop_per_worker

_FAILURES = 2
"""Failures of workers that a training outlives without writing a checkpoint in between."""

_STOP_S = 30.0
"""Longest time that a command told to stop waits for a checkpoint."""


def make_trainer(
    index: StoreIndex, config: dict[str, Any], work: Store, run_name: str, workers: Workers, board: Any
) -> TorchTrainer:
    """Return the trainer of a run; `config` is what each worker gets, beside the index of the store's rows.

    The index is in memory once on each node. Pixels are read by the workers, each those of its own rows.
    """
    filesystem, root = work.filesystem()
    gpus = bool(ray.cluster_resources().get("GPU"))  # type: ignore[no-untyped-call]
    number: Any = (workers.least, workers.most) if workers.elastic else workers.most  # declared as Ray Tune's
    loop: Any = train_loop_per_worker  # declared to return nothing, though Ray Train passes on what it returns
    return TorchTrainer(
        loop,
        train_loop_config=config | {"index": ray.put(index)},
        scaling_config=ScalingConfig(num_workers=number, use_gpu=gpus, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(
            name=run_name,
            storage_path=f"{root}/ray",
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=_FAILURES),
            callbacks=[training_callback(Supervisor(board), checkpoint_before_the_end)],
        ),
    )


def fit(trainer: TorchTrainer, kept: KeptCheckpoints, board: Any, say: Callable[[str], None]) -> None:
    """Train; an error that a worker raised, or returned as the user's, is raised here as itself.

    A request to stop, such as Ctrl-C, has a checkpoint written first; another one does not wait for it.
    """
    try:
        with keeping_ctrl_c(), counting_failures_without(Progress(kept)):
            result = trainer.fit()
    except WorkerGroupError as error:
        for failure in error.worker_failures.values():
            if cause := find_cause(failure):
                raise cause from error
        raise
    except KeyboardInterrupt:
        say("Stopping: a checkpoint is written first.")
        if ask_and_wait(board, _STOP_S):
            say("It is written: the same command goes on from there.")
        raise
    returned = getattr(result, "return_value", None)  # Ray's declared type is out of date
    if isinstance(returned, UserError):
        raise returned
