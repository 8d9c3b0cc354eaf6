"""A planned file to a model image and the row's identity: what scoring and ingest do alike, one file at a time."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.archive.manifest import fetch_listed
from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.decoding import Decoded, Decoder
from cxrgaze_ray.radiograph.reading import Reading, read_view
from cxrgaze_ray.schemas import ID_FIELDS, Reason
from cxrgaze_ray.telemetry import timed
from cxrgaze_ray.telemetry.table import STAGE_SECONDS

METADATA = "metadata"
"""view_source of a view that the archive's own tables state in so many words."""


class Intake:
    """Fetches and decodes planned files.

    Parameters
    ----------
    profile
        Preprocessing profile.
    reading
        How files are read.
    identities
        What becomes of identifiers that stand in the files' tags only.
    decoder
        Decodes the files; by default a decoder of the profile.
    job
        Job that fetching and decoding are timed for, a value of `telemetry.labels.WORK`; None times nothing.
    """

    def __init__(
        self,
        profile: str,
        reading: Reading,
        identities: Identities,
        decoder: Decoder | None = None,
        *,
        job: str | None = None,
    ) -> None:
        self._reading, self._identities, self._job = reading, identities, job
        self._decoder = decoder or Decoder(profile, reading=reading)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.close()

    def take(self, planned: Mapping[str, Any]) -> Decoded:
        """Decode a planned file; one that the archive's tables rule out is never fetched.

        Parameters
        ----------
        planned
            A row of `schemas.MANIFEST` or `schemas.PLAN`.

        Raises
        ------
        RadiographError
            With the reason and what is known of the view, if the file gives no image.
        EnvironmentFault
            If the archive can't be read: an outage is never a row.
        """
        view = {"view_position": planned["view_position"], "view_source": planned["view_source"] or "unknown"}
        try:
            if self._reading.frontal_only and _ruled_out(planned):
                raise RadiographError(Reason.LATERAL_VIEW, "The archive's tables say that the view is not frontal.")
            with self._timed("fetch"):
                data = fetch_listed(dict(planned))
            with self._timed("decode"):
                return self._decoder.decode(data, planned["view_position"], view["view_source"])
        except RadiographError as error:
            error.facts = view | error.facts
            raise

    def _timed(self, stage: str) -> AbstractContextManager[None]:
        return timed(STAGE_SECONDS, job=self._job, stage=stage) if self._job else nullcontext()

    def ids(self, planned: Mapping[str, Any], source: Decoded | RadiographError) -> dict[str, Any]:
        """Return the identifiers of a row: the plan's, and where it has none, those of the file's tags."""
        ids = {name: planned[name] for name, _ in ID_FIELDS}
        ids["subject_id"] = ids["subject_id"] or self._identities.of("patient", source.patient)
        ids["study_id"] = ids["study_id"] or self._identities.of("study", source.study)
        return ids


def _ruled_out(planned: Mapping[str, Any]) -> bool:
    """Say whether a table states a view that is not frontal. What procedure texts suggest, a tag may correct."""
    return planned["view_source"] == METADATA and read_view(planned["view_position"])[1]
