"""What every file in jobs/ does around its one call: settings in, one line of JSON out, an exit code."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from cxrgaze_ray.cli.console import tell_bug
from cxrgaze_ray.cluster import set_ray_environment
from cxrgaze_ray.config import Settings
from cxrgaze_ray.errors import CxrgazeError
from cxrgaze_ray.storage import read_settings

Job = TypeVar("Job", bound=Settings)


def run_job(settings: type[Job], work: Callable[[Job], dict[str, Any]]) -> NoReturn:
    """Read ``--config``, do the work, print its result as one line of JSON, and exit with its `exit_code`, or 0."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--config", required=True, help="YAML file or s3:// object")
    set_ray_environment()
    sys.excepthook = tell_bug
    try:
        result = work(read_settings(settings, parser.parse_args().config))
    except CxrgazeError as error:
        kind = "error" if error.exit_code else "outcome"
        print(json.dumps({kind: type(error).__name__, "message": str(error)}), flush=True)
        sys.exit(error.exit_code)
    print(json.dumps(result, default=str), flush=True)
    sys.exit(result.get("exit_code", 0))
