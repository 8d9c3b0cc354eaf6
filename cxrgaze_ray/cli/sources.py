"""What a command says that could not read the files a run was made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from cxrgaze_ray.errors import EnvironmentFault, RadiographError, UserError

_WORDS = {"missing": "gone", "changed": "changed since the run"}
PATHS_KEPT = "Paths may name patients: keep this as you keep the archive."
PATHS_LEFT_OUT = "File names are left out: they may name patients."


def lost_sources(what: str, reasons: Mapping[str, int], archive: str) -> UserError:
    """Return the error of work that lacks something because of files of an archive that are not as the run read them.

    The user has to act, so that it ends with 2: asked again, the same command would find the same.
    """
    why = ", ".join(f"{count} {_WORDS.get(reason, f'unreadable ({reason})')}" for reason, count in reasons.items())
    hint = (
        f"Put the files back as they were in {archive}, and run the same command again. If they have moved for good, "
        "score them where they are now."
    )
    return UserError(f"{what}: {why}.", hint)


def lost_pictures(errors: list[RadiographError | EnvironmentFault], archive: str) -> UserError | EnvironmentFault:
    """Return the error of a report without some radiographs: an outage says more than files do."""
    for error in errors:
        if isinstance(error, EnvironmentFault):
            return type(error)(f"The report lacks {len(errors)} radiographs. {error.message}", error.hint)
    reasons = Counter(str(error.reason) for error in errors if isinstance(error, RadiographError))
    return lost_sources(f"The report lacks {len(errors)} radiographs", reasons, archive)
