"""Text that others wrote, made fit for a terminal: nothing in it can move the cursor, hide a line or forge one."""

from __future__ import annotations

import re

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Control characters, line ends among them; marks that turn a text's direction; bytes of a name that are no UTF-8."""


def printable(text: str) -> str:
    r"""Return a text with what a terminal would obey, or could not print, written out: ``\x1b`` for an escape."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
