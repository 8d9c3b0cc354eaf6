"""How a model's temperature was found, as its lineage tells it."""

from __future__ import annotations

from cxrgaze_ray.config import Record

ENOUGH_IMAGES = 1000
"""Images below which chance alone moves a calibration error by some hundredths."""


class CalibrationScores(Record):
    """How far probabilities are from what happened; lower is better."""

    nll: float
    """Mean negative logarithm of the true class's probability."""

    brier: float
    """Mean squared distance from the truth, summed over classes."""

    ece: float
    """Expected calibration error of the arg-max class."""


class Calibration(Record):
    """The temperature that makes a split's labels likeliest, or why it was left at 1."""

    split: str = "validation"
    images: int
    """Labelled images that it was fitted on."""

    patients: int
    temperature: float = 1.0
    before: CalibrationScores | None = None
    """Scores of these images at temperature 1; None without labelled images."""

    after: CalibrationScores | None = None
    """Scores at `temperature`; they flatter it, as it was fitted on the same images."""

    why: str = ""
    """Why the temperature was left at 1; empty if it was fitted."""

    def told(self) -> str:
        """Say in one sentence what was found."""
        if self.why or self.before is None or self.after is None:
            return f"Its probabilities were not recalibrated (temperature 1): {self.why}."
        before, after = self.before, self.after
        badly = ", which so few images tell badly," if self.images < ENOUGH_IMAGES else ""
        return (
            f"Temperature {self.temperature:g} was fitted to lower the log loss of {self.images} images of the "
            f"{self.split} split, from {before.nll:.4f} to {after.nll:.4f}; their calibration error{badly} went from "
            f"{before.ece:.3f} to {after.ece:.3f}."
        )
