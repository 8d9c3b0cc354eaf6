"""What is wrong with a training's rows, told before its first step: its last phase may begin days later."""

from __future__ import annotations

from collections.abc import Iterable

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.schemas import CLASSES
from cxrgaze_ray.training.feed import Feed
from cxrgaze_ray.training.recipes import Stage


def check_rows(train: Feed, validation: Feed, stages: Iterable[Stage]) -> None:
    """Check that every phase has something to learn from, and something to be judged by.

    Raises
    ------
    UserError
        If no image of a split can take part in a phase, or all that a diagnosis would be learned from have one class.
    """
    for stage in stages:
        learned = train.select(stage, "train split")
        validation.select(stage, "validation split")
        classes = learned.classes() if stage.needs_label else []
        if len(classes) == 1:
            raise UserError(
                f"All images of the train split that phase {stage.name} would learn from are of class "
                f"{CLASSES[classes[0]]}: there is nothing to tell apart.",
                "Ingest images of other classes, or leave the phase out: --phases.",
            )
