"""Every number that the monitor uses."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from cxrgaze_ray.config import Seed, Settings

Share = Annotated[float, Field(ge=0, le=1)]


class Thresholds(Settings):
    """Effects below which a change is not worth an alert, however certain it is."""

    acquisition: float = Field(default=0.2, gt=0, le=100)
    """PSI of facts of the file: device, encoding, size, view, sex and age."""

    intensity: float = Field(default=0.2, gt=0, le=100)
    """PSI of percentiles and mean of the model image."""

    scores: float = Field(default=0.2, gt=0, le=100)
    """PSI of the probabilities."""

    predictions: float = Field(default=0.1, gt=0, le=100)
    """PSI of the predicted classes' shares."""

    saliency: float = Field(default=0.2, gt=0, le=100)
    """PSI of the maps' statistics."""

    outcomes: float = Field(default=0.02, gt=0, lt=1)
    """Absolute difference of rates: failed, skipped, each reason, polarity in doubt, view unknown."""

    auc: float = Field(default=0.03, gt=0, le=1)
    """Fall of the macro AUC."""

    ece: float = Field(default=0.05, gt=0, le=1)
    """Rise of the expected calibration error."""

    cc: float = Field(default=0.05, gt=0, le=2)
    """Fall of the saliency maps' mean correlation with readers' gaze."""

    kl: float = Field(default=0.1, gt=0, le=100)
    """Rise of the maps' mean divergence from readers' gaze, in nats."""

    hs: float = Field(default=0.05, gt=0, le=1)
    """Fall of the maps' mean histogram similarity with readers' gaze."""

    subgroup: float = Field(default=0.05, gt=0, le=100)
    """Threshold of the same five in a subgroup, if that is more than the figure's own."""


class MonitorSettings(Settings):
    """Settings of the comparison of two sides."""

    alpha: float = Field(default=0.01, gt=0, lt=1)
    """Probability of any alert at all in a report where nothing has changed, divided among all its comparisons."""

    least_patients: int = Field(default=50, ge=2, le=10_000_000)
    """Least patients on each side for any alert."""

    subgroup_patients: int = Field(default=30, ge=2, le=10_000_000)
    """Least patients of a subgroup of labelled images, on each side."""

    thresholds: Thresholds = Thresholds()

    bins: int = Field(default=10, ge=2, le=100)
    """Most quantile bins of a number."""

    saliency_sample: int = Field(default=2000, ge=0, le=10_000_000)
    """Most maps decoded per side: those whose image ids have the smallest hashes. 0 decodes none."""

    central_box: tuple[Share, Share, Share, Share] = (0.25, 0.25, 0.75, 0.75)
    """Top, left, bottom and right of the box whose share of the saliency is watched, as fractions of the map."""

    rounds: int = Field(default=200, ge=20, le=1_000_000)
    """Bootstrap rounds of a labelled figure."""

    seed: Seed = 0
    """Seed of the bootstrap."""

    @model_validator(mode="after")
    def _box_has_an_inside(self) -> Self:
        top, left, bottom, right = self.central_box
        if top >= bottom or left >= right:
            raise ValueError("central_box (top, left, bottom and right) has no inside")
        return self
