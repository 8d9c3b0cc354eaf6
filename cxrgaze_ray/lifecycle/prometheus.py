"""Gauges from outside Ray, in Prometheus's text format: for a scrape, or a file that node_exporter picks up."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client import Metric as Family
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.telemetry import Metric, check_labels

Samples = Iterable[tuple[tuple[str, ...], float]]


class Gauges(Collector):
    """Shows the families that a function returns at the moment of a scrape.

    Parameters
    ----------
    families
        Function that returns the families, called at every scrape.
    """

    def __init__(self, families: Callable[[], Iterable[Family]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        """Return the families, in the way prometheus_client requests them."""
        return self._families()

    def registry(self) -> CollectorRegistry:
        """Return a registry that holds only these gauges."""
        registry = CollectorRegistry()
        registry.register(self)
        return registry


def gauge(metric: Metric, samples: Samples) -> Family:
    """Return a metric of the table with its samples: label values in the table's order, and the number.

    Raises
    ------
    ValueError
        If a label's value is none of the table's.
    """
    family = GaugeMetricFamily(metric.name, metric.description, labels=metric.label_names)
    for labels, value in samples:
        check_labels(metric, dict(zip(metric.label_names, labels, strict=True)))
        family.add_metric(labels, value)
    return family


def write_textfile(families: Iterable[Family], path: str) -> None:
    """Write families to a file in Prometheus's text format, whole or not at all.

    Raises
    ------
    UserError
        If the file can't be written.
    """
    whole = list(families)
    with _writing(path):
        write_to_textfile(path, Gauges(lambda: whole).registry())


def check_textfile(path: str) -> None:
    """Check that a textfile can be written, and leave an existing one as it is; UserError if it can't."""
    with _writing(path), tempfile.TemporaryFile(dir=Path(path).parent):
        pass


@contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} can't be written: {error.strerror}.", "Name a file in a folder that can be written."
        ) from error
