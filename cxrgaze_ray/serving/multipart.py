"""The files of a form, as ``curl -F file=@image.dcm`` and browsers send it.

The form is in memory already, and bounded. Starlette's own reader would need another package, and writes what is larger
than 1 MiB to a temporary file: patients' images are never written to disk here.
"""

from __future__ import annotations

from email.message import Message

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.schemas import Reason

_OTHER_PARTS = 16
"""Most parts of a form beside its files."""

_LONGEST_HEAD = 4096
"""Most bytes of a part's headers."""

_HINT = "Send the file itself (curl --data-binary @image.dcm) or a form with one file (curl -F file=@image.dcm)."


class BadForm(ValueError):
    """A form that can't be read whole, so that nobody knows what it holds; its message is one sentence."""


def file_of(body: bytes, content_type: str) -> bytes:
    """Return the file in a form, or the body itself if it is not a form.

    Raises
    ------
    RadiographError
        If the form does not hold exactly one file; the message says what to send.
    """
    try:
        files = files_of(body, content_type, 1)
    except BadForm as error:
        raise RadiographError(Reason.NOT_AN_IMAGE, f"{error} {_HINT}") from None
    if files is None:
        return body
    if len(files) != 1:
        what = "more than one file" if files else "no file"
        raise RadiographError(Reason.NOT_AN_IMAGE, f"The form holds {what}. {_HINT}")
    return files[0]


def files_of(body: bytes, content_type: str, most: int) -> list[bytes] | None:
    """Return a form's files in their order, ``most + 1`` of them if there are more; None if the body is no form.

    Raises
    ------
    BadForm
        If a file may be missing: the form is cut off, or has parts that can't be read, or too many.
    """
    declared = _headers(f"content-type: {content_type}")
    if declared.get_content_type() != "multipart/form-data":
        return None
    boundary = str(declared.get_boundary("")).encode()
    if not boundary:
        raise BadForm("The form names no boundary.")
    files = [content for head, content in _parts(body, boundary, most + _OTHER_PARTS) if _is_file(head)]
    return files[: most + 1]


def _parts(body: bytes, boundary: bytes, most: int) -> list[tuple[str, bytes]]:
    """Return the headers and the content of each part."""
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary, most + 2)
    if len(parts) > most + 2:
        raise BadForm("The form has too many parts.")
    if not parts[-1].startswith(b"--"):
        raise BadForm("The form ends too early.")
    return [_part(part) for part in parts[1:-1]]


def _part(part: bytes) -> tuple[str, bytes]:
    blank = part.find(b"\r\n\r\n", 0, _LONGEST_HEAD)
    if blank < 0:
        raise BadForm("A part of the form has no headers, or too many.")
    return part[:blank].decode("latin-1").strip(), part[blank + 4 :]


def _is_file(head: str) -> bool:
    return _headers(head).get_param("filename", None, "content-disposition") is not None


def _headers(text: str) -> Message:
    headers = Message()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        headers[name.strip() or "x"] = value.strip()
    return headers
