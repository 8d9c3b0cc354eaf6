"""The Serve application: an HTTP ingress that decodes, and a model deployment that sees ready images only."""

from cxrgaze_ray.serving.app import (
    APPLICATION,
    ServeFile,
    ServingSettings,
    batch_model,
    build_app,
    start_http,
    wait_ready,
)
from cxrgaze_ray.serving.model import Model, ModelSettings

__all__ = [
    "APPLICATION",
    "Model",
    "ModelSettings",
    "ServeFile",
    "ServingSettings",
    "batch_model",
    "build_app",
    "start_http",
    "wait_ready",
]
