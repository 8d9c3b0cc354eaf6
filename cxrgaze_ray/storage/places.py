"""Open the stores that URIs name."""

from __future__ import annotations

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.storage import uris
from cxrgaze_ray.storage.base import Store
from cxrgaze_ray.storage.local import LocalStore
from cxrgaze_ray.storage.probe import check_writable
from cxrgaze_ray.storage.s3 import S3Store


def open_store(uri: str, *, exact: bool = False) -> Store:
    """Open the store at a URI.

    Parameters
    ----------
    uri
        ``s3://bucket/prefix`` or a local path. Nothing is created or contacted yet.
    exact
        Take the URI literally, to read what others wrote: every slash of an S3 prefix, and any bytes in a local path.

    Raises
    ------
    UserError
        If the URI is neither, or is not text; ConfigError if an option of S3 is wrong.
    """
    uris.check(uri)
    if not exact and not _is_text(uri):
        raise UserError(f"The name {uri} holds bytes that are not UTF-8.", "Rename it, or use a link to it.")
    return S3Store(uri, exact=exact) if uri.startswith(uris.S3) else LocalStore(uri)


def open_parent(uri: str, *, exact: bool = False) -> tuple[Store, str]:
    """Split an object's URI into its parent's store and its key there; `exact` as in `open_store`.

    Raises
    ------
    UserError
        If the URI names no object. With `exact`, the store is then that of the URI, and the key is empty.
    """
    uris.check(uri)
    if not uris.names_object(uri):
        if exact:
            return open_store(uri, exact=True), ""
        raise UserError(f"{uri} names no file.", f"Write a file's whole path, or {uris.S3}bucket/name.")
    if exact and uri.startswith(uris.S3):
        bucket, _, path = uri.removeprefix(uris.S3).removesuffix("/").partition("/")
        above, slash, name = path.rpartition("/")
        return open_store(f"{uris.S3}{bucket}/{above}{slash}", exact=True), name
    parent, _, name = uri.rstrip("/").rpartition("/")
    return open_store(parent or ("/" if uri.startswith("/") else "."), exact=exact), name


def open_output(uri: str) -> tuple[Store, str]:
    """Split an output's URI as `open_parent` does, and check that it can be written: before the work, not after it.

    Raises
    ------
    UserError
        If the URI names a folder, or a file stands where a folder is needed.
    EnvironmentFault
        If nothing can be written there.
    """
    store, key = open_parent(uri)
    if uri.endswith("/") or (isinstance(store, LocalStore) and (store.root / key).is_dir()):
        raise UserError(f"{uri} is a folder.", "Name the file to write in it.")
    check_writable(store)
    return store, key


def _is_text(uri: str) -> bool:
    """Return whether a name is valid text: bytes that are not UTF-8 are represented as lone surrogates."""
    try:
        uri.encode()
    except UnicodeEncodeError:
        return False
    return True
