"""What people set and what we write down: frozen, strict, and with messages that say what is allowed."""

from __future__ import annotations

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

__all__ = ["MODEL_NAME", "DeviceName", "EngineKind", "Name", "Record", "Seed", "Settings", "Text", "Uri", "Uris"]
