"""Ids of a data set's tables beside an archive's: however they are spelled, and where the archive's are hashes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cxrgaze_ray.archive.identities import Identities


def folded(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Return image ids in one spelling: lower case, nothing where there is none."""
    return pc.utf8_lower(pc.fill_null(column, ""))


def numbered(column: pa.ChunkedArray | pa.Array, letter: str) -> pa.ChunkedArray | pa.Array:
    """Return ids in one spelling: p10000032 as 10000032, and 10000032.0 too, of a program that took it for a number."""
    bare = pc.replace_substring_regex(column, rf"^[{letter}{letter.upper()}](\d+)$", r"\1")
    return pc.replace_substring_regex(bare, r"^(\d+)[.,]0+$", r"\1")


def find_images(wanted: pa.ChunkedArray | pa.Array, known: Sequence[str], identities: Identities) -> pa.Array:
    """Return where each image of an archive is among folded ids (int32), null where it is not.

    Parameters
    ----------
    wanted
        The archive's image ids, as its manifest has them.
    identities
        Made them of raw ones. A hash tells nothing of the case of what was hashed: both are tried.
    """
    spellings = [known, [text.upper() for text in known]] if identities.key is not None else [known]
    names = pa.array([identities.of("image", text) for one in spellings for text in one], pa.string())
    places = pa.array([*range(len(known))] * len(spellings), pa.int32())
    return places.take(pc.index_in(folded(wanted), value_set=names))


def without_repeats(table: pa.Table) -> tuple[pa.Table, int]:
    """Return the rows but for those that say in every column what another said before, and how many these are."""
    places = table.append_column("place", pa.array(np.arange(table.num_rows)))
    first = places.group_by(table.column_names, use_threads=False).aggregate([("place", "min")])["place_min"]
    repeats = table.num_rows - len(first)
    return (table.take(np.sort(first.to_numpy())), repeats) if repeats else (table, 0)
