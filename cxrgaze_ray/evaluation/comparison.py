"""What two things differ in, as sections of plain tables: the same for a terminal, a page and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cxrgaze_ray.evaluation.paired import PairedTest

Cell = str | int | float | None


@dataclass(frozen=True)
class Section:
    """One table of a comparison.

    Attributes
    ----------
    note
        What the table means, or why it is empty.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """What two things differ in.

    Attributes
    ----------
    title, first, second
        What is compared, and what the two are called.
    conclusion
        One sentence.
    """

    title: str
    first: str
    second: str
    conclusion: str
    sections: tuple[Section, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    """The main figures, for machines."""

    def summary(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return asdict(self)


def differences(title: str, rows: Sequence[tuple[str, object, object]], names: tuple[str, str]) -> Section:
    """Return the rows (what, first, second) that differ; the note says how many do not."""
    apart = tuple((what, _said(first), _said(second)) for what, first, second in rows if first != second)
    alike = len(rows) - len(apart)
    note = f"The other {alike} are the same." if apart else f"All {alike} are the same."
    return Section(title, ("", *names), apart, note)


def paired_section(tests: Sequence[PairedTest], names: tuple[str, str], titles: dict[str, str]) -> Section:
    """Return paired tests as rows, second minus first."""
    rows = tuple(
        (
            titles.get(test.figure, test.figure.replace("_", " ")), _number(test.other), _number(test.ours),
            _signed(test.difference), _span(test.low, test.high), _p(test.p), test.images, test.patients, test.why,
        )
        for test in tests
    )  # fmt: skip
    note = (
        "Differences are second minus first, on the same images. Tests: paired bootstrap by patient for AUC, McNemar "
        "for accuracy, paired t for maps; not corrected for their number."
    )
    columns = ("figure", *names, "difference", "95% interval", "p", "images", "patients", "not tested because")
    return Section("Against the truth", columns, rows, note)


def _said(value: object) -> Cell:
    if value is None or isinstance(value, str | int | float):
        return "none" if value is None else value
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def _span(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:+.3f} to {high:+.3f}"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value >= 0.001 else "< 0.001"
