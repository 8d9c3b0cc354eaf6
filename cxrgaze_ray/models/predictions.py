"""A predictor's answers. They have a module of their own so that workers which only read them need not load torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.models.settings import Answer


@dataclass(frozen=True)
class Predictions:
    """Answers for B images; None for what the model does not predict.

    Attributes
    ----------
    logits_BK, probabilities_BK
        float32, in the order of `schemas.CLASSES`.
    saliency_BHW
        float32 density at 640x512, summing to 1 per image; the model deployment sends it at the grid of
        `saliency.shrink` already.
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
