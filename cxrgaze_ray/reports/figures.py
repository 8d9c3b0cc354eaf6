"""Figures of a run's results: the radiograph, and what the network and its readers looked at."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from cxrgaze_ray.archive.manifest import fetch_listed
from cxrgaze_ray.errors import EnvironmentFault, RadiographError
from cxrgaze_ray.gaze import saliency
from cxrgaze_ray.gaze.egd import EgdTables
from cxrgaze_ray.gaze.heatmap import gaze_map
from cxrgaze_ray.gaze.packed import gaze_density
from cxrgaze_ray.models.predictions import Predictions
from cxrgaze_ray.radiograph.decoding import Decoder
from cxrgaze_ray.schemas import CLASSES, HEIGHT, WIDTH, Affine, Reason
from cxrgaze_ray.scoring.runs import Run

_PICTURE_WIDTH = 512
_ABSENT = {Reason.MISSING: "source not found", Reason.CHANGED: "source changed since the run"}
_GREY = np.full((HEIGHT, WIDTH), 0xC000, np.uint16)


@dataclass(frozen=True)
class Figure:
    """One image: data URIs of the radiograph, and of it with the network's saliency and the reader's gaze.

    What the network does not predict, or nobody looked at, is empty or None.

    Attributes
    ----------
    radiograph
        None where its file gives none any more; the maps then stand on plain grey.
    absent
        What is said in its place.
    path
        Path of the file, if the report is to say it.
    cam, cam_target
        Grad-CAM, and the class that it explains, in a run that asked for it.
    """

    name: str
    caption: str
    probabilities: list[tuple[str, float]]
    radiograph: str | None
    overlay: str | None
    gaze: str | None
    absent: str = ""
    path: str | None = None
    cam: str | None = None
    cam_target: str = ""


class Painter:
    """Fetches and decodes the radiographs of a run again, to draw on them.

    Parameters
    ----------
    run, plan
        Whose rows are drawn.
    truth
        Tables whose gaze is drawn too.
    with_paths
        Say the files' paths.

    Attributes
    ----------
    lost
        Why radiographs can't be shown any more: their files are not what they were, or out of reach.
    """

    def __init__(self, run: Run, plan: pa.Table, truth: EgdTables | None, *, with_paths: bool = False) -> None:
        self._shard_rows, self._plan, self._truth, self._with_paths = run.spec.shard_rows, plan, truth, with_paths
        self._decoder = Decoder(run.spec.profile)
        self.lost: list[RadiographError | EnvironmentFault] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.close()

    def figure(self, row: dict[str, Any]) -> Figure:
        """Draw a scored row; where its file gives no radiograph any more, that is said, and the maps stand on grey."""
        affine, png = Affine.of(row["affine"]), row["saliency_png"]
        planned = self._plan.slice(row["shard"] * self._shard_rows + row["position"], 1).to_pylist()[0]
        image, absent = self._radiograph(planned)
        gaze = self._gaze(row["image_id"], affine)
        study = self._truth.study(row["image_id"]) if self._truth else None
        label = CLASSES[study.label] if study and study.label is not None else None
        return Figure(
            name=row["image_id"][:8],
            caption=f"read as {label}".replace("_", " ") if label else "",
            probabilities=[
                (name.replace("_", " "), 100 * row[f"p_{name}"]) for name in CLASSES if row["prediction"] is not None
            ],
            radiograph=None if absent else _jpeg(_cropped((image >> 8).astype(np.uint8), affine)),
            overlay=None if png is None else _laid_over(image, saliency.decode(png), affine),
            gaze=None if gaze is None else _laid_over(image, gaze, affine),
            absent=absent,
            path=planned["uri"] if self._with_paths else None,
            cam=_laid_over(image, saliency.decode_relative(row["cam_png"]), affine) if row.get("cam_png") else None,
            cam_target=(row.get("cam_target") or "").replace("_", " "),
        )

    def _radiograph(self, planned: dict[str, Any]) -> tuple[NDArray[np.uint16], str]:
        """Return the model image, or plain grey and what is to be said in its place."""
        try:
            if self.lost and isinstance(outage := self.lost[-1], EnvironmentFault):
                raise outage  # each of the others would wait for it as long
            return self._decoder.decode(fetch_listed(planned)).pixels, ""
        except RadiographError as error:
            self.lost.append(error)
            return _GREY, _ABSENT.get(Reason(error.reason), "source can't be read")
        except EnvironmentFault as fault:
            self.lost.append(fault)
            return _GREY, "source out of reach"

    def _gaze(self, image_id: str, affine: Affine) -> NDArray[np.float32] | None:
        if self._truth is None:
            return None
        try:
            return gaze_map(self._truth.samples(image_id), affine)
        except RadiographError:
            return None


def example_figures(rows: pa.Table, answers: Predictions) -> list[Figure]:
    """Draw rows of a shard store (`schemas.STORE_SHARD`) beside a model's answers to them."""
    from cxrgaze_ray.shards.store import image_array  # with Ray Data, which reports of runs need not load

    return [
        _example(row, image_HW, place, answers)
        for place, (row, image_HW) in enumerate(zip(rows.to_pylist(), image_array(rows["image"]), strict=True))
    ]


def _example(row: dict[str, Any], image_HW: NDArray[np.uint16], place: int, answers: Predictions) -> Figure:
    affine, maps_BHW = Affine.of(row["affine"]), answers.saliency_BHW
    chances_K = () if answers.probabilities_BK is None else answers.probabilities_BK[place].tolist()
    label = None if row["label"] is None else CLASSES[row["label"]]
    return Figure(
        name=row["image_id"][:8],
        caption=f"read as {label}".replace("_", " ") if label else "",
        probabilities=[(name.replace("_", " "), 100 * one) for name, one in zip(CLASSES, chances_K, strict=False)],
        radiograph=_jpeg(_cropped((image_HW >> 8).astype(np.uint8), affine)),
        overlay=None if maps_BHW is None else _laid_over(image_HW, maps_BHW[place], affine),
        gaze=None if row["gaze"] is None else _laid_over(image_HW, gaze_density(row["gaze"]), affine),
    )


def _laid_over(image_HW: NDArray[np.uint16], density_HW: NDArray[np.float32], affine: Affine) -> str:
    return _jpeg(_cropped(saliency.overlay(image_HW, density_HW), affine))


def _cropped(picture: NDArray[np.uint8], affine: Affine) -> NDArray[np.uint8]:
    """Cut the padding off a picture of the model image's size, and make it small."""
    content = picture[affine.shown]
    size = (_PICTURE_WIDTH, max(1, round(_PICTURE_WIDTH * content.shape[0] / content.shape[1])))
    return np.asarray(cv2.resize(content, size, interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(picture: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
