"""From a shard store to a published version: train, calibrate on the validation split, evaluate on the test split."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from cxrgaze_ray.cluster.connection import Connect, kept
from cxrgaze_ray.evaluation.answers import answerable
from cxrgaze_ray.evaluation.calibration import calibrated
from cxrgaze_ray.evaluation.evaluate import evaluate_bundle
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import Trainable
from cxrgaze_ray.storage import check_writable
from cxrgaze_ray.training.progress import EpochStep
from cxrgaze_ray.training.run import run_stages
from cxrgaze_ray.training.running import CheckpointSettings, Workers
from cxrgaze_ray.training.settings import TrainSettings


def check_publishable(registry: Registry, name: str, *, promote: bool, reason: str) -> None:
    """Find out now, not after hours of training, that its model could not be published, or promoted if it is to be."""
    check_writable(registry.store)
    if promote:
        registry.check_successor(name, reason, trained=True)


def train_and_publish(
    store: Trainable,
    settings: TrainSettings,
    registry: Registry,
    *,
    name: str = "cxrgaze",
    parent: str | None = None,
    backbone_weights: str | None = None,
    workers: int | Workers = 1,
    checkpoints: CheckpointSettings | None = None,
    promote: bool = False,
    reason: str = "",
    connect: Connect = nullcontext,
    say: Callable[[str], None] = lambda _: None,
    on_epoch: Callable[[dict[str, Any]], None] = lambda _: None,
    on_step: Callable[[EpochStep], None] = lambda _: None,
) -> ModelPin:
    """Train every stage, calibrate, and publish the bundle with its metrics on the store's test split.

    Parameters
    ----------
    promote
        Make the new version the champion, without a gate.
    reason
        Reason for the ledger; required if a gate judged the champion that the new version replaces.

    Other parameters are those of `training.run.run_stages`.
    """
    check_publishable(registry, name, promote=promote, reason=reason)
    for warning in store.info.warnings():
        say(warning)
    with kept(connect) as join:
        bundle = run_stages(
            store,
            settings,
            registry,
            name=name,
            parent=parent,
            backbone_weights=backbone_weights,
            workers=workers,
            checkpoints=checkpoints,
            connect=join,
            say=say,
            on_epoch=on_epoch,
            on_step=on_step,
        )
        bundle = calibrated(bundle, store, connect=join, say=say)
        if tests := answerable(bundle.info, store, "test"):
            registry.look(name, bundle.info.weights_sha256, store.parts, reason="evaluation after training")
            say(f"Evaluating on {tests} images of the test split.")
            if (looks := registry.looks(name, store.parts)) > 1:
                say(f"It has been shown to {looks} models named {name}: the best of many is partly the luckiest.")
            bundle = bundle.with_metrics(evaluate_bundle(bundle, store, "test", connect=join).summary())
    pin = registry.publish(bundle, "trained")
    if promote:
        registry.promote(name, pin.version, reason=reason, note="trained", say=say)
    return pin
