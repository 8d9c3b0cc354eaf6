"""A predictor's answers. They have a module of their own so that workers which only read them need not load torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.gaze import saliency
from cxrgaze_ray.models.settings import Answer
from cxrgaze_ray.schemas import SALIENCY_HEIGHT, SALIENCY_WIDTH


@dataclass(frozen=True)
class Predictions:
    """Answers for B images; None for what the model does not predict.

    Attributes
    ----------
    logits_BK, probabilities_BK
        float32, in the order of `schemas.CLASSES`.
    saliency_BHW
        float32 density at 640x512, summing to 1 per image.
    cam_BHW
        float32 Grad-CAM of DenseNet's own head at the same size, with a peak of 1 or all 0; None if not asked for.
    cam_target_B
        Index of the class that it explains: the head's arg-max, which need not be the model's prediction.
    """

    logits_BK: NDArray[np.float32] | None
    probabilities_BK: NDArray[np.float32] | None
    saliency_BHW: NDArray[np.float32] | None
    cam_BHW: NDArray[np.float32] | None = None
    cam_target_B: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class StoredMaps:
    """Maps as they are stored: a sixteenth of the bytes.

    Attributes
    ----------
    levels_BHW
        uint8 (B, 320, 256), each scaled to its peak.
    peak_B
        float32, what level 255 stands for.
    """

    levels_BHW: NDArray[np.uint8]
    peak_B: NDArray[np.float32]

    def pngs(self) -> list[tuple[bytes, float]]:
        """Return each map's PNG and peak, as `saliency.encode` does."""
        return [
            (saliency.encode_levels(levels), float(peak))
            for levels, peak in zip(self.levels_BHW, self.peak_B, strict=True)
        ]


@dataclass(frozen=True)
class StoredPredictions:
    """`Predictions` with maps as they are stored, which is how the model deployment sends them."""

    logits_BK: NDArray[np.float32] | None
    probabilities_BK: NDArray[np.float32] | None
    saliency: StoredMaps | None
    cam: StoredMaps | None = None
    cam_target_B: NDArray[np.int64] | None = None


def stored(answers: Predictions) -> StoredPredictions:
    """Return answers with their maps as they are stored."""
    return StoredPredictions(
        answers.logits_BK, answers.probabilities_BK,
        _stored(answers.saliency_BHW), _stored(answers.cam_BHW), answers.cam_target_B,
    )  # fmt: skip


def _stored(maps_BHW: NDArray[np.float32] | None) -> StoredMaps | None:
    if maps_BHW is None:
        return None
    levels_BHW = np.empty((len(maps_BHW), SALIENCY_HEIGHT, SALIENCY_WIDTH), np.uint8)
    peak_B = np.empty(len(maps_BHW), np.float32)
    for index, density_HW in enumerate(maps_BHW):
        levels_BHW[index], peak_B[index] = saliency.to_levels(density_HW)
    return StoredMaps(levels_BHW, peak_B)


def told(predicts: Sequence[Answer]) -> str:
    """Return what a model predicts, for people."""
    return " and ".join(predicts) + (" only" if len(predicts) == 1 else "")


def check_predicted(answer: Answer, predicts: Sequence[Answer], model: str, what: str, hint: str) -> None:
    """Raise UserError if a model does not predict what is asked for.

    Parameters
    ----------
    answer, predicts
        What has to be among what the model predicts.
    model
        Its name and version, for people.
    what, hint
        What needs it, as the beginning of a sentence, and the next step.
    """
    if answer not in predicts:
        raise UserError(f"{what}, and {model} predicts {told(predicts)}.", hint)
