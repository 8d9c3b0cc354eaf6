"""The Serve application: an HTTP ingress that decodes, and a model deployment that sees only ready images.

`build_app` is the import path of a Serve config file; `batch_model` gives a scoring run the same deployment.
Knows nothing of runs, plans or training.
"""

from cxrgaze_ray.config.serve_file import APPLICATION, ComputeSettings, ServeFile, ServingSettings
from cxrgaze_ray.serving.app import build_app, start_http, stop_http, wait_ready
from cxrgaze_ray.serving.batch import BatchModel, ModelSettings, batch_model
from cxrgaze_ray.serving.model import Model

__all__ = [
    "APPLICATION",
    "BatchModel",
    "ComputeSettings",
    "Model",
    "ModelSettings",
    "ServeFile",
    "ServingSettings",
    "batch_model",
    "build_app",
    "start_http",
    "stop_http",
    "wait_ready",
]
