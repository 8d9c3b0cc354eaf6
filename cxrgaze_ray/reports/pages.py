"""Templates to text: HTML escaped by default, a name that the template does not know is an error."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import jinja2

from cxrgaze_ray import __version__
from cxrgaze_ray.schemas import RESEARCH_ONLY


def render(template: str, **context: Any) -> str:
    """Return a template of this package with its values, and `version`, `written` and `research_only`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cxrgaze_ray.reports"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    common = {
        "version": __version__,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "research_only": RESEARCH_ONLY,
    }
    return environment.get_template(template).render({**common, **context})
