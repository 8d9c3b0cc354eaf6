"""What can drift between the archive that a model learned from and the one that it meets: each kind on its own.

Drift draws from streams of its own: the same seed gives the same patients and anatomies with it and without.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated

from numpy.random import Generator
from pydantic import Field
from pydicom.uid import JPEG2000Lossless

from cxrgaze_ray.config import Settings
from cxrgaze_ray.phantoms.files import Recipe
from cxrgaze_ray.phantoms.film import USUAL, Technique
from cxrgaze_ray.schemas import CLASSES

Strength = Annotated[float, Field(ge=0, le=1)]

_DOSE, _GAMMA, _GRAIN = 0.5, -0.35, 1.8
"""What a detector out of calibration adds at full strength, as shares of the usual."""

_STATIONARY, _MOBILE = ("Helio Systems", "H-9"), ("Helio Systems", "H-9 Mobile")
_MOBILE_SHARE = 0.8
_MATRIX = 0.8, 0.86
"""The other site's detector: rows as a share of the archive's middle height, columns as a share of its rows."""

_BITS = 15
_SITE = Technique(gamma=1.15, contrast=0.8, grain=0.018, ringed=True)
_OUTBREAK = 0.7


class Drift(Settings):
    """How far an archive has drifted, by kind; 0 is not at all."""

    exposure: Strength = 0.0
    """A detector out of calibration: more dose, another gamma, more noise, from the same devices."""

    polarity: Strength = 0.0
    """Share of the DICOM files whose PhotometricInterpretation says the opposite of their values."""

    site: Strength = 0.0
    """Share of the images that come from another hospital: its devices, bits, transfer syntax, matrix, views, greys."""

    prevalence: Strength = 0.0
    """An outbreak: at 1, seven of ten other studies turn to pneumonia."""

    @classmethod
    def of(cls, kinds: Iterable[str], strength: float = 1.0) -> Drift:
        """Return a drift of some kinds, all of one strength; ConfigError if there is no such kind."""
        return cls.build(**dict.fromkeys(kinds, strength))

    def in_effect(self) -> dict[str, float]:
        """Return the strengths above 0."""
        return {kind: strength for kind, strength in self.model_dump().items() if strength}


@dataclass(frozen=True)
class Shot:
    """How one image is taken and stored."""

    view: str
    rows: int
    columns: int
    recipe: Recipe
    technique: Technique = USUAL


def drifted(shot: Shot, drift: Drift, rng: Generator, height: tuple[int, int]) -> Shot:
    """Return how an image is taken under drift.

    Parameters
    ----------
    shot
        How it would be taken without.
    rng
        Random numbers for this image's drift alone.
    height
        Least and most rows of an image of the archive.
    """
    elsewhere, mobile, mislabelled = rng.random(3) < (drift.site, _MOBILE_SHARE, drift.polarity)
    if elsewhere:
        shot = _at_other_site(shot, bool(mobile), round(_MATRIX[0] * sum(height) / 2))
    technique = replace(
        shot.technique,
        dose=shot.technique.dose * (1 + _DOSE * drift.exposure),
        gamma=shot.technique.gamma * (1 + _GAMMA * drift.exposure),
        grain=shot.technique.grain * (1 + _GRAIN * drift.exposure),
    )
    return replace(shot, technique=technique, recipe=replace(shot.recipe, mislabelled=bool(mislabelled)))


def _at_other_site(shot: Shot, mobile: bool, rows: int) -> Shot:
    view, vendor = ("AP", _MOBILE) if mobile else ("PA", _STATIONARY)
    recipe = replace(
        shot.recipe,
        bits=_BITS,
        transfer_syntax=str(JPEG2000Lossless),
        view=view if shot.recipe.view else None,
        vendor=vendor,
    )
    return Shot(view, rows, round(_MATRIX[1] * rows), recipe, _SITE)


def drifted_label(label: int, drift: Drift, rng: Generator) -> int:
    """Return a study's label under drift; `rng` is of this study's drift alone."""
    return CLASSES.index("pneumonia") if rng.random() < _OUTBREAK * drift.prevalence else label
