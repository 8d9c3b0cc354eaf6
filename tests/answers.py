"""Rows of models that predict classes or saliency only."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from cxrgaze_ray.models.settings import Answer
from cxrgaze_ray.schemas import ANSWERS

ONE: tuple[tuple[Answer, ...], ...] = (("classes",), ("saliency",))
"""What the models predict that do not predict both."""


def only(predicts: Collection[str], row: dict[str, Any]) -> dict[str, Any]:
    """Return a result row as a model leaves it that predicts nothing else."""
    absent = {name for answer, names in ANSWERS.items() if answer not in predicts for name in names}
    return {name: value for name, value in row.items() if name not in absent}
