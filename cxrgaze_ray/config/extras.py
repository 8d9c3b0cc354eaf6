"""What is installed on request only, so that who scores need not install what trains, exports or documents."""

from __future__ import annotations

from importlib.util import find_spec

from cxrgaze_ray.errors import ConfigError

EXTRAS = {
    "train": ("tensorboardX", "Writing TensorBoard's event files"),
    "serve": ("watchfiles", "Ray Serve's own command line"),
    "dicom-export": ("highdicom", "Writing DICOM objects"),
    "onnx": ("onnxscript", "Writing ONNX files"),
    "mlflow": ("mlflow", "Writing for MLflow"),
    "otel": ("opentelemetry.instrumentation.fastapi", "Tracing"),
}
"""By the extra's name: a module that only it brings, and what needs it."""


def check_extra(name: str) -> None:
    """Raise ConfigError, with the line that installs it, unless an extra of `EXTRAS` is there."""
    module, what = EXTRAS[name]
    try:
        found = find_spec(module) is not None
    except (ValueError, ModuleNotFoundError):  # how Python calls a module that is there, and hidden; it has no parent
        found = False
    if not found:
        raise ConfigError(
            f"{what} needs the package {module}, which is not installed.", f"Run: pip install 'cxrgaze[{name}]'"
        )
