"""From a shard store to the two tables with their pictures."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.cluster.connection import Connect
from cxrgaze_ray.evaluation.answers import answers_to, rows_of
from cxrgaze_ray.evaluation.examples import first_of_each_class
from cxrgaze_ray.gaze.packed import gaze_density
from cxrgaze_ray.models.bundle import read_bundle, read_info
from cxrgaze_ray.models.gradcam import grad_cam
from cxrgaze_ray.models.network import DenseNetNetwork
from cxrgaze_ray.models.settings import WITH_DENSENET, System
from cxrgaze_ray.paper.document import Facts, documents
from cxrgaze_ray.paper.pictures import Example, qualitative_figure, roc_plot
from cxrgaze_ray.paper.plan import TablesSettings
from cxrgaze_ray.paper.reported import TITLES
from cxrgaze_ray.paper.run import Progress, Results, TrainedSystem, train_and_test
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.schemas import CLASSES
from cxrgaze_ray.shards import Trainable
from cxrgaze_ray.shards.store import image_array
from cxrgaze_ray.storage import Store, open_store

GAZE = "readers' gaze"
_EXPLAINED: tuple[System, ...] = ("dnet201-cl", "gazenet", "dnet201")
"""Systems whose DenseNet Grad-CAM looks at, the first that was tested: of the first two it is the same."""


WITH_PUBLISHED_WEIGHTS = (*WITH_DENSENET, "inception-resnet-v2")
"""Systems that the paper began with ImageNet's weights."""


def make_tables(
    store: Trainable,
    settings: TablesSettings,
    registry: Registry,
    out: Store,
    *,
    workers: int = 1,
    backbone_weights: str | None = None,
    connect: Connect = nullcontext,
    say: Callable[[str], None] = lambda _: None,
    on_progress: Progress = lambda *_: None,
) -> tuple[Results, list[str]]:
    """Train and test what is not yet, and write tables.md, tables.html, tables.csv and their pictures.

    Parameters are those of `run.train_and_test`.

    Returns
    -------
    Results
        What was tested, and what was left out.
    list of str
        Names of the files below `out`.
    """
    results = train_and_test(
        store,
        settings,
        registry,
        out,
        workers=workers,
        backbone_weights=backbone_weights,
        connect=connect,
        say=say,
        on_progress=on_progress,
    )
    first = {one.job.system: one for one in sorted(results.tested, key=lambda one: -one.job.seed)}
    shown = [first[system] for system in TITLES if system in first]
    classes = {TITLES[one.job.system]: one.answers for one in shown if "classes" in one.answers.predicts}
    labelled = any(len(answers.labelled()) for answers in classes.values())
    written = documents(
        results,
        _facts(store, settings, results, registry, weighted=backbone_weights is not None),
        roc_plot(classes) if labelled else None,
        _qualitative(store, shown),
        explains=_explained(shown) is not None,
    )
    for name, data in written.items():
        out.put(name, data)
    return results, sorted(written)


def _facts(
    store: Trainable, settings: TablesSettings, results: Results, registry: Registry, *, weighted: bool
) -> Facts:
    chosen = [f"--preset {settings.preset}"] if settings.preset != "full" else []
    chosen += [f"--only {','.join(settings.only)}"] if settings.only else []
    chosen += [f"--seeds {settings.seeds}"] if settings.seeds > 1 else []
    chosen += [f"--epochs {settings.epochs}"] if settings.epochs is not None else []
    chosen += [f"--set {shlex.quote(f'{name}={value}')}" for name, value in settings.training.items()]
    chosen += ["--backbone-weights FILE"] if weighted else []
    notes = [store.info.caution()] if store.info.caution() else []
    if fresh := _begun_fresh(results, registry):
        notes.append(f"Begun with fresh weights, and not with ImageNet's as the paper's were: {', '.join(fresh)}.")
    if settings.preset != "full":
        notes.append(
            f"Preset {settings.preset} is not the paper's network: its figures are not to be set against the paper's."
        )
    return Facts(
        store=f"shard store {store.info.sha256()[:12]}",
        preset=settings.preset,
        images={split: store.rows(split) for split in ("train", "validation", "test")},
        notes=tuple(notes),
        command=" ".join(["cxrgaze tables STORE", *chosen]),
    )


def _begun_fresh(results: Results, registry: Registry) -> list[str]:
    """Return the titles of systems that there are published first weights for, and that were trained without them."""
    began = {
        one.job.system: _first_weights(one.pin, registry)
        for one in results.tested
        if one.job.system in WITH_PUBLISHED_WEIGHTS
    }
    return [title for system, title in TITLES.items() if began.get(system) == "fresh"]


def _first_weights(pin: ModelPin, registry: Registry) -> str | None:
    lineage = read_info(open_store(pin.uri)).lineage
    if lineage.backbone is None and lineage.parent is not None:
        return _first_weights(registry.resolve(lineage.parent), registry)
    return lineage.backbone


def _qualitative(store: Trainable, shown: list[TrainedSystem]) -> bytes | None:
    """Draw what each system looks at in the test image with the first id of each class, of those with gaze."""
    if not (chosen := first_of_each_class(store, "test", seen_only=True)):
        return None
    rows = rows_of(store, "test", chosen)
    maps: list[dict[str, NDArray[np.float32]]] = [{GAZE: gaze_density(gaze.as_py())} for gaze in rows["gaze"]]
    captions: list[dict[str, str]] = [{} for _ in maps]
    for one in shown:
        if "saliency" not in one.answers.predicts:
            continue
        densities = answers_to(read_bundle(open_store(one.pin.uri)), rows).saliency_BHW
        assert densities is not None
        for place, density_HW in enumerate(densities):
            maps[place][TITLES[one.job.system]] = density_HW
    images_BHW = image_array(rows["image"])
    if explained := _explained(shown):
        network = read_bundle(open_store(explained.pin.uri)).network()
        assert isinstance(network, DenseNetNetwork)
        cam_BHW, logits_BK = grad_cam(network, images_BHW)
        name = f"Grad-CAM, {TITLES[explained.job.system].removesuffix(' (ours)')}"
        for place, (cam_HW, target) in enumerate(zip(cam_BHW.numpy(), logits_BK.argmax(dim=1).tolist(), strict=True)):
            maps[place][name], captions[place][name] = cam_HW, f"for {_said(target)}"
    labels = [f"{_said(label)} (truth)" for label in rows["label"].to_pylist()]
    return qualitative_figure([Example(*parts) for parts in zip(labels, images_BHW, maps, captions, strict=True)])


def _said(label: int) -> str:
    return CLASSES[label].replace("_", " ")


def _explained(shown: list[TrainedSystem]) -> TrainedSystem | None:
    by_system = {one.job.system: one for one in shown}
    return next((by_system[system] for system in _EXPLAINED if system in by_system), None)
