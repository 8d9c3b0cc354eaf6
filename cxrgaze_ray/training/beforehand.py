"""What is wrong with a training's rows, told before its first step: its last phase may begin days later.

What nothing can be learned from is an error, and so is what contradicts itself. What makes figures worth less, while
the training keeps its meaning, is a warning: a store of one hospital may well lack a class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.schemas import CLASSES
from cxrgaze_ray.training.feed import in_batches, order_of
from cxrgaze_ray.training.recipes import RECIPES, Stage, StageName
from cxrgaze_ray.training.rows import Rows, usable
from cxrgaze_ray.training.settings import TrainSettings

_TRIPLET = "two images of a class and one of another"


def check_rows(train: Rows, validation: Rows, settings: TrainSettings, phases: Iterable[StageName]) -> None:
    """Check that every phase has something to learn from, and something to be judged by.

    Parameters
    ----------
    train, validation
        Rows of the two splits.
    settings
        Settings of the training.
    phases
        Those of its phases that are still to be trained.

    Raises
    ------
    UserError
        If an image has two labels, no image of a split can take part in a phase, all that a diagnosis would be learned
        from have one class, or an epoch would be without a triplet where triplets are learned from.
    """
    _check_labels(train, validation)
    for name in phases:
        stage, otherwise = RECIPES[settings.system].stages[name], settings.without(name)
        learned_N = _taking_part(train, stage, "train", otherwise)
        judged_N = _taking_part(validation, stage, "validation", otherwise)
        if stage.objective == "triplet":
            _check_triplets(learned_N, judged_N, settings, name, otherwise)
        elif stage.needs_label and len(only := np.unique(learned_N)) == 1:
            raise UserError(
                f"All images of the train split that phase {name} would learn from are of class "
                f"{CLASSES[only[0]]}: there is nothing to tell apart.",
                f"Ingest images of other classes{otherwise}.",
            )


def warnings_of(train: Rows, validation: Rows, test: Rows, settings: TrainSettings) -> list[str]:
    """Return sentences on what makes a training, or the figures of its model, worth less than they might be."""
    stages = [RECIPES[settings.system].stages[name] for name in settings.stages]
    return [
        *(note for stage in stages for note in _partial(train, stage)),
        *_classes(train, validation, stages),
        *_untested(test, stages, reads_gaze=settings.network.needs_gaze),
    ]


def _check_labels(*splits: Rows) -> None:
    """Refuse an image with two labels: nobody could say which of them a model should learn."""
    ids = pa.chunked_array([rows.image_ids for rows in splits], pa.string())
    label_N = np.concatenate([rows.label_N for rows in splits])
    labelled = pa.table({"id": ids, "label": label_N}).filter(pa.array(label_N >= 0))
    several = labelled.group_by("id").aggregate([("label", "count_distinct")])["label_count_distinct"]
    if twice := pc.sum(pc.greater(several, 1)).as_py():
        raise UserError(
            f"{twice} image{'s are' if twice > 1 else ' is'} in the store more than once, with different labels.",
            "Correct the labels, or give each image an id of its own, and ingest into another store.",
        )


def _taking_part(rows: Rows, stage: Stage, split: str, otherwise: str) -> NDArray[np.int8]:
    """Return the labels of the rows that take part in a phase."""
    label_N: NDArray[np.int8] = rows.label_N[usable(rows, stage)]
    if not len(rows.label_N):
        raise UserError(f"The store has no {split} split.", "Ingest more patients, or with other --split-shares.")
    if not len(label_N):
        missing = " and ".join(["a label"] * stage.needs_label + ["gaze"] * stage.needs_gaze)
        raise UserError(
            f"No image of the {split} split has {missing}, which phase {stage.name} learns from.",
            f"Ingest more{otherwise}.",
        )
    return label_N


def _check_triplets(
    learned_N: NDArray[np.int8], judged_N: NDArray[np.int8], settings: TrainSettings, name: StageName, otherwise: str
) -> None:
    """Look for triplets in the very batches that the phase will be given: an epoch without any has no loss."""
    batch, epochs = settings.stages[name].batch, settings.stages[name].epochs
    for split, label_N in (("train", learned_N), ("validation", judged_N)):
        if not _mined([label_N]):
            raise UserError(
                f"The {split} split holds no triplet, which phase {name} learns from: {_TRIPLET}.",
                f"Ingest more images of each class{otherwise}.",
            )
    orders = (order_of(settings.seed, epoch, len(learned_N)) for epoch in range(epochs))
    if not all(_mined(learned_N[part] for part in in_batches(order, batch)) for order in orders):
        raise _too_small("train", name, batch, otherwise)
    if not _mined(judged_N[part] for part in in_batches(np.arange(len(judged_N)), batch)):
        raise _too_small("validation", name, batch, otherwise)


def _too_small(split: str, name: StageName, batch: int, otherwise: str) -> UserError:
    return UserError(
        f"Batches of {batch} are too small for the {split} split: no batch of an epoch would hold a triplet, which "
        f"phase {name} learns from: {_TRIPLET}.",
        f"Raise stages.{name}.batch, or ingest more images of each class{otherwise}.",
    )


def _mined(batches: Iterable[NDArray[np.int8]]) -> bool:
    for label_B in batches:
        counts_K = np.unique(label_B, return_counts=True)[1]
        if len(counts_K) > 1 and counts_K.max() > 1:
            return True
    return False


def _partial(train: Rows, stage: Stage) -> Iterator[str]:
    """Say that a phase learns from a part of the images only."""
    every, part = len(train.label_N), int(usable(train, stage).sum())
    if part < every:
        missing = " or ".join(["no label"] * stage.needs_label + ["no gaze"] * stage.needs_gaze)
        yield f"Phase {stage.name} learns from {part} of {every} images: the others have {missing}."


def _classes(train: Rows, validation: Rows, stages: list[Stage]) -> Iterator[str]:
    """Say which classes a split lacks that a diagnosis is learned from, or judged by."""
    if not any(stage.needs_label for stage in stages):
        return
    if lacking := _lacking(train):
        yield f"Warning: no image of the train split is of class {_listed(lacking)}: the model will never see one."
    if len(lacking := _lacking(validation)) == len(CLASSES) - 1:
        yield (
            f"Warning: no image of the validation split is of class {_listed(lacking)}: the epoch that is kept will be "
            "the one that most surely answers the one class that is there."
        )


def _untested(test: Rows, stages: list[Stage], *, reads_gaze: bool) -> Iterator[str]:
    """Say what the test split can't measure of the model."""
    if not len(test.label_N):
        yield "Warning: the store has no test split: the model will carry no metrics."
        return
    told = "Warning: no image of the test split"
    if reads_gaze and not test.seen_N.any():
        yield f"{told} has gaze, which the model reads beside the image: it will carry no metrics."
        return
    if any(stage.needs_label for stage in stages) and len(lacking := _lacking(test)) >= len(CLASSES) - 1:
        what = f"is of class {_listed(lacking)}" if len(lacking) < len(CLASSES) else "has a label"
        yield f"{told} {what}: nobody will know how well the model tells classes apart."
    if any(stage.needs_gaze for stage in stages) and not test.seen_N.any():
        yield f"{told} has gaze: nobody will know how good the model's maps are."


def _lacking(rows: Rows) -> list[str]:
    there = set(np.unique(rows.label_N).tolist())
    return [name for number, name in enumerate(CLASSES) if number not in there]


def _listed(names: list[str]) -> str:
    return " or ".join(names)
