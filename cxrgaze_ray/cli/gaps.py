"""Tell the user what a listing could not look into."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cxrgaze_ray.cli.console import say, terminal

if TYPE_CHECKING:
    from cxrgaze_ray.archive.manifest import Manifest

_NAMES = 20


class Gaps:
    """Reports gaps in archives, and counts those that no row shows.

    Attributes
    ----------
    closed_folders
        Number of folders that could not be listed.
    """

    def __init__(self) -> None:
        self.closed_folders = 0

    def tell(self, manifest: Manifest) -> None:
        """Say on stderr what a listing could not look into.

        A folder's name may be a patient's: it is shown on a terminal, which is the user's own, and goes into no log.
        """
        from cxrgaze_ray.archive.manifest import closed_sentence

        closed, outside = (manifest.counts.get(name, 0) for name in ("closed_folders", "links_outside"))
        self.closed_folders += closed
        if closed:
            say(f"{closed_sentence(closed)} {_names(manifest)}")
        if outside:
            lead = "1 link leads" if outside == 1 else f"{outside} links lead"
            say(f"{lead} out of the archive. Without --follow-links each becomes only a row that says so.")


def _names(manifest: Manifest) -> str:
    if not manifest.closed:  # a saved manifest knows only how many
        return "List the archive itself to see which."
    if not terminal().is_terminal:
        return "The same command on a terminal names them."
    shown = [repr(name) for name in manifest.closed[:_NAMES]]  # escapes what would steer the terminal
    more = len(manifest.closed) - len(shown)
    return f"Closed: {', '.join(shown)}" + (f" and {more} more." if more else ".")
