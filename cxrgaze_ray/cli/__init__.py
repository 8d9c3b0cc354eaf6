"""The `cxrgaze` command: thin commands over the package; nothing heavy is imported before a command runs.

`main` is the entry point, `console` speaks to people, `options` are shared; `job` does the same for files in jobs/.
A command reads options, makes one call and prints its result: it knows nothing of how anything is done.
"""

from cxrgaze_ray.cli.main import app, main

__all__ = ["app", "main"]
