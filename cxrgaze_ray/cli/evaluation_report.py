"""Pages of an evaluation, with pictures where somebody asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cxrgaze_ray.evaluation.answers import Labelled
    from cxrgaze_ray.models.bundle import Bundle
    from cxrgaze_ray.registry.pin import ModelPin
    from cxrgaze_ray.registry.versions import Registry
    from cxrgaze_ray.reports.figures import Figure
    from cxrgaze_ray.shards.trainable import Trainable

Pictures = Annotated[
    int,
    typer.Option(min=0, max=20, help="Radiographs of each class to show in the page, with gaze; they show patients."),
]


def examples(bundle: Bundle, store: Labelled, split: str, count: int) -> list[Figure]:
    """Return pictures of the first images of each class, predicted in this process; none if none are asked for."""
    from cxrgaze_ray.evaluation.answers import answers_to, rows_of
    from cxrgaze_ray.evaluation.examples import first_of_each_class
    from cxrgaze_ray.reports.figures import example_figures

    seen_only = bundle.info.network.needs_gaze
    chosen = first_of_each_class(store, split, count, seen_only=seen_only) if count else []
    if not chosen:
        return []
    rows = rows_of(store, split, chosen)
    return example_figures(rows, answers_to(bundle, rows))


def write_page(
    out: str, pin: ModelPin, bundle: Bundle, metrics: dict[str, Any], store: Trainable, split: str, pictures: int
) -> None:
    """Write the page of an evaluation."""
    from cxrgaze_ray.reports.evaluation_page import evaluation_page
    from cxrgaze_ray.storage import open_output

    place, key = open_output(out)
    shown = examples(bundle, store, split, pictures)
    page = evaluation_page(f"{pin.name} {pin.version}", bundle.info, metrics, split, store.info.sha256(), shown)
    place.put(key, page.encode())


def training_report(registry: Registry, pin: ModelPin, store: Trainable, pictures: int) -> str:
    """Write the page of a training, with pictures of the test split if any are asked for; return its URI.

    They are no second look at that split, as the weights have had theirs.
    """
    from cxrgaze_ray.models.bundle import read_bundle
    from cxrgaze_ray.reports.evaluation_page import training_page
    from cxrgaze_ray.storage import open_store

    shown = examples(read_bundle(open_store(pin.uri)), store, "test", pictures) if pictures else []
    return training_page(registry, pin, store.info.sha256(), shown)
