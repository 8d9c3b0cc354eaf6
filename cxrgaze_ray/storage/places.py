"""URIs to stores."""

from __future__ import annotations

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.storage.base import Store
from cxrgaze_ray.storage.local import LocalStore
from cxrgaze_ray.storage.s3 import S3Store


def open_store(uri: str, *, exact: bool = False) -> Store:
    """Open the store at a URI.

    Parameters
    ----------
    uri
        ``s3://bucket/prefix`` or a local path. Nothing is created or contacted yet.
    exact
        Take it as it is, for what others wrote: every slash of an S3 prefix, and a local path of any bytes.

    Raises
    ------
    UserError
        If the URI has another scheme, names no bucket or is no text; ConfigError if an option of S3 is wrong.
    """
    if not exact and not _is_text(uri):
        raise UserError(f"The name {uri} holds bytes that are no UTF-8.", "Rename it, or lead there by a link.")
    if uri.startswith("s3://"):
        return S3Store(uri, exact=exact)
    if "://" in uri:
        raise UserError(f"{uri.partition('://')[0]}:// is not supported.", "Use a local path or s3://bucket/prefix.")
    return LocalStore(uri)


def open_parent(uri: str, *, exact: bool = False) -> tuple[Store, str]:
    """Split an object's URI into its parent's store and its key there; `exact` as in `open_store`."""
    if exact and uri.startswith("s3://"):
        bucket, _, path = uri.removeprefix("s3://").removesuffix("/").partition("/")
        above, slash, name = path.rpartition("/")
        return open_store(f"s3://{bucket}/{above}{slash}", exact=True), name
    parent, _, name = uri.rstrip("/").rpartition("/")
    return open_store(parent or ("/" if uri.startswith("/") else "."), exact=exact), name


def _is_text(uri: str) -> bool:
    """Say whether a name can be written down: bytes that are no UTF-8 are held as lone surrogates."""
    try:
        uri.encode()
    except UnicodeEncodeError:
        return False
    return True
