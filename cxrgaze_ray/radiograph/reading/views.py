"""Views: which way the beam went, as tags, tables and free text name it; what is unclear stays unknown."""

from __future__ import annotations

import re
from collections.abc import Iterable

_FRONTAL = {
    "AP": "AP",
    "PA": "PA",
    "AP AXIAL": "AP",
    "PA AXIAL": "PA",
    "ANTERO POSTERIOR": "AP",
    "ANTEROPOSTERIOR": "AP",
    "POSTERO ANTERIOR": "PA",
    "POSTEROANTERIOR": "PA",
}
_NOT_FRONTAL = {
    name: name
    for name in (
        "LL", "RL", "LLD", "RLD", "LLO", "RLO", "LAO", "RAO", "LPO", "RPO", "LAT", "LATERAL", "XTABLE LATERAL",
        "SWIMMERS", "AP LLD", "AP RLD", "PA LLD", "PA RLD",
    )
} | {
    "LEFT LATERAL": "LL",
    "RIGHT LATERAL": "RL",
    "LEFT ANTERIOR OBLIQUE": "LAO",
    "RIGHT ANTERIOR OBLIQUE": "RAO",
    "LEFT POSTERIOR OBLIQUE": "LPO",
    "RIGHT POSTERIOR OBLIQUE": "RPO",
}  # fmt: skip

VIEW_CODES = {
    "399348003": "AP", "R-10206": "AP",
    "272479007": "PA", "R-10214": "PA", "R-40888": "PA",
    "399067008": "LATERAL", "R-102CD": "LATERAL",
    "399173006": "LL", "R-10236": "LL",
    "399198007": "RL", "R-10232": "RL",
    "399135007": "LAO", "R-10220": "LAO",
    "399356000": "RAO", "R-40985": "RAO",
    "399006002": "LPO", "R-10212": "LPO",
    "399038007": "RPO", "R-10210": "RPO",
}  # fmt: skip
"""Code values of PS3.16 CID 4010 (DX view), SNOMED CT and the older SNOMED-RT, and the view each stands for."""

_LONGEST_TEXT = 256
_SPELLINGS = (
    (re.compile(r"\bANTERO[ -]?POSTERIOR\b|\bA\.\s?P\b\.?"), " AP "),
    (re.compile(r"\bPOSTERO[ -]?ANTERIOR\b|\bP\.\s?A\b\.?"), " PA "),
)
_WORDS = {"AP": "AP", "PA": "PA", "LAT": "LATERAL", "LATERAL": "LATERAL"}
_SEVERAL = re.compile(r"[&+]|\b(?:[2-9]|TWO|THREE|FOUR)[ -]*(?:V|VWS?|VIEWS?|PROJECTIONS?)\b")
_UNCLEAR = frozenset(
    {
        "ANGIO", "CATH", "CATHETER", "CT", "CTA", "DECUB", "DECUBITUS", "LORDOTIC", "MR", "MRI", "OBL", "OBLIQUE",
        "OBLIQUES", "AND", "OR", "PRESSURE", "SWIMMERS", "UND", "ET", "VIEWS", "VWS",
    }
)  # fmt: skip
"""Words beside which AP, PA or LAT may mean another image of the study, or no view: PA is also an artery."""


def read_view(text: str | None) -> tuple[str | None, bool]:
    """Read a view position, or the meaning of a view code.

    Returns
    -------
    str or None
        The view, if it is one of a closed list; AP AXIAL counts as AP.
    bool
        True if it is known and not frontal: lateral, oblique or decubitus.
    """
    name = " ".join((text or "")[:_LONGEST_TEXT].upper().replace("_", " ").replace("-", " ").split())
    if name in _FRONTAL:
        return _FRONTAL[name], False
    return (_NOT_FRONTAL[name], True) if name in _NOT_FRONTAL else (None, False)


def view_of_procedure(text: str | None) -> str | None:
    """Read the view out of a procedure's or series' description, where it names one view and nothing else can be meant.

    Parameters
    ----------
    text
        Such as ``CHEST (PORTABLE AP)`` or ``W033 Chest PA``.

    Returns
    -------
    str or None
        ``AP``, ``PA`` or ``LATERAL``; None for ``CHEST PA AND LATERAL``, ``CHEST 2 VIEWS`` and whatever else is
        unclear.
    """
    line = (text or "")[:_LONGEST_TEXT].upper()
    for spelling, word in _SPELLINGS:
        line = spelling.sub(word, line)
    words = set(re.findall(r"[^\W_]+", line))
    views = {_WORDS[word] for word in words if word in _WORDS}
    if len(views) != 1 or words & _UNCLEAR or _SEVERAL.search(line):
        return None
    return views.pop()


def known_view(sources: Iterable[tuple[str | None, str]]) -> tuple[str | None, str]:
    """Return the first view that is known, and where from.

    Parameters
    ----------
    sources
        Views, or None, and the name of their source, the most trusted first.

    Returns
    -------
    tuple
        View and source; None and ``unknown`` if no source knows.
    """
    return next(((view, source) for view, source in sources if view is not None), (None, "unknown"))


def is_frontal(view: str | None) -> bool:
    """Say whether a view out of the closed list is frontal, or not known."""
    return view is None or view in _FRONTAL
