"""The splits that the paper and its released code describe, for those who want their figures and not ours."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.gaze.egd import EgdTables
from cxrgaze_ray.gaze.ids import find_images
from cxrgaze_ray.shards.store import SplitSettings

_PAPER_TEST, _PAPER_IMAGES = 100, 1083
_RELEASED_SEED = 0


def paper_split(joined: pa.Table, settings: SplitSettings) -> pa.Array:
    """Split as the paper's 983 and 100 images, but by patient: whole patients, until the test split has its share.

    Qiu et al. (Med Phys 2025) drew 100 of EGD-CXR's 1,083 images for the test. Of another number of images with a label
    and gaze, the same share is drawn. Of the remaining ones, the share `validation` of the settings is set apart.

    Parameters
    ----------
    joined
        Files with ``subject_id``, ``label``, ``samples`` and ``readings``.
    settings
        Gives the salt that orders the patients, and the share of the validation split.

    Raises
    ------
    UserError
        If a patient is not named, or no image has both a label and gaze.
    """
    if joined["subject_id"].null_count:
        raise UserError(
            "The paper's split is by patient, and no table names the patients of some images.",
            "Give their patients in the list's column subject_id, or choose --split patient.",
        )
    seen = pc.or_(pc.is_valid(joined["samples"]), pc.is_valid(joined["readings"]))
    counted = joined.filter(pc.and_(pc.is_valid(joined["label"]), seen))["subject_id"]
    images = Counter(counted.to_pylist())
    if not images:
        raise UserError("No image has both a label and gaze.", "Give EGD-CXR's tables with --gaze.")
    order = sorted(images, key=lambda patient: hashlib.sha256(f"{settings.salt}:{patient}".encode()).digest())
    test = _whole_patients(order, images, round(images.total() * _PAPER_TEST / _PAPER_IMAGES))
    rest = [patient for patient in order if patient not in test]
    left = images.total() - sum(images[patient] for patient in test)
    validation = _whole_patients(rest, images, round(left * settings.validation))
    place = dict.fromkeys(test, "test") | dict.fromkeys(validation, "validation")
    return pa.array([place.get(patient, "train") for patient in joined["subject_id"].to_pylist()], pa.string())


def _whole_patients(order: list[str], images: Counter[str], target: int) -> set[str]:
    """Take patients in order, leaving out those whose images are more than are still wanted."""
    taken, count = set(), 0
    for patient in order:
        if count + images[patient] <= target:
            taken.add(patient)
            count += images[patient]
    return taken


def released_split(joined: pa.Table, egd: EgdTables | None, identities: Identities) -> pa.Array:
    """Split as the released code: the master sheet shuffled, and of each class every ten images dealt 2 : 1 : 7.

    The code counts a class's images as they come, and deals numbers 10k and 10k + 1 to the test split, 10k + 2 to the
    validation split, the rest to training. It looks at images, not at patients.

    Returns
    -------
    pa.Array
        Null for files that the sheet does not list, or lists without one label.

    Raises
    ------
    UserError
        Without EGD-CXR's master sheet.
    """
    if egd is None:
        raise UserError("The released split deals out EGD-CXR's master sheet.", "Give EGD-CXR's tables with --gaze.")
    studies = list(egd.studies.values())
    splits: list[str | None] = [None] * len(studies)
    counter: Counter[int] = Counter()
    for place in torch_permutation(len(studies), _RELEASED_SEED):
        label = studies[place].label
        if label is None:
            continue
        counter[label] += 1
        number = counter[label] % 10
        splits[place] = "test" if number <= 1 else "validation" if number == 2 else "train"
    found = find_images(joined["image_id"].combine_chunks(), [study.image_id for study in studies], identities)
    return pa.array(splits, pa.string()).take(found)


def torch_permutation(count: int, seed: int) -> list[int]:
    """Return the permutation that `torch.randperm` draws from a generator with this seed; ingest loads no torch."""
    # the legacy generator: it is seeded as torch's is, where today's would hash the seed first
    words = np.random.RandomState(seed).randint(0, 2**32, size=count, dtype=np.uint32).tolist()
    order = list(range(count))
    for place, word in zip(range(count - 1), words, strict=False):
        other = place + word % (count - place)
        order[place], order[other] = order[other], order[place]
    return order
