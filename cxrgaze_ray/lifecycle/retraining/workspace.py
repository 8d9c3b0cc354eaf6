"""A retraining's files beside the registry's models: ``<name>/retraining/<id>/``.

request.json            the request and the versions it is pinned to, written once
candidate/              the bundle as it was trained
answers-champion.parquet, answers-candidate.parquet     predictions of each for the locked test split
gate.json               the table that led to the outcome; its hash is in the ledger
page.html               for people
outcome.json            written last: the retraining is over
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from cxrgaze_ray.config import Record
from cxrgaze_ray.evaluation.gate import GateReport
from cxrgaze_ray.evaluation.table import EvaluationTable
from cxrgaze_ray.lifecycle.retraining.decide import Decision, Reason
from cxrgaze_ray.lifecycle.retraining.policy import Policy
from cxrgaze_ray.models.bundle import INFO, Bundle, read_bundle, write_bundle
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.scoring.runs import table_bytes
from cxrgaze_ray.storage import Store

FOLDER = "retraining"
"""Folder of a model's retrainings, below its name in the registry."""

_REQUEST, _OUTCOME, _GATE, _PAGE = "request.json", "outcome.json", "gate.json", "page.html"


class Spec(Record):
    """Contents of request.json, to which a continued retraining is pinned."""

    retraining_id: str
    name: str
    reason: Reason
    settings_sha256: str
    champion: ModelPin
    stores: tuple[str, ...]
    """Hashes of the shard stores, in order."""

    policy: Policy
    decision: Decision
    created_at: str
    who: str


class Conclusion(Record):
    """Contents of outcome.json."""

    retraining_id: str
    outcome: str
    why: str
    version: str
    weights_sha256: str
    promoted: bool
    finished_at: str


def make_id(settings_sha256: str, champion: ModelPin, stores: tuple[str, ...], policy: Policy) -> str:
    """Hash everything that determines a retraining, to 16 hex digits: with nothing new there is nothing to do."""
    parts = [settings_sha256, champion.answers, *stores, policy.model_dump_json()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


class Workspace:
    """One retraining's folder."""

    def __init__(self, root: Store, spec: Spec) -> None:
        self.store = root.child(spec.retraining_id)
        self.spec = spec

    @classmethod
    def create(cls, root: Store, spec: Spec) -> Workspace:
        """Write the request once; an existing one counts."""
        store = root.child(spec.retraining_id)
        store.put_if_absent(_REQUEST, spec.model_dump_json(indent=2).encode())
        return cls(root, Spec.model_validate_json(store.get(_REQUEST)))

    def candidate(self) -> Bundle | None:
        """Return the trained bundle, if training is over."""
        staged = self.store.child("candidate")
        return read_bundle(staged) if staged.exists(INFO) else None

    def keep_candidate(self, bundle: Bundle) -> None:
        """Write the trained bundle."""
        write_bundle(self.store.child("candidate"), bundle)

    def evaluation_table(self, who: str) -> EvaluationTable | None:
        """Return the champion's or the candidate's predictions for the locked test split, if they are stored."""
        key = f"answers-{who}.parquet"
        if not self.store.exists(key):
            return None
        return EvaluationTable.from_table(pq.read_table(pa.BufferReader(self.store.get(key))))

    def keep_evaluation_table(self, who: str, table: EvaluationTable) -> None:
        """Write predictions, so that anybody can judge again."""
        self.store.put(f"answers-{who}.parquet", table_bytes(table.to_table()))

    def gate(self) -> GateReport | None:
        """Return the gate's report, if it has judged."""
        return GateReport.model_validate_json(self.store.get(_GATE)) if self.store.exists(_GATE) else None

    def keep_gate(self, report: GateReport) -> None:
        """Write the gate's report once: the ledger will name it, so it is never overwritten."""
        self.store.put_if_absent(_GATE, report.model_dump_json(indent=2).encode())

    def evidence(self) -> tuple[str, str]:
        """Return the key of the gate's report below the model's name, and its hash, as the ledger names them."""
        digest = hashlib.sha256(self.store.get(_GATE)).hexdigest()
        return f"{FOLDER}/{self.spec.retraining_id}/{_GATE}", digest

    def keep_page(self, html: str) -> str:
        """Write the page for people; return its URI."""
        self.store.put(_PAGE, html.encode())
        return self.store.locate(_PAGE)

    def conclusion(self) -> Conclusion | None:
        """Return how the retraining ended; None while it has not."""
        return Conclusion.model_validate_json(self.store.get(_OUTCOME)) if self.store.exists(_OUTCOME) else None

    def conclude(self, conclusion: Conclusion) -> None:
        """Write how the retraining ended: the last thing it does."""
        self.store.put(_OUTCOME, conclusion.model_dump_json(indent=2).encode())


def retrainings(root: Store) -> Iterator[Workspace]:
    """Yield every retraining of a model, in the order in which they began."""
    specs = []
    for folder in root.folders():
        child = root.child(folder)
        if child.exists(_REQUEST):
            specs.append(Spec.model_validate_json(child.get(_REQUEST)))
    for spec in sorted(specs, key=lambda spec: spec.created_at):
        yield Workspace(root, spec)


def unfinished(root: Store, settings_sha256: str) -> Workspace | None:
    """Return the last retraining of the same settings that has not ended."""
    same = [workspace for workspace in retrainings(root) if workspace.spec.settings_sha256 == settings_sha256]
    return next((workspace for workspace in reversed(same) if workspace.conclusion() is None), None)


def last_at(root: Store) -> str | None:
    """Return when the last retraining ended, or began if it has not; None if there is none."""
    dates = []
    for workspace in retrainings(root):
        ended = workspace.conclusion()
        dates.append(ended.finished_at if ended else workspace.spec.created_at)
    return max(dates, default=None)
