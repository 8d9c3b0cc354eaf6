"""A small S3 that takes every key as it is, as Amazon's does: SeaweedFS takes ``//`` for ``/`` and refuses ``..``."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

BUCKET = "literal"


class LiteralS3:
    """Listens on a free port of 127.0.0.1 while entered; it lists, and gives objects whole or in part.

    Attributes
    ----------
    objects
        Bytes by key.
    refused
        Keys that are not given out, with S3's word for why.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.refused: dict[str, str] = {}
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.store = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    store: LiteralS3


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        bucket, _, key = unquote(url.path).removeprefix("/").partition("/")
        if bucket != BUCKET:
            return self._refuse(404, "NoSuchBucket")
        if "list-type=2" in url.query:
            return self._list(parse_qs(url.query).get("prefix", [""])[0])
        data, store = self.server.store.objects.get(key), self.server.store
        if key in store.refused:
            return self._refuse(403, store.refused[key])
        if data is None:
            return self._refuse(404, "NoSuchKey")
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if self.headers.get("If-Match", f'"{etag}"') != f'"{etag}"':
            return self._refuse(412, "PreconditionFailed")
        return self._send(200, data, {"ETag": f'"{etag}"'})

    do_HEAD = do_GET

    def _list(self, prefix: str) -> None:
        found = sorted((key, data) for key, data in self.server.store.objects.items() if key.startswith(prefix))
        items = "".join(
            f"<Contents><Key>{quote(key, safe='/')}</Key><Size>{len(data)}</Size>"
            f"<ETag>{hashlib.md5(data, usedforsecurity=False).hexdigest()}</ETag></Contents>"
            for key, data in found
        )
        head = "<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
        self._send(200, f"<ListBucketResult>{head}{items}</ListBucketResult>".encode())

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, f"<Error><Code>{code}</Code><Message>planted</Message></Error>".encode())

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
