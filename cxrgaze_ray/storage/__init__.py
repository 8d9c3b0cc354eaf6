"""One Store for local folders and ``s3://`` prefixes: everything cxrgaze reads or writes goes through it.

`open_store` gives one; `lease` lets one driver at a time work in a folder, and `read_ahead` hides the latency of reads.
Only here is S3 spoken to, and retried. Knows nothing of what is stored.
"""

from __future__ import annotations

from cxrgaze_ray.storage.base import STREAM_BYTES, ArchiveEntry, ObjectInfo, Store, Survey, joined
from cxrgaze_ray.storage.local import TEMPORARY_PREFIX, LocalStore
from cxrgaze_ray.storage.places import open_output, open_parent, open_store
from cxrgaze_ray.storage.probe import Probe, check_writable, probe
from cxrgaze_ray.storage.s3 import S3Store
from cxrgaze_ray.storage.s3_client import s3_summary
from cxrgaze_ray.storage.s3_settings import S3Settings
from cxrgaze_ray.storage.settings_file import read_settings

__all__ = [
    "STREAM_BYTES",
    "TEMPORARY_PREFIX",
    "ArchiveEntry",
    "LocalStore",
    "ObjectInfo",
    "Probe",
    "S3Settings",
    "S3Store",
    "Store",
    "Survey",
    "check_writable",
    "joined",
    "open_output",
    "open_parent",
    "open_store",
    "probe",
    "read_settings",
    "s3_summary",
]
