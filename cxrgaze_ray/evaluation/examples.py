"""A few images of a split to look at, chosen by nobody: those with the first ids of each class."""

from __future__ import annotations

import heapq
from collections import defaultdict

import pyarrow.compute as pc

from cxrgaze_ray.evaluation.answers import Labelled


def first_of_each_class(store: Labelled, split: str, count: int = 1, *, seen_only: bool = False) -> list[str]:
    """Return the ids of labelled images, class after class, at most `count` of each in the order of ids.

    Parameters
    ----------
    seen_only
        Take only images that somebody looked at.
    """
    found: defaultdict[int, list[str]] = defaultdict(list)
    for table in store.tables(split, ["image_id", "label", "gaze_peak"]):
        wanted = pc.is_valid(table["label"])
        if seen_only:
            wanted = pc.and_(wanted, pc.is_valid(table["gaze_peak"]))
        for row in table.filter(wanted).select(["image_id", "label"]).to_pylist():
            found[row["label"]] = heapq.nsmallest(count, {*found[row["label"]], row["image_id"]})
    return [image_id for label in sorted(found) for image_id in found[label]]
