"""The picture of a result: the radiograph in its own shape, the predicted gaze over it, and what was found below it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cxrgaze_ray.gaze import saliency
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.schemas import CLASSES, RESEARCH_ONLY, Affine

BOX = (1152, 1024)
"""Height and width in pixels of the box that the radiograph fills: what a monitor shows beside a report."""

WORDS = {"normal": "normal", "heart_failure": "heart failure", "pneumonia": "pneumonia"}
"""The classes, as people write them."""

_FLATTEST = 3.0
"""A map whose peak is less above an even share is shown fainter, not stretched."""

_SMALL, _LARGE, _GAP, _LINE = 15, 21, 16, 24
_NARROWEST = 560
_BACKGROUND, _PLAIN, _BRIGHT, _WARN = (16, 17, 20), (190, 195, 204), (255,) * 3, (255, 190, 92)


def draw_result(picture_HW: NDArray[np.uint8], row: dict[str, Any], model: ModelPin) -> NDArray[np.uint8]:
    """Return the overlay of a scored row, uint8 RGB, with a legend below it.

    Colour begins where the density is above an even share, so that a map that says nothing colours nothing.

    Parameters
    ----------
    picture_HW
        The radiograph, see `preprocess.draw_picture`.
    row
        A scored row of `schemas.RESULT`.
    model
        What scored it.
    """
    affine = _onto(picture_HW.shape, Affine.of(row["affine"]))
    density = saliency.to_source(saliency.decode(row["saliency_png"]), affine)
    above = np.maximum(density * density.size - 1, 0)
    hottest = max(float(above.max()), _FLATTEST)
    said = [
        "Predicted gaze" if row["prediction"] is None else f"Most likely: {WORDS[row['prediction']]}",
        chances(row),
        f"{model.name} {model.version}, predicted by a model, read by nobody.",
    ]
    scale = ("predicted gaze", f"1 to {1 + hottest:.0f} times an even share")
    return _captioned(picture_HW, above, hottest, said, scale, model)


def draw_cam(
    picture_HW: NDArray[np.uint8], cam_HW: NDArray[np.float32], affine: Affine, target: str, model: ModelPin
) -> NDArray[np.uint8]:
    """Return the overlay of Grad-CAM, uint8 RGB, with a legend that says what it is, and that it is no gaze.

    Parameters
    ----------
    picture_HW
        The radiograph, see `preprocess.draw_picture`.
    cam_HW
        Map on the model image, with a peak of 1 or all 0.
    affine
        Where the source lies in the model image.
    target
        Class that the map explains.
    model
        What computed it.
    """
    shown = saliency.to_source(cam_HW, _onto(picture_HW.shape, affine)) if cam_HW.any() else np.zeros(1, np.float32)
    relative = np.broadcast_to(shown / max(float(shown.max()), 1e-30), picture_HW.shape)
    said = [
        f"Grad-CAM for {WORDS[target]}: not where a reader would look",
        "What moved the largest logit of DenseNet's own head.",
        f"{model.name} {model.version}, computed, read by nobody.",
    ]
    return _captioned(picture_HW, relative, 1.0, said, ("Grad-CAM", "0 to its own peak"), model)


def _captioned(
    picture_HW: NDArray[np.uint8],
    heat_HW: NDArray[np.float32],
    hottest: float,
    said: list[str],
    scale: tuple[str, str],
    model: ModelPin,
) -> NDArray[np.uint8]:
    shown = saliency.overlay(np.left_shift(picture_HW, 8, dtype=np.uint16), heat_HW, hottest=hottest)
    margin = max(0, _NARROWEST - shown.shape[1])
    shown = np.pad(shown, ((0, 0), (margin // 2, margin - margin // 2), (0, 0)))
    return np.concatenate([shown, _legend(shown.shape[1], said, scale, model)])


def _onto(shape: tuple[int, ...], affine: Affine) -> Affine:
    """Return where pixels of an upright picture of the whole source lie in the model image."""
    (height, width), (rows, columns) = shape, affine.upright
    return Affine(
        scale_y=affine.scale_y * rows / height,
        scale_x=affine.scale_x * columns / width,
        offset_y=affine.offset_y,
        offset_x=affine.offset_x,
        rows=height,
        columns=width,
    )


def chances(row: dict[str, Any]) -> str:
    """Return a row's probabilities for people, the largest first, or that there are none."""
    if row["prediction"] is None:
        return "The model predicts no classes"
    ordered = sorted(CLASSES, key=lambda name: -row[f"p_{name}"])
    return ", ".join(f"{WORDS[name]} {100 * row[f'p_{name}']:.1f}%" for name in ordered)


def _legend(width: int, said: list[str], scale: tuple[str, str], model: ModelPin) -> NDArray[np.uint8]:
    """Draw what stands below the picture, its first line large: nothing of the patient."""
    image = Image.new("RGB", (width, 4 * _LINE + 2 * _GAP), _BACKGROUND)
    pen = ImageDraw.Draw(image)
    trained = "" if model.trained else " UNTRAINED: ITS ANSWERS MEAN NOTHING."
    lines = [
        (said[0], _LARGE, _BRIGHT),
        *((text, _SMALL, _PLAIN) for text in said[1:]),
        (RESEARCH_ONLY + trained, _SMALL, _WARN),
    ]
    for number, (text, size, colour) in enumerate(lines):
        pen.text((_GAP, _GAP + number * _LINE - (size - _SMALL) // 2), text, font=_font(size), fill=colour)
    if width >= _NARROWEST:
        _scale(image, pen, width, scale)
    return np.asarray(image)


def _scale(image: Image.Image, pen: ImageDraw.ImageDraw, width: int, words: tuple[str, str]) -> None:
    """Draw the colours of the map, and what they stand for."""
    across, left = 190, width - 190 - _GAP
    ramp = np.repeat(np.linspace(0, 255, across).astype(np.uint8)[None], 10, axis=0)
    colours = cv2.cvtColor(cv2.applyColorMap(ramp, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    image.paste(Image.fromarray(colours), (left, _GAP + 6))
    for line, text in enumerate(words, 1):
        place = (width - _GAP, _GAP + line * _LINE)
        pen.text(place, text, font=_font(_SMALL - 2), fill=_PLAIN, anchor="ra")


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
