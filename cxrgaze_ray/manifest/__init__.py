"""List an archive, one row a file whatever its layout, and fetch a listed file again.

What is an input: every file below the archive's URI, except hidden ones (a part of the path starts with a dot),
incomplete downloads (``*_.gstmp``), a layout's own tables at their place in it, and what every download carries
anywhere (``README``, ``LICENSE``, ``SHA256SUMS`` with .md, .txt or .html, and ``index.html``). Each kind is counted.
"""

from __future__ import annotations

from cxrgaze_ray.manifest.archive import list_archive
from cxrgaze_ray.manifest.fetch import fetch_listed
from cxrgaze_ray.manifest.identifiers import name_ids
from cxrgaze_ray.manifest.table import DE_IDENTIFIED, Manifest, with_origin
from cxrgaze_ray.tables import Limits

__all__ = ["DE_IDENTIFIED", "Limits", "Manifest", "fetch_listed", "list_archive", "name_ids", "with_origin"]
