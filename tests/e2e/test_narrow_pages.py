"""The pages in a browser as narrow as a phone's, and on paper: what was concluded is seen without looking for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cxrgaze_ray.evaluation.comparison import Comparison, Section
from cxrgaze_ray.evaluation.gate.presentation import GateRow, Span
from cxrgaze_ray.lifecycle.monitoring.page import monitor_page
from cxrgaze_ray.reports import pages
from cxrgaze_ray.reports.comparison_page import comparison_page
from tests.browser import Tab, browsing
from tests.monitor_reports import report_of

pytestmark = pytest.mark.long

HIDDEN = "[...document.querySelectorAll('{}')].filter(one => one.getBoundingClientRect().right > innerWidth).length"
ROW = GateRow(
    criterion="AUC macro (manufacturer=Lumen Imaging)", rule="non-inferiority", champion="0.855", candidate="0.827",
    difference="-0.028", bounds="-0.041 to -0.015", margin="0.02", patients="124", verdict="cannot tell",
    why="The macro AUC is 0.028 lower.", span=Span(10, 40, 25, 30),
)  # fmt: skip


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browsing(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def monitor_with_gate() -> str:
    """Return a monitor's page that has the table of a gate as well."""
    table = vars(pages._environment().get_template("tables.html").module)["gate_table"]([ROW])
    return monitor_page(report_of("site", made_at="2026-01-01T00:00:00+00:00")).replace(
        "<footer>", f"<section><h2>Gate</h2>{table}</section><footer>"
    )


def show(tab: Tab, folder: Path, page: str) -> None:
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    tab.open(file.as_uri(), width=390)


def test_the_status_and_the_verdict_stand_beside_the_name(tab: Tab, tmp_path: Path) -> None:
    show(tab, tmp_path, monitor_with_gate())
    assert tab.evaluate("document.querySelectorAll('.rows td.s').length") == 2
    assert tab.evaluate(HIDDEN.format(".rows td")) == 0
    same_line = """[...document.querySelectorAll('.rows tbody tr')].every(row => {
      const [name, told] = [row.cells[0], row.querySelector('td.s')].map(one => one.getBoundingClientRect());
      return Math.abs(name.top - told.top) < 2;
    })"""
    assert tab.evaluate(same_line)
    assert "cannot tell" in tab.evaluate("document.querySelector('.verdict').innerText")
    named = "getComputedStyle(document.querySelector('[data-of=champion]'), '::before').content"
    assert "champion" in tab.evaluate(named)


def test_both_sides_of_a_comparison_are_on_the_screen(tab: Tab, tmp_path: Path) -> None:
    names = ("A: 914e479481b0f4cb", "B: 159f61eb4d58093c")
    rows = (
        ("weights", "9b2150fc0002ccbc", "869c5df4cff109ee"),
        ("c10c81fb-9c4bb808-c1509f17", "pneumonia 42.2%", None),
    )
    section = Section(title="What was run", columns=("", *names), rows=rows)
    show(tab, tmp_path, comparison_page(Comparison("Scoring runs", *names, "They differ.", (section,))))
    assert tab.evaluate(HIDDEN.format("td, th")) == 0


def test_on_paper_sections_are_divided_and_heads_and_rows_are_not(tab: Tab, tmp_path: Path) -> None:
    show(tab, tmp_path, monitor_with_gate())
    tab.send("Emulation.setEmulatedMedia", media="print")
    style = "getComputedStyle(document.querySelector('{}')).{}"
    found = {
        one: tab.evaluate(style.format(*one))
        for one in (("section", "breakInside"), ("tr", "breakInside"), ("h2", "breakAfter"), ("tr", "breakAfter"))
    }
    tab.send("Emulation.setEmulatedMedia", media="")
    assert list(found.values()) == ["auto", "avoid", "avoid", "avoid"], found
