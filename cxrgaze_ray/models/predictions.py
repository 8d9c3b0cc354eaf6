"""A predictor's answers. They have a module of their own so that workers which only read them need not load torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
