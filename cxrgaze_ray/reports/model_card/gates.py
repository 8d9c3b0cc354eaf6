"""What the gate found of a version: the reports that the ledger names, if they are still what it saw."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.evaluation.gate import GateReport, GateRow, gate_rows
from cxrgaze_ray.registry.ledger import Entry
from cxrgaze_ray.storage import Store


@dataclass(frozen=True)
class Judgement:
    """A gate's entry in the ledger, and its report; `problem` says why there is none to show, or is empty."""

    entry: Entry
    report: GateReport | None
    problem: str

    @property
    def outcome(self) -> str:
        """For people."""
        return (self.entry.outcome or "unknown").replace("_", " ")

    @property
    def why(self) -> str:
        """One sentence: the report's, or what the ledger says itself."""
        return self.report.why if self.report else self.entry.reason

    @property
    def rows(self) -> list[GateRow]:
        """The report's table."""
        return gate_rows(self.report.criteria) if self.report else []


def read_judgement(store: Store, entry: Entry) -> Judgement:
    """Read what a gate's entry names; `store` is the model's folder."""
    if entry.evidence is None:
        return Judgement(entry, None, "The ledger names no report of this judgement.")
    try:
        data = store.get(entry.evidence)
    except UserError:
        return Judgement(entry, None, "The report that the ledger names is gone.")
    if hashlib.sha256(data).hexdigest() != entry.evidence_sha256:
        return Judgement(entry, None, "The report was edited after the gate had judged: it is not shown.")
    try:
        return Judgement(entry, GateReport.model_validate_json(data), "")
    except ValueError:
        return Judgement(entry, None, "This version of cxrgaze can't read the report: another one wrote it.")
