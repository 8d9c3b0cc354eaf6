"""A comparison of two runs or models as one HTML file that needs no network."""

from __future__ import annotations

from cxrgaze_ray.evaluation.comparison import Comparison
from cxrgaze_ray.reports.pages import render


def comparison_page(comparison: Comparison, *, warning: str = "") -> str:
    """Return the page; `warning` says what has to be minded about it."""
    return render("comparison.html", comparison=comparison, warning=warning)
