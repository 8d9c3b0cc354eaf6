"""matplotlib's figures as SVG that stands in a page: in its colours, light and dark, and the same bytes every time."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

from markupsafe import Markup

COLOURS = {
    "ink": "#1b2430", "soft": "#5d6b7c", "line": "#dde3ea", "paper": "#ffffff", "bar": "#4a6fa5", "good": "#2b7a78",
    "open": "#b08a2e", "bad": "#b3443c",
}  # fmt: skip
"""Colours to draw with, by the name of the page's variable that takes the place of each."""

_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 8,
    "text.color": COLOURS["ink"],
    "axes.edgecolor": COLOURS["soft"],
    "axes.labelcolor": COLOURS["soft"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "xtick.color": COLOURS["soft"],
    "ytick.color": COLOURS["soft"],
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.4,
}
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_HEAD = re.compile(r'<svg [^>]*viewBox="([^"]*)"[^>]*>')
_STYLE = re.compile(r"<style.*?</style>", re.DOTALL)


def inline_svg(draw: Callable[[Any], None], name: str, label: str, width: float = 3.4, height: float = 3.0) -> Markup:
    """Return an SVG element for an HTML page.

    Parameters
    ----------
    draw
        Draws on the axes that it is given, in `COLOURS` only.
    name
        Sets the ids of its elements apart from those of a page's other figures.
    label
        What the figure shows, for who can't see it.
    width, height
        Inches; the page scales the figure to its own room.
    """
    from matplotlib import rc_context  # a second to import, which most commands don't need
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    settings: Any = _SETTINGS | {"svg.hashsalt": name}
    with rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = _STYLE.sub("", _METADATA.sub("", text[text.index("<svg") :]))
    for before, after in (('id="', 'id="'), ("url(#", "url(#"), ('xlink:href="#', 'href="#')):
        text = text.replace(before, f"{after}{name}-")
    for variable, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{variable})")
    head = rf'<svg viewBox="\1" role="img" aria-label="{Markup.escape(label)}">'
    return Markup(_HEAD.sub(head, text, count=1))
