"""Tell file formats apart by their first bytes."""

from __future__ import annotations

SNIFF_BYTES = 132
"""Bytes that `sniff` needs: a DICOM preamble of 128 and the mark after it."""

_VRS = frozenset({b"AE", b"CS", b"DA", b"DT", b"IS", b"LO", b"OB", b"PN", b"SH", b"TM", b"UI", b"UL", b"UN", b"US"})
_LONGEST_FIRST_ELEMENT = 1024


def sniff(head: bytes) -> str:
    """Name the format of a file.

    Parameters
    ----------
    head
        Its first 132 bytes or more; fewer if the file is shorter.

    Returns
    -------
    str
        ``dicom``, ``jpeg``, ``png`` or ``other``.
    """
    if head[128:132] == b"DICM" or _is_bare_dicom(head):
        return "dicom"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    return "other"


def _is_bare_dicom(head: bytes) -> bool:
    """Recognise a data set without preamble: it starts with an element of group 0002 or 0008."""
    if head[:4] == b"DICM":
        return True
    group, vr = head[:2], head[4:6]
    if group in (b"\x00\x02", b"\x00\x08"):
        return len(head) >= 8 and head[2] == 0 and vr in _VRS
    if group not in (b"\x02\x00", b"\x08\x00") or len(head) < 8 or head[3] != 0:
        return False
    return vr in _VRS or int.from_bytes(head[4:8], "little") <= _LONGEST_FIRST_ELEMENT
