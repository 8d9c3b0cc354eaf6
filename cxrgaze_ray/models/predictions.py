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
    """

    logits_BK: NDArray[np.float32] | None
    probabilities_BK: NDArray[np.float32] | None
    saliency_BHW: NDArray[np.float32] | None


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
