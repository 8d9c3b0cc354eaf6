"""What a training's rows lack is told before the first step, with advice that helps."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.training.beforehand import check_rows, warnings_of
from cxrgaze_ray.training.rows import HeldRows, StoredRow
from cxrgaze_ray.training.settings import TrainSettings

SOUND = [0, 0, 1, 1, 2, 2]
_NUMBERS = itertools.count()


def rows(labels: list[Any], *, gaze: bool | int = True, ids: list[str] | None = None) -> HeldRows:
    """Return rows with these labels, of images like no others; `gaze` may be the number of rows that have it."""
    with_gaze = len(labels) * gaze if isinstance(gaze, bool) else gaze
    seen = b"\x01" * (640 * 512 * 2)
    names = ids or [f"image-{next(_NUMBERS)}" for _ in labels]
    maps = [seen if number < with_gaze else None for number in range(len(labels))]
    return HeldRows(StoredRow(*row) for row in zip(names, labels, itertools.repeat(b""), maps, strict=False))


def settings(*phases: str, system: str = "gazenet", batch: int = 6) -> TrainSettings:
    chosen = list(phases) or None
    base = TrainSettings.for_preset("tiny", chosen, system=system)
    stages = {name: one.model_copy(update={"batch": batch}) for name, one in base.stages.items()}
    return base.model_copy(update={"stages": stages})


def fault(train: HeldRows, validation: HeldRows, chosen: TrainSettings) -> UserError:
    with pytest.raises(UserError) as told:
        check_rows(train, validation, chosen, chosen.stages)
    return told.value


def test_sound_rows_are_said_nothing_about() -> None:
    chosen = settings()
    check_rows(rows(SOUND), rows(SOUND), chosen, chosen.stages)
    assert warnings_of(rows(SOUND), rows(SOUND), rows(SOUND), chosen) == []


@pytest.mark.parametrize("label", [1, None])
def test_an_image_with_two_labels_is_refused_wherever_it_lies(label: int | None) -> None:
    one, again = rows([0, 0], ids=["a", "b"]), rows([*SOUND, label], ids=[*"cdefgh", "a"])
    if label is None:  # a second picture of the same name without a label contradicts nothing
        check_rows(rows([0, 1]), again, settings("encoder"), ["encoder"])
    else:
        assert "1 image is in the store more than once" in fault(one, again, settings("encoder")).message


@pytest.mark.parametrize(
    ("train", "validation", "said"),
    [
        ([], SOUND, "The store has no train split."),
        (SOUND, [], "The store has no validation split."),
        ([None, None], SOUND, "No image of the train split has a label"),
        (SOUND, [None], "No image of the validation split has a label"),
        ([1, 1, 1], SOUND, "The train split holds no triplet"),
        ([0, 1, 2], SOUND, "The train split holds no triplet"),
        (SOUND, [0, 1, 2], "The validation split holds no triplet"),
    ],
)
def test_what_a_phase_can_not_learn_from_is_an_error(train: list[Any], validation: list[Any], said: str) -> None:
    assert fault(rows(train), rows(validation), settings("contrastive", "encoder")).message.startswith(said)


@pytest.mark.parametrize(("split", "labels"), [("train", [0, 0, 1] * 4), ("validation", [0, 1, 0, 1, 0, 1])])
def test_batches_too_small_for_triplets_are_told_from_the_very_order_of_an_epoch(split: str, labels: list[int]) -> None:
    pair = (rows(labels), rows(SOUND)) if split == "train" else (rows(SOUND * 9), rows(labels))
    told = fault(*pair, settings("contrastive", batch=2))
    assert "Batches of 2 are too small" in told.message
    assert "Raise stages.contrastive.batch" in told.hint
    enough = settings("contrastive")
    check_rows(*pair, enough, enough.stages)


def test_leaving_a_phase_out_is_advised_only_where_another_is_left() -> None:
    two, one = settings("encoder", "saliency"), settings("encoder", system="dnet201")
    assert fault(rows([1, 1]), rows(SOUND), two).hint.endswith("or leave the phase out: --phases saliency.")
    assert "--phases" not in fault(rows([1, 1]), rows(SOUND), one).hint


def test_what_makes_figures_worth_less_is_a_warning() -> None:
    chosen = settings("encoder", "saliency")
    told = warnings_of(rows([0, 0, 1, 1], gaze=3), rows([1, 1]), rows([2, 2], gaze=False), chosen)
    assert told == [
        "Phase saliency learns from 3 of 4 images: the others have no gaze.",
        "Warning: no image of the train split is of class pneumonia: the model will never see one.",
        "Warning: no image of the validation split is of class normal or pneumonia: the epoch that is kept will be the "
        "one that most surely answers the one class that is there.",
        "Warning: no image of the test split is of class normal or heart_failure: nobody will know how well the model "
        "tells classes apart.",
        "Warning: no image of the test split has gaze: nobody will know how good the model's maps are.",
    ]
    (untested,) = warnings_of(rows(SOUND), rows(SOUND), rows([]), chosen)
    assert untested == "Warning: the store has no test split: the model will carry no metrics."


def test_a_model_that_reads_gaze_can_not_be_tested_without_any() -> None:
    told = warnings_of(rows(SOUND), rows(SOUND), rows(SOUND, gaze=False), settings(system="gazegnn"))
    (warned,) = told
    assert warned.endswith("test split has gaze, which the model reads beside the image: it will carry no metrics.")
