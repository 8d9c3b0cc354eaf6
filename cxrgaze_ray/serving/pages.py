"""Pages for a browser, from files of this package: the same bytes for everybody, and nothing from a network.

They know no model and hold no data of patients: what they show they ask for over `/v1`, with the token if there is one.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from fastapi import FastAPI, Response

from cxrgaze_ray.http.refusals import Refused, refuse

_OURS, _SWAGGER = "cxrgaze_ray.serving", "fastapi_offline"

_FILES = {
    "try.css": (_OURS, "text/css"),
    "try.js": (_OURS, "text/javascript"),
    "overlay.js": (_OURS, "text/javascript"),
    "icon.svg": (_OURS, "image/svg+xml"),
    "docs.js": (_OURS, "text/javascript"),
    "swagger-ui.css": (_SWAGGER, "text/css"),
    "swagger-ui-bundle.js": (_SWAGGER, "text/javascript"),
}
"""What a page may ask for, and whose it is: a name that is not here is no file of ours."""

_POLICY = {
    "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self'",
    "connect-src": "'self'", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'",
}  # fmt: skip

_HEADERS = {
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def add_pages(api: FastAPI) -> None:
    """Add the try-it page at ``/``, the description at ``/docs``, and the files that they need."""

    @api.get("/", include_in_schema=False)
    async def try_it() -> Response:
        return _page("try.html", _POLICY)

    @api.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        # Swagger UI sets styles of single elements while it draws, and has icons in its style sheet
        looser = {"style-src": "'self' 'unsafe-inline'", "img-src": "'self' data:"}
        return _page("docs.html", _POLICY | looser)

    @api.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        if name not in _FILES:
            raise Refused(refuse(404, "The pages have no such file.", "not_found"))
        package, kind = _FILES[name]
        return Response(_bytes(package, name), media_type=kind, headers=_HEADERS)


def _page(name: str, policy: dict[str, str]) -> Response:
    told = "; ".join(f"{what} {whence}" for what, whence in policy.items())
    headers = _HEADERS | {"Content-Security-Policy": told}
    return Response(_bytes(_OURS, name), media_type="text/html", headers=headers)


@cache
def _bytes(package: str, name: str) -> bytes:
    return (resources.files(package) / "static" / name).read_bytes()
