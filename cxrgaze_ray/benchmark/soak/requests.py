"""What clients send: pictures, and what is none, each with the answers that it may get."""

from __future__ import annotations

from dataclasses import dataclass

from cxrgaze_ray.config.serve_file import IngressSettings


@dataclass(frozen=True)
class Kind:
    """One kind of request.

    Attributes
    ----------
    name
        What the table calls it.
    data
        Its bytes as they go over the connection.
    code
        The status that it is answered with by a service that is well; 0 for a client that hangs up and hears nothing.
    reason
        The refusal's reason, empty where there is none.
    """

    name: str
    data: bytes
    code: int
    reason: str = ""


def post(body: bytes, query: str = "", *lines: str) -> bytes:
    """Return a request that posts a body."""
    return _request(f"POST /v1/predict{query}", *lines, f"Content-Length: {len(body)}") + body


def sound(dicom: bytes, jpeg: bytes) -> tuple[Kind, ...]:
    """Return requests that are scored."""
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + jpeg + b"\r\n--x--\r\n"
    return (
        Kind("JPEG", post(jpeg), 200),
        Kind("DICOM", post(dicom), 200),
        Kind("form", post(form, "", "Content-Type: multipart/form-data; boundary=x"), 200),
    )


def malformed(dicom: bytes, jpeg: bytes) -> tuple[Kind, ...]:
    """Return requests that are refused, each for its own reason, and one of a client that hangs up."""
    too_large = IngressSettings().max_body_mib * 2**20 + 1
    return (
        Kind("no body", post(b""), 400, "empty_file"),
        Kind("no image", post(b"this is no radiograph" * 99), 415, "not_an_image"),
        Kind("cut DICOM", post(dicom[: len(dicom) // 2]), 422, "truncated"),
        Kind("cut JPEG", post(jpeg[: len(jpeg) // 2]), 422, "truncated"),
        Kind("bad query", post(jpeg, "?cam=perhaps"), 400, "bad_query"),
        Kind("no such path", _request("GET /v1/nothing"), 404, "not_found"),
        Kind("wrong method", _request("GET /v1/predict"), 405, "method_not_allowed"),
        Kind("huge", _request("POST /v1/predict", f"Content-Length: {too_large}"), 413, "too_large"),
        Kind("long headers", _request("GET /v1/model", f"X-Long: {'x' * 2**16}"), 431, "headers_too_large"),
        Kind("hang-up", post(jpeg)[: len(jpeg) // 2], 0),
    )


def health() -> Kind:
    """Return a health check, which is answered however many requests wait."""
    return Kind("health check", _request("GET /healthz"), 200)


def _request(first: str, *lines: str) -> bytes:
    return "\r\n".join([f"{first} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]).encode()
