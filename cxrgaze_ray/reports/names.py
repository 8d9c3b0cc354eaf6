"""Names for people, where files state numbers."""

from __future__ import annotations

import re

_UID = re.compile(r"\b1\.2\.840\.10008(?:\.\d+)+\b")


def named(text: str) -> str:
    """Return a text with the names of DICOM's own identifiers, such as transfer syntaxes, in place of their numbers."""
    return _UID.sub(lambda found: _name(found[0]), text)


def _name(uid: str) -> str:
    from pydicom.uid import UID  # a tenth of a second to import

    return UID(uid).name  # the number itself where it has none
