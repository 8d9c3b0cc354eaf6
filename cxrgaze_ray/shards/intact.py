"""A shard that is gone or damaged: told as a fault of the place where the store lies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from cxrgaze_ray.errors import StoreNotFound, StoreUnavailable

_HINT = "Restore the file, or ingest the archive into another store: this one counts as finished."


@contextmanager
def intact(what: str) -> Iterator[None]:
    """Tell, while a block reads a shard, that it is gone or damaged.

    One reader of many finds that out. It is no error of the user's, which all workers of a training would meet alike.

    Parameters
    ----------
    what
        Key of the shard.

    Raises
    ------
    StoreUnavailable
        If the shard is gone, or not what its writer wrote.
    """
    try:
        yield
    except StoreNotFound as error:
        raise StoreUnavailable(f"The store has no {what} any more.", _HINT) from error
    except (pa.ArrowException, OSError) as error:
        raise StoreUnavailable(f"File {what} of the store is damaged.", _HINT) from error
