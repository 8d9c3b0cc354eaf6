"""The frame of every file in jobs/ around its one call: settings in, one line of JSON out, an exit code."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from cxrgaze_ray.cli.console import error_line, tell_bug
from cxrgaze_ray.cli.leaving import leaves_at_once
from cxrgaze_ray.cluster.address_space import SHORTAGES, address_space_fault
from cxrgaze_ray.cluster.connection import set_ray_environment
from cxrgaze_ray.cluster.interrupts import answer_as_ctrl_c
from cxrgaze_ray.config import Settings
from cxrgaze_ray.errors import GOES_ON, CxrgazeError, Interrupted
from cxrgaze_ray.storage import read_settings

Job = TypeVar("Job", bound=Settings)


def run_job(settings: type[Job], work: Callable[[Job], dict[str, Any]]) -> NoReturn:
    """Read ``--config``, do the work, print its result as one line of JSON, and exit with its `exit_code`, or 0."""
    with leaves_at_once():
        _run(settings, work)


def _run(settings: type[Job], work: Callable[[Job], dict[str, Any]]) -> NoReturn:
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--config", required=True, help="YAML file or s3:// object")
    set_ray_environment()
    sys.excepthook = tell_bug
    answer_as_ctrl_c()
    try:
        result = work(read_settings(settings, parser.parse_args().config))
    except CxrgazeError as error:
        _end(error)
    except KeyboardInterrupt:
        _end(Interrupted("Stopped.", GOES_ON))
    except SHORTAGES:
        if fault := address_space_fault():
            _end(fault)
        raise
    print(json.dumps(result, default=str), flush=True)
    sys.exit(result.get("exit_code", 0))


def _end(error: CxrgazeError) -> NoReturn:
    kind = "error" if error.exit_code else "outcome"
    print(json.dumps({kind: type(error).__name__, "message": error_line(error)}), flush=True)
    sys.exit(error.exit_code)
