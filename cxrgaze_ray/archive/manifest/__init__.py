"""List an archive, one row a file whatever its layout, and fetch a listed file again.

What is an input: every file below the archive's URI, except hidden ones (a part of the path starts with a dot),
incomplete downloads (``*_.gstmp``), a layout's own tables at their place in it, and what every download carries
anywhere (``README``, ``LICENSE``, ``SHA256SUMS`` with .md, .txt or .html, and ``index.html``). Each kind is counted.
What stands in the place of a file (a link that leads nowhere or out of the archive, a file that may not be read, a
pipe, a socket, a device) is a row that says so; a folder that may not be listed is counted and named.
"""

from __future__ import annotations

from cxrgaze_ray.archive.manifest.archive import list_archive
from cxrgaze_ray.archive.manifest.fetch import fetch_listed
from cxrgaze_ray.archive.manifest.identifiers import name_ids
from cxrgaze_ray.archive.manifest.table import CLOSED, DE_IDENTIFIED, Manifest, closed_sentence, with_origin
from cxrgaze_ray.archive.tables import Limits

__all__ = [
    "CLOSED",
    "DE_IDENTIFIED",
    "Limits",
    "Manifest",
    "closed_sentence",
    "fetch_listed",
    "list_archive",
    "name_ids",
    "with_origin",
]
