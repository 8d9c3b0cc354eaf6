"""Settings that people choose and records that we write: frozen, strict, with messages that say what is allowed.

`Settings` and `Record` are the bases, with the types of their fields; `listening` is what HTTP services share,
`serve_file` reads Ray Serve's config file, and `extras` says what is installed on request. Knows nothing of what is
set, except for these.
"""

from __future__ import annotations

from cxrgaze_ray.config.extras import EXTRAS, check_extra
from cxrgaze_ray.config.settings import (
    MODEL_NAME,
    DeviceName,
    EngineKind,
    Name,
    Record,
    Seed,
    Settings,
    Text,
    Uri,
    Uris,
)

__all__ = [
    "EXTRAS",
    "MODEL_NAME",
    "DeviceName",
    "EngineKind",
    "Name",
    "Record",
    "Seed",
    "Settings",
    "Text",
    "Uri",
    "Uris",
    "check_extra",
]
