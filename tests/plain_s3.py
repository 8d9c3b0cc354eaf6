"""A small S3 in memory that lacks what it is told to lack, as stores beside AWS do; over HTTP or TLS.

::

    with PlainS3(lacks={"trailers"}) as store:
        ...  # work against store.endpoint: a body in aws-chunked parts is answered 501

It knows conditional puts, ranges, listings and uploads in parts, believes every signature, and has every bucket.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Literal, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.fault_proxy import SecureServer, read_body

Lack = Literal[
    "trailers",  # 501 to bodies in aws-chunked parts
    "conditions",  # 501 to If-None-Match
    "honesty",  # If-None-Match is not looked at
    "writes",  # 501 to every put
    "absence",  # If-None-Match finds something everywhere
]
_WORDS = {
    "trailers": "Transferring payloads in multiple chunks using aws-chunked is not supported.",
    "conditions": "A header you provided implies functionality that is not implemented.",
    "writes": "This bucket is a mirror.",
}


@dataclass
class _State:
    lacks: Collection[Lack]
    objects: dict[str, bytes] = field(default_factory=dict)
    headers: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class PlainS3:
    """Listens on a free port of 127.0.0.1 while entered.

    Attributes
    ----------
    endpoint
        Its URL.
    headers
        Those of every request so far, names in lower case.
    """

    def __init__(self, lacks: Collection[Lack] = (), tls: ssl.SSLContext | None = None) -> None:
        self._state = _State(lacks)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.state, self._server.tls = self._state, tls
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_port}"
        self.headers = self._state.headers

    def environment(self) -> dict[str, str]:
        """Return what a process needs to use it; whom the certificate is by stays to be said."""
        keys = {"AWS_ACCESS_KEY_ID": "-", "AWS_SECRET_ACCESS_KEY": "-", "AWS_DEFAULT_REGION": "us-east-1"}
        return {"AWS_ENDPOINT_URL": self.endpoint, **keys}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(SecureServer):
    state: _State


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _begin(self) -> tuple[str, dict[str, str]]:
        """Return key and query, and remember the headers."""
        parts = urlsplit(self.path)
        self.server.state.headers.append({name.lower(): value for name, value in self.headers.items()})
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        return unquote(parts.path), query

    def do_PUT(self) -> None:
        key, query = self._begin()
        state, body = self.server.state, read_body(self)
        chunked = "aws-chunked" in self.headers.get("Content-Encoding", "") or "X-Amz-Trailer" in self.headers
        conditional = self.headers.get("If-None-Match") == "*"
        if lack := next((name for name, met in (("writes", True), ("trailers", chunked), ("conditions", conditional))
                         if met and name in state.lacks), None):  # fmt: skip
            return self._refuse(501, "NotImplemented", _WORDS[lack])
        key += f"#{query['partNumber']}" if "partNumber" in query else ""
        with state.lock:
            found = key in state.objects or "absence" in state.lacks
            if conditional and found and "honesty" not in state.lacks:
                return self._refuse(412, "PreconditionFailed", "It is there.")
            state.objects[key] = body
        return self._answer(200, ETag=_etag(body))

    def do_GET(self) -> None:
        key, query = self._begin()
        state = self.server.state
        if "list-type" in query:
            return self._list(key.strip("/"), query)
        if self.command == "HEAD" and "/" not in key.strip("/") and not key.startswith("/$"):
            return self._answer(200)  # a bucket; Arrow asks for one that can't be, too
        body = state.objects.get(key)
        if body is None:
            return self._refuse(404, "NoSuchKey", "It is not there.")
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            return self._answer(200, body, ETag=_etag(body))
        start, end = int(wanted[1]), min(int(wanted[2] or len(body)), len(body) - 1)
        if start > end:
            return self._refuse(416, "InvalidRange", "It ends before.")
        place = {"Content-Range": f"bytes {start}-{end}/{len(body)}"}
        return self._answer(206, body[start : end + 1], ETag=_etag(body), **place)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Begin or complete an upload in parts."""
        key, query = self._begin()
        state = self.server.state
        read_body(self)
        if "uploads" in query:
            return self._xml("<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
        with state.lock:
            parts = sorted((name for name in state.objects if name.startswith(f"{key}#")), key=_number)
            state.objects[key] = b"".join(state.objects.pop(name) for name in parts)
        etag = escape(_etag(state.objects[key]))
        return self._xml(f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>")

    def do_DELETE(self) -> None:
        key, _ = self._begin()
        self.server.state.objects.pop(key, None)
        self._answer(204)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        """List a whole bucket on one page, keys encoded as botocore asks for it."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        contents, folders = [], set()
        for path, body in sorted(self.server.state.objects.items()):
            key = path.removeprefix(f"/{bucket}/")
            if path == key or not key.startswith(prefix):
                continue
            if delimiter and delimiter in key[len(prefix) :]:
                folders.add(prefix + key[len(prefix) :].split(delimiter)[0] + delimiter)
                continue
            facts = f"<Key>{quote(key)}</Key><Size>{len(body)}</Size><ETag>{escape(_etag(body))}</ETag>"
            contents.append(f"<Contents>{facts}</Contents>")
        common = [f"<CommonPrefixes><Prefix>{quote(one)}</Prefix></CommonPrefixes>" for one in sorted(folders)]
        found = f"<KeyCount>{len(contents) + len(common)}</KeyCount>" + "".join([*contents, *common])
        self._xml(
            f"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>{found}</ListBucketResult>"
        )

    def _refuse(self, status: int, code: str, words: str) -> None:
        xml = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{words}</Message></Error>"
        self._answer(status, xml.encode(), **{"Content-Type": "application/xml"})

    def _xml(self, text: str) -> None:
        self._answer(200, f"<?xml version='1.0'?>{text}".encode(), **{"Content-Type": "application/xml"})

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def _number(part: str) -> int:
    return int(part.rpartition("#")[2])
