"""Figures of one saliency map against what the image's readers looked at; neither torch nor Ray is needed.

KL, CC and HS compare it with the readers' map, NSS and shuffled AUC with the looks themselves. `score_image` gives all
of them for an image, and the same for what a map must be seen beside: see `Reference`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.evaluation.table import MAP_SCORES, ImageScores, MapScores
from cxrgaze_ray.gaze.heatmap import LOOK
from cxrgaze_ray.gaze.packed import Seen, pool_looks

Floats = NDArray[np.floating]
Looks = NDArray[np.void]
"""Records of `gaze.heatmap.LOOK`."""

_POOLED = 64
"""Looks that an image lends to others as negatives: hundreds of samples of one dwell tell no more."""

_NEGATIVES = 1024
"""Negatives of an image."""


def kl_divergence(gaze_HW: Floats, saliency_HW: Floats) -> float | None:
    """Return sum q (ln q - ln p), q the gaze and p the saliency, each normalised to sum 1; None without mass."""
    q, p = _normalised(gaze_HW), _normalised(saliency_HW)
    if q is None or p is None:
        return None
    p, seen = np.maximum(p, np.finfo(np.float64).tiny), q > 0
    return float(np.sum(q[seen] * (np.log(q[seen]) - np.log(p[seen]))))


def correlation(gaze_HW: Floats, saliency_HW: Floats) -> float | None:
    """Return Pearson's r over pixels, in float64; None if a map is constant."""
    with np.errstate(invalid="ignore"):  # infinite maps have no spread, like those with NaN
        varied = np.ptp(gaze_HW) > 0 and np.ptp(saliency_HW) > 0
    if not varied:
        return None  # a mean is rounded, so the deviations from it need not be zero
    q, p = (array.astype(np.float64).ravel() - array.mean(dtype=np.float64) for array in (gaze_HW, saliency_HW))
    spread = float(np.sqrt(_dot(q, q) * _dot(p, p)))
    return _dot(q, p) / spread if spread > 0 else None


def _dot(a_N: NDArray[Any], b_N: NDArray[Any]) -> float:
    """Return the inner product, the same to the bit on any number of cores; BLAS, behind `@`, splits a sum by them."""
    return float(np.sum(a_N * b_N))


def histogram_similarity(gaze_HW: Floats, saliency_HW: Floats) -> float | None:
    """Return sum min(p, q), each normalised to sum 1: 1 for equal maps, 0 for disjoint ones; None without mass."""
    q, p = _normalised(gaze_HW), _normalised(saliency_HW)
    return None if q is None or p is None else float(np.minimum(q, p).sum())


def _normalised(map_HW: Floats) -> NDArray[np.float64] | None:
    """Return a map normalised to sum 1; None if that fails: it is zero everywhere, or not a number somewhere."""
    wide = map_HW.astype(np.float64)
    total = wide.sum()
    if not (np.isfinite(total) and total > 0):
        return None
    normalised: NDArray[np.float64] = wide / total
    return normalised


def normalised_scanpath_saliency(looks: Looks, saliency_HW: Floats) -> float | None:
    """Return the mean of the map where somebody looked, in its own standard deviations: 0 is chance.

    NSS of Peters et al. (Vision Research 2005), as in Le Meur & Baccino (Behav Res 2013); looks weigh as long as they
    lasted. None without a look, or if the map is constant or not a number somewhere.
    """
    weight_N = looks["weight"].astype(np.float64)
    if not (np.isfinite(saliency_HW).all() and np.ptp(saliency_HW) > 0 and weight_N.sum() > 0):
        return None
    wide = saliency_HW.astype(np.float64)
    at_N = (wide[looks["y"], looks["x"]] - wide.mean()) / wide.std()
    return float(_dot(at_N, weight_N) / weight_N.sum())


def shuffled_auc(looks: Looks, negatives: Looks, saliency_HW: Floats) -> float | None:
    """Return how often the map is higher where somebody looked than where others looked at other images.

    Ties count half: 0.5 is chance, which a map that knows nothing of the image does not exceed, however well it knows
    where readers look in general (Zhang et al., J Vis 2008; Borji et al., IEEE TIP 2013). Looks weigh as long as they
    lasted, and every negative the same. None without looks or negatives, or if the map is not a number somewhere.
    """
    weight_N = looks["weight"].astype(np.float64)
    if not (len(negatives) and weight_N.sum() > 0 and np.isfinite(saliency_HW).all()):
        return None
    at_N, order = saliency_HW[looks["y"], looks["x"]], np.sort(saliency_HW[negatives["y"], negatives["x"]])
    below_N, upto_N = (np.searchsorted(order, at_N, side) for side in ("left", "right"))
    return float(_dot(weight_N, below_N + upto_N) / (2 * len(order) * weight_N.sum()))


