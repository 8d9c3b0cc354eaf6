"""A model on a split, as one HTML file that needs no network: figures with intervals, curves, examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cxrgaze_ray.models.bundle import BundleInfo, read_info
from cxrgaze_ray.models.predictions import told
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.reports.figures import Figure
from cxrgaze_ray.reports.metric_rows import metric_rows
from cxrgaze_ray.reports.pages import render
from cxrgaze_ray.reports.quality import first_figures, quality
from cxrgaze_ray.storage import open_store

CHOSEN = "The images with the first ids of each class in the {split} split, chosen by nobody."


def evaluation_page(
    model: str,
    info: BundleInfo,
    metrics: dict[str, Any],
    split: str,
    store: str,
    examples: Sequence[Figure] = (),
) -> str:
    """Return the page of an evaluation.

    Parameters
    ----------
    model
        Name and version.
    metrics
        `Evaluation.summary`.
    split, store
        On what it was evaluated: the split, and the store's hash.
    examples
        Pictures of that split; none unless somebody asked for them.
    """
    sentences = [metrics.get("reach"), info.lineage.calibration.told() if info.lineage.calibration else None]
    rows = (
        ("predicts", told(info.predicts)),
        ("network", f"{info.network.system}, preset {info.network.preset}"),
        ("weights", info.weights_sha256),
        ("profile", info.profile),
        ("shard store", store),
        ("trained by", f"cxrgaze {info.lineage.code_version}"),
    )
    context = quality(info, metrics, f"On the {split} split.", examples, CHOSEN.format(split=split))
    return render(
        "evaluation.html",
        title=f"{model} on the {split} split",
        subtitle=f"{metrics.get('images', 0):,} images of shard store {store[:12]}",
        info=info,
        sentences=[sentence for sentence in sentences if sentence],
        tiles=first_figures(metric_rows(metrics)),
        network=rows,
        **context,
    )


def training_page(registry: Registry, pin: ModelPin, store: str, examples: Sequence[Figure] = ()) -> str:
    """Write the page of a training beside the model's versions; return its URI.

    It shows what the bundle carries of the test split of a shard store, named by its hash.
    """
    info, key = read_info(open_store(pin.uri)), f"{pin.name}/reports/{pin.version}.html"
    page = evaluation_page(f"{pin.name} {pin.version}", info, info.metrics, "test", store, examples)
    registry.store.put(key, page.encode())
    return registry.store.locate(key)
