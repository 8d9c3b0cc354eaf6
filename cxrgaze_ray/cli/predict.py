"""cxrgaze predict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import cxrgaze_ray
from cxrgaze_ray.cli.console import bar, show
from cxrgaze_ray.cli.options import DEFAULT_MODEL, DEFAULT_REGISTRY, Engine, Json, Model, RegistryUri
from cxrgaze_ray.errors import EXIT_STRICT
from cxrgaze_ray.reports.printable import printable

if TYPE_CHECKING:
    from cxrgaze_ray.api.result import Result, Results
    from cxrgaze_ray.storage import Store


def predict(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Radiographs: paths or s3:// objects.")],
    model: Model = DEFAULT_MODEL,
    registry: RegistryUri = DEFAULT_REGISTRY,
    engine: Engine = "auto",
    view: Annotated[
        Literal["frontal", "all"], typer.Option(help="frontal skips laterals; all scores them too.")
    ] = "frontal",
    overlays: Annotated[
        str | None, typer.Option(metavar="URI", help="Folder or s3:// prefix for pictures of the predicted gaze.")
    ] = None,
    cam: Annotated[
        bool,
        typer.Option("--cam", help="Add pictures of Grad-CAM of DenseNet's own head; it is not the predicted gaze."),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 if a file failed.")] = False,
    as_json: Json = False,
) -> None:
    """Score single files in this process, without Ray: one line per file. For an archive, see `cxrgaze score`.

    Example: cxrgaze predict chest.dcm --overlays pictures
    """
    from cxrgaze_ray.models.predictions import check_predicted
    from cxrgaze_ray.storage import check_writable, open_store

    if cam and overlays is None:
        raise typer.BadParameter("Its pictures need a place: give --overlays too.", param_hint="--cam")
    pictures = None if overlays is None else open_store(overlays)
    if pictures is not None:
        check_writable(pictures)
    loaded = cxrgaze_ray.load_model(model, registry=registry, engine=engine)
    if pictures is not None and not cam:
        asked, hint = "Pictures of predicted gaze were asked for", "Leave --overlays out."
        check_predicted("saliency", loaded.predicts, f"{loaded.pin.name} {loaded.pin.version}", asked, hint)
    with bar("Predicting", quiet=as_json) as progress:
        results = loaded.predict(files, view=view, cam=cam, on_progress=progress.update)
    rows = [result.row() for result in results]
    if pictures is not None:
        for row, places in zip(rows, _draw(results, pictures), strict=True):
            row |= places
    lines = [printable(_line(result, row)) for result, row in zip(results, rows, strict=True)]
    if not loaded.pin.trained:
        lines.append("The model is untrained: its answers mean nothing.")
    if overlays is not None:
        lines.append("The pictures are of patients: keep them as you keep the archive.")
    if cam:
        from cxrgaze_ray.schemas import CAM_MEANING

        lines.append(CAM_MEANING)
    show(
        {"model": loaded.pin.model_dump() | {"predicts": loaded.predicts}, "results": rows},
        as_json=as_json,
        lines=lines,
    )
    if strict and any(result.status == "failed" for result in results):
        raise typer.Exit(EXIT_STRICT)


def _line(result: Result, row: dict[str, Any]) -> str:
    """Describe a file's result: its classes, the most probable first, or why there are none."""
    from cxrgaze_ray.models.predictions import told

    if result.reason is not None:
        return f"{result.file}: {result.status}, {result.reason}. {result.detail}"
    ordered = sorted((result.probabilities or {}).items(), key=lambda one: -one[1])
    chances = ", ".join(f"{name} {chance:.1%}" for name, chance in ordered)
    pictures = [f"Picture: {row['overlay']}"] if row.get("overlay") else []
    if row.get("cam_overlay"):
        pictures.append(f"Grad-CAM for {result.cam_target}: {row['cam_overlay']}")
    return ". ".join([f"{result.file}: {chances or f'{result.status}, {told(result.predicts)}'}", *pictures])


def _draw(results: Results, pictures: Store) -> Iterator[dict[str, str | None]]:
    """Write the overlays of scored files and yield the places of each, numbered, since a name may be a patient's."""
    for number, result in enumerate(results, 1):
        places: dict[str, str | None] = {"overlay": None}
        if result.density_HW is not None:
            places["overlay"] = _put(pictures, f"{number:04d}.png", result.png())
        if result.cam_HW is not None:
            places["cam_overlay"] = _put(pictures, f"{number:04d}-grad-cam.png", result.cam_png())
            places["cam_target"] = result.cam_target
        yield places


def _put(pictures: Store, key: str, picture: bytes) -> str:
    pictures.put(key, picture)
    return pictures.locate(key)
