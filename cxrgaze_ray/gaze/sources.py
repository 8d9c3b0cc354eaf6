"""Which data sets of eye tracking an ingest was given: EGD-CXR, REFLACX or both, told apart by their files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.gaze import reflacx
from cxrgaze_ray.gaze.egd import EgdTables, read_egd
from cxrgaze_ray.gaze.reflacx import ReflacxIndex, read_index
from cxrgaze_ray.storage import Store, open_store

_EGD_FILES = ("master_sheet.csv", "eye_gaze.csv")


@dataclass(frozen=True)
class GazeSources:
    """Where each data set lies; None if it was not given."""

    egd: Store | None = None
    reflacx: Store | None = None

    def describe(self) -> dict[str, dict[str, str]]:
        """Return the tables' etags by data set: another copy of the tables is another ingest."""
        return {
            name: {key: info.etag for key in files if (info := store.info(key)) is not None}
            for name, store, files in (("egd", self.egd, _EGD_FILES), ("reflacx", self.reflacx, reflacx.METADATA))
            if store is not None
        }

    def read(self) -> GazeTables:
        """Read EGD-CXR's tables and REFLACX's list of readings."""
        return GazeTables(read_egd(self.egd) if self.egd else None, read_index(self.reflacx) if self.reflacx else None)


@dataclass(frozen=True)
class GazeTables:
    """What the data sets hold."""

    egd: EgdTables | None = None
    reflacx: ReflacxIndex | None = None

    def counts(self) -> dict[str, int]:
        """Return the readers' own counts with the data set's name before them, and the overlap where both are given."""
        counts = {f"egd_{name}": value for name, value in (self.egd.counts if self.egd else {}).items()}
        counts |= {f"reflacx_{name}": value for name, value in (self.reflacx.counts if self.reflacx else {}).items()}
        return counts | self._overlap()

    def _overlap(self) -> dict[str, int]:
        if self.egd is None or self.reflacx is None:
            return {}
        looked_at = self.egd.images_with_gaze
        patients = {study.subject_id for study in self.egd.studies.values() if study.image_id in looked_at} - {None}
        return {
            "images_in_both_sources": len(looked_at & set(self.reflacx.table["image_id"].to_pylist())),
            "patients_in_both_sources": len(patients & set(self.reflacx.table["subject_id"].to_pylist())),
        }


def find_gaze(uris: Iterable[str]) -> GazeSources:
    """Tell from its files which data set lies at each URI.

    Raises
    ------
    UserError
        If one is neither, or two are the same.
    """
    found: dict[str, Store] = {}
    for uri in uris:
        store = open_store(uri)
        name = _kind(store)
        if name in found:
            raise UserError("Two of the gaze folders are of the same data set.", "Give each data set once.")
        found[name] = store
    return GazeSources(**found)


def _kind(store: Store) -> str:
    if any(store.exists(name) for name in _EGD_FILES):
        return "egd"
    if any(store.exists(name) for name in reflacx.METADATA):
        return "reflacx"
    raise UserError(
        f"{store.uri} holds neither EGD-CXR's tables nor REFLACX's.",
        f"Give the folder with {_EGD_FILES[0]}, or the one with {reflacx.METADATA[0]}.",
    )
