"""The one file of a form, as ``curl -F file=@image.dcm`` and browsers send it.

The form is in memory already, and bounded. Starlette's own reader would need another package, and writes what is larger
than 1 MiB to a temporary file: patients' images are never written to disk here.
"""

from __future__ import annotations

from email.message import Message

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.schemas import Reason

_MOST_PARTS = 16
_LONGEST_HEAD = 4096
"""Most bytes of a part's headers."""

_HINT = "Send the file itself (curl --data-binary @image.dcm) or a form with one file (curl -F file=@image.dcm)."


def file_of(body: bytes, content_type: str) -> bytes:
    """Return the file in a form, or the body itself if it is not a form.

    Raises
    ------
    RadiographError
        If the form does not hold exactly one file; the message says what to send.
    """
    declared = _headers(f"content-type: {content_type}")
    if declared.get_content_type() != "multipart/form-data":
        return body
    boundary = str(declared.get_boundary("")).encode()
    files = [content for head, content in _parts(body, boundary) if _is_file(head)] if boundary else []
    if len(files) != 1:
        raise RadiographError(Reason.NOT_AN_IMAGE, f"The form holds {len(files) or 'no'} files. {_HINT}")
    return files[0]


def _parts(body: bytes, boundary: bytes) -> list[tuple[str, bytes]]:
    """Return the headers and the content of each complete part; nothing if a form has too many parts."""
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary, _MOST_PARTS + 1)
    if len(parts) > _MOST_PARTS + 1:
        return []
    found = []
    for part in parts[1:-1]:  # what follows the last one is the end
        blank = part.find(b"\r\n\r\n", 0, _LONGEST_HEAD)
        if blank >= 0:
            found.append((part[:blank].decode("latin-1").strip(), part[blank + 4 :]))
    return found


def _is_file(head: str) -> bool:
    return _headers(head).get_param("filename", None, "content-disposition") is not None


def _headers(text: str) -> Message:
    headers = Message()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        headers[name.strip() or "x"] = value.strip()
    return headers