def score_map(
    gaze_HW: Floats, saliency_HW: Floats, looks: Looks | None = None, negatives: Looks | None = None
) -> MapScores:
    """Score one map against one gaze map, and the looks behind it where they are known."""
    return MapScores(
        kl=kl_divergence(gaze_HW, saliency_HW),
        cc=correlation(gaze_HW, saliency_HW),
        hs=histogram_similarity(gaze_HW, saliency_HW),
        nss=None if looks is None else normalised_scanpath_saliency(looks, saliency_HW),
        sauc=None if looks is None or negatives is None else shuffled_auc(looks, negatives, saliency_HW),
    )


class Negatives:
    """Where the readers of a split looked, to be drawn from for images of other patients.

    Every image lends the same number of looks, drawn by how long they lasted; all draws are seeded by image ids, so
    that neither the order of the images nor other models change them.

    Parameters
    ----------
    seen
        Image id, patient and looks of every image of the split that somebody looked at.
    """

    def __init__(self, seen: Iterable[tuple[str, str, Looks]] = ()) -> None:
        lent = sorted(
            ((patient, name, _draw(name, looks)) for name, patient, looks in seen if looks["weight"].sum() > 0),
            key=lambda one: one[:2],
        )
        self._pool = np.concatenate([np.empty(0, LOOK), *(looks for _, _, looks in lent)])
        self._places: dict[str, slice] = {}
        for number, (patient, _, _) in enumerate(lent):
            start = self._places[patient].start if patient in self._places else number * _POOLED
            self._places[patient] = slice(start, (number + 1) * _POOLED)

    def of_others(self, image_id: str, patient: str) -> Looks:
        """Return looks at images of other patients; none if there is no other."""
        own = self._places.get(patient, slice(0, 0))
        others = len(self._pool) - (own.stop - own.start)
        if not others:
            return self._pool[:0]
        index = _rng("negatives", image_id).integers(0, others, _NEGATIVES)
        return self._pool[np.where(index >= own.start, index + own.stop - own.start, index)]


def _draw(image_id: str, looks: Looks) -> Looks:
    weight = looks["weight"].astype(np.float64)
    return looks[_rng("lent", image_id).choice(len(looks), _POOLED, p=weight / weight.sum())]


def _rng(purpose: str, image_id: str) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256(f"{purpose}:{image_id}".encode()).digest()))


@dataclass(frozen=True)
class Reference:
    """What the maps of a split are measured beside, the same for every model.

    Attributes
    ----------
    centre_HW
        Mean gaze map of the training split, the centre-bias baseline; None if nobody looked at an image of it.
    negatives
        Looks at the images of the split itself.
    """

    centre_HW: NDArray[np.float32] | None
    negatives: Negatives


def score_image(row: Mapping[str, Any], density_HW: Floats, reference: Reference) -> ImageScores | None:
    """Score the map that a model predicts for an image; None if nobody looked at it.

    Parameters
    ----------
    row
        image_id, subject_id and `gaze.packed.GAZE_COLUMNS` of the store's row.
    """
    if (seen := Seen.of(row)) is None:
        return None
    looks = seen.looks
    negatives = reference.negatives.of_others(row["image_id"], row["subject_id"] or row["image_id"])
    centre_HW = reference.centre_HW
    return ImageScores(
        model=score_map(seen.density_HW, density_HW, looks, negatives),
        centre=None if centre_HW is None else score_map(seen.density_HW, centre_HW, looks, negatives),
        readers=_agreement(seen, negatives),
    )


def _agreement(seen: Seen, negatives: Looks) -> MapScores | None:
    """Return the mean over ordered pairs of readers, one's map against what the other looked at; None of one reader."""
    mapped = [(one.density_HW, pool_looks([one.looks])) for one in seen.readers if one.density_HW is not None]
    scores = [
        score_map(theirs_HW, map_HW, looks, negatives) for (map_HW, _), (theirs_HW, looks) in permutations(mapped, 2)
    ]
    return MapScores(**{name: _mean([getattr(one, name) for one in scores]) for name in MAP_SCORES}) if scores else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
