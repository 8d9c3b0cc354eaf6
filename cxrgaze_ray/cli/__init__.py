"""The `cxrgaze` command: thin commands over the package; nothing heavy is imported before a command runs."""

from cxrgaze_ray.cli.main import app, main

__all__ = ["app", "main"]
