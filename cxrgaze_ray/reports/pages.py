"""Templates to text: escaped for what they are, and a name that the template does not know is an error."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache
from typing import Any

import jinja2
from jinja2.nodes import EvalContext
from markupsafe import Markup, escape

from cxrgaze_ray import __version__
from cxrgaze_ray.reports.printable import printable
from cxrgaze_ray.schemas import RESEARCH_ONLY

_CODE = re.compile(r"`([^`]+)`")
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~&])")


def render(template: str, **context: Any) -> str:
    """Return a template of this package with its values, and `code`, `written` and `research_only`.

    What ends in .html is a page that extends ``page.html``; everything else is Markdown.
    """
    common = {
        "code": __version__,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "research_only": RESEARCH_ONLY,
    }
    return _environment().get_template(template).render(common | context)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cxrgaze_ray.reports"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=_finalize,
    )
    environment.filters["moment"] = lambda at: f"{at[:19].replace('T', ' ')} UTC"
    environment.filters["said"] = _said
    environment.filters["listed"] = ", ".join
    return environment


def _said(sentence: str) -> Markup:
    """Return a sentence of ours as HTML: what stands between backticks, as in a terminal, is code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(sentence))))


@jinja2.pass_eval_context
def _finalize(context: EvalContext, value: object) -> object:
    """Escape values of Markdown, for which Jinja has no escaping; HTML is escaped after this."""
    return value if context.autoescape else markdown(value)


def markdown(value: object) -> str:
    """Escape what Markdown, the HTML in it, or a terminal would take for more than text; keep it on one line."""
    line = printable(" ".join(str(value).split()))
    return _MARKDOWN.sub(r"\\\1", line).replace(r"\<", "&lt;").replace(r"\&", "&amp;")
