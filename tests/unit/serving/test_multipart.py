"""Forms: their one file is read, byte for byte, and anything else is told what to send."""

from __future__ import annotations

import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.schemas import Reason
from cxrgaze_ray.serving.multipart import BadForm, file_of, files_of

BINARY = bytes(range(256)) * 40 + b"\r\n\r\n--\r\n--x\r\n"
LONG_HEAD = b'--b\r\nContent-Disposition: form-data; filename="x"' + b" " * 10**6 + b"\r\n\r\nx\r\n--b--"


def form(**how: Any) -> tuple[bytes, str]:
    request = httpx.Request("POST", "http://x", **how)
    return request.read(), request.headers["content-type"]


@pytest.mark.parametrize("content", [BINARY, b"", np.random.default_rng(0).bytes(100_000)])
def test_the_file_of_a_form_is_read_as_it_was_sent(content: bytes) -> None:
    assert file_of(*form(files={"file": ("x.dcm", content)})) == content
    assert file_of(*form(files={"any": ('ü ;".png', content, "image/png")}, data={"note": "hello"})) == content


@pytest.mark.parametrize("kind", ["", "application/dicom", "application/x-www-form-urlencoded", "multipart/related"])
def test_what_is_no_form_is_the_file(kind: str) -> None:
    assert file_of(BINARY, kind) == BINARY


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        form(files={"a": ("a.dcm", b"1"), "b": ("b.dcm", b"2")}),
        form(files={"a": (None, b"a field")}),
        (b"--b--\r\n", "multipart/form-data; boundary=b"),
        (b"", "multipart/form-data; boundary=b"),
        (BINARY, "multipart/form-data"),
        (BINARY, 'multipart/form-data; boundary=""'),
        (b"\r\n--b" * 1_000_000, "multipart/form-data; boundary=b"),
        (LONG_HEAD, "multipart/form-data; boundary=b"),
        (LONG_HEAD[-40:].replace(b" ", b"-") + b"--b\r\n", "multipart/form-data; boundary=b"),
    ],
    ids=[
        "two files",
        "no file",
        "no part",
        "nothing",
        "no boundary",
        "empty boundary",
        "many parts",
        "long head",
        "cut off",
    ],
)
def test_any_other_form_is_told_what_to_send(body: bytes, kind: str) -> None:
    with pytest.raises(RadiographError, match="curl") as refused:
        file_of(body, kind)
    assert refused.value.reason == Reason.NOT_AN_IMAGE


def test_several_files_are_read_in_their_order_and_one_more_than_asked_for() -> None:
    body, kind = form(files=[("files", (f"{n}.dcm", BINARY * n)) for n in range(5)], data={"note": "hello"})
    assert files_of(body, kind, 5) == [BINARY * n for n in range(5)]
    assert len(files_of(body, kind, 3) or ()) == 4
    assert files_of(body, "application/dicom", 3) is None


@pytest.mark.parametrize("cut", [1, 3, 400])
def test_no_file_is_left_out_of_a_form_that_is_cut_off(cut: int) -> None:
    body, kind = form(files=[("files", (f"{n}.dcm", BINARY)) for n in range(2)])
    with pytest.raises(BadForm):
        files_of(body[: -len("--\r\n") - cut], kind, 5)


def test_curl_s_forms_are_read(tmp_path: Path) -> None:
    got: list[bytes] = []

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append(file_of(body, self.headers["content-type"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    (tmp_path / "x.dcm").write_bytes(BINARY)
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        subprocess.run(["curl", "-sS", "-F", f"file=@{tmp_path / 'x.dcm'}", url], check=True, timeout=30)
    assert got == [BINARY]
