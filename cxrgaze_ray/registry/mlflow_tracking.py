"""Trainings and gate verdicts mirrored to an MLflow tracking server, for those who watch them there."""

from __future__ import annotations

import logging
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from cxrgaze_ray.config import check_extra
from cxrgaze_ray.errors import CxrgazeError, StoreUnavailable
from cxrgaze_ray.models.curves import epoch_figures
from cxrgaze_ray.schemas import RESEARCH_ONLY

_log = logging.getLogger(__name__)

EXPERIMENT = "cxrgaze"

_WORK = "cxrgaze.work"
"""Tag that names the work of a run, so that work that was stopped goes on in the run that it began."""

_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""A server that is gone shall not hold an epoch for MLflow's own 14 minutes; who has set these, has."""


def import_quietly() -> ModuleType:
    """Import MLflow so that it does not report its use to its makers, and keeps warnings of its own code to itself."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when it is imported
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_module("mlflow.pyfunc")
        return import_module("mlflow")


class Tracking:
    """A run of an MLflow server that is being written.

    Parameters
    ----------
    uri
        MLflow's tracking URI: ``http://server:5000``, or a folder.
    work
        What the run is of, such as a training's name: the same work goes on in the same run.
    """

    def __init__(self, uri: str, work: str) -> None:
        self._client = _client(uri)
        self._metric = import_module("mlflow.entities").Metric
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = self._client.create_experiment(EXPERIMENT) if found is None else found.experiment_id
        begun = self._client.search_runs([experiment], f"tags.`{_WORK}` = '{work}'", max_results=1)
        if begun:
            self._run = begun[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
        else:
            tags = {_WORK: work, "intended_use": RESEARCH_ONLY}
            self._run = self._client.create_run(experiment, tags=tags, run_name=work).info.run_id

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """Write an epoch's losses and images a second, named as in TensorBoard's event files."""
        self.metrics(epoch_figures(metrics), metrics["epoch"])

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Write numbers."""
        now = int(time.time() * 1000)
        self._client.log_batch(
            self._run, [self._metric(name, float(value), now, step) for name, value in values.items()]
        )

    def result(self, metrics: Mapping[str, Any], words: Mapping[str, object]) -> None:
        """Write what came of the work: an evaluation's figures, nested as a bundle holds them, and words as tags.

        The work is done: a server that went away meanwhile costs a line in the log.
        """
        try:
            self.metrics(flat(metrics))
            for name, value in words.items():
                self._client.set_tag(self._run, name, str(value))
        except Exception as error:
            _log.warning("MLflow could not be told of the result (%s).", type(error).__name__)

    def end(self, status: str) -> None:
        """Close the run: ``FINISHED``, ``FAILED`` or ``KILLED``."""
        self._client.set_terminated(self._run, status)


def flat(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of nested figures by their path, such as ``diagnosis/macro_auc``; curves are left out."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[prefix + re.sub(r"[^\w/. -]", "_", name)] = float(value)
    return found


def check_tracking(uri: str | None) -> None:
    """Raise what `tracked` would raise for want of the extra or of a server that answers; nothing is written."""
    if uri is not None:
        with _reached(uri):
            _client(uri).get_experiment_by_name(EXPERIMENT)


@contextmanager
def tracked(uri: str | None, work: str) -> Iterator[Tracking | None]:
    """Mirror work to an MLflow server while the block runs; nothing without a URI.

    Raises
    ------
    ConfigError
        If the extra ``mlflow`` is not installed.
    StoreUnavailable
        If the server can't be written to when the work begins.
    """
    if uri is None:
        yield None
        return
    with _reached(uri):
        run = Tracking(uri, work)
    try:
        yield run
    except KeyboardInterrupt:
        _end(run, "KILLED")
        raise
    except BaseException:
        _end(run, "FAILED")
        raise
    _end(run, "FINISHED")


def _client(uri: str) -> Any:
    check_extra("mlflow")
    if "://" not in uri or uri.startswith("file:"):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # who names a folder, wants one
    return import_quietly().MlflowClient(tracking_uri=uri)


@contextmanager
def _reached(uri: str) -> Iterator[None]:
    try:
        yield
    except CxrgazeError:
        raise
    except Exception as error:  # MLflow's own, requests', or a file system's
        raise StoreUnavailable(
            f"MLflow at {uri} can't be written to ({type(error).__name__}).", "Check the URI and that its server runs."
        ) from error


def _end(run: Tracking, status: str) -> None:
    try:
        run.end(status)
    except Exception as error:  # the work is done: a server that went away meanwhile changes nothing about it
        _log.warning("MLflow could not be told of the end (%s).", type(error).__name__)
