"""One step after the other; a crash may follow each, and the same command continues after the last finished one."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cxrgaze_ray.cluster.connection import Connect, kept
from cxrgaze_ray.errors import EXIT_DONE, EXIT_USER, PromotionConflict
from cxrgaze_ray.evaluation.answers import table_of_bundle
from cxrgaze_ray.evaluation.calibration import calibrated
from cxrgaze_ray.evaluation.evaluate import evaluate
from cxrgaze_ray.evaluation.gate import GateOutcome, GateReport, judge, spent
from cxrgaze_ray.evaluation.maps import Reference
from cxrgaze_ray.evaluation.reference import reference_of
from cxrgaze_ray.evaluation.table import EvaluationTable
from cxrgaze_ray.lifecycle.retraining.assessment import Assessment, assess, check_settings, now, training_settings
from cxrgaze_ray.lifecycle.retraining.data import check_outputs, ingest_new, missing_stores, split_warnings
from cxrgaze_ray.lifecycle.retraining.decide import Action, Decision, Reason
from cxrgaze_ray.lifecycle.retraining.evidence import gather_facts
from cxrgaze_ray.lifecycle.retraining.page import retraining_page
from cxrgaze_ray.lifecycle.retraining.settings import RetrainSettings
from cxrgaze_ray.lifecycle.retraining.workspace import FOLDER, Conclusion, Spec, Workspace, make_id, unfinished
from cxrgaze_ray.models.bundle import Bundle, read_bundle, read_info
from cxrgaze_ray.registry.ledger import signature
from cxrgaze_ray.registry.mlflow_tracking import Tracking, tracked
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import CHAMPION, Registry, default_registry
from cxrgaze_ray.shards.union import ShardUnion
from cxrgaze_ray.storage import open_parent, open_store
from cxrgaze_ray.storage.lease import Lease
from cxrgaze_ray.training.run import run_stages

_UNLESS = {
    GateOutcome.CANNOT_TELL: "Wait for more labels",
    GateOutcome.REJECTED: "Train another one with more labels",
}
"""What there is to do about a candidate that was not accepted."""


@dataclass(frozen=True)
class Hooks:
    """Callbacks for a retraining's progress: that it holds the lease, sentences, and steps of its current part."""

    on_begin: Callable[[], None] = lambda: None
    say: Callable[[str], None] = lambda _: None
    on_progress: Callable[[str, int, int], None] = lambda _part, _done, _total: None


@dataclass(frozen=True)
class Result:
    """The result of a retraining.

    Attributes
    ----------
    decision
        Whether to retrain, and why.
    conclusion
        How it ended; None if it did not take place.
    gate
        Gate's report, which led to the conclusion.
    page
        URI of the page for people.
    already
        Whether it had ended before, so that nothing was done.
    """

    decision: Decision
    conclusion: Conclusion | None = None
    gate: GateReport | None = None
    page: str | None = None
    already: bool = False

    @property
    def exit_code(self) -> int:
        """Exit code: 0 accepted or nothing to do, 10 rejected, 11 cannot tell, 2 if a person has to look first."""
        if self.gate is not None:
            return self.gate.exit_code
        return EXIT_USER if self.decision.action is Action.ASK else EXIT_DONE

    def summary(self) -> dict[str, Any]:
        """Return everything but single criteria, for JSON."""
        ended = self.conclusion.model_dump() if self.conclusion else {}
        decided = {"decision": str(self.decision.action), "reasons": list(self.decision.reasons)}
        return {**decided, **ended, "page": self.page, "already": self.already, "exit_code": self.exit_code}


def run_retraining(
    settings: RetrainSettings,
    reason: Reason,
    connect: Connect,
    hooks: Hooks | None = None,
) -> Result:
    """Decide, assemble, train, gate, publish, and promote if that is allowed; one retraining of a model at a time.

    Parameters
    ----------
    settings
        Request for the retraining.
    reason
        drift, schedule or manual: enters the records and the decision.
    connect
        Returns a context manager that joins a Ray cluster; only entered if there is
        something to ingest, train or evaluate.

    Returns
    -------
    Result
        Result with the outcome accepted, rejected or cannot_tell, or without one if the decision is to wait or to ask.

    Raises
    ------
    RunConflict
        If another retraining of the model is at work.
    UserError, EnvironmentFault
        See `assess`. The same command continues from where this one stopped.
    """
    hooks = hooks or Hooks()
    registry = Registry(open_store(settings.registry))
    check_settings(settings)  # before a lease is taken for a missing model, or a cluster started
    check_outputs(settings)
    root = registry.store.child(f"{settings.name}/{FOLDER}")
    with (
        Lease(root, lambda s: hooks.say(f"Watching for {s:.0f} s if another is alive."), what="retraining") as lease,
        kept(connect) as joined,
    ):
        hooks.on_begin()
        for warning in split_warnings(settings):
            hooks.say(warning)
        if missing := missing_stores(settings):
            ingest_new(settings, missing, hooks.say, hooks.on_progress, joined)
        work = unfinished(root, settings.sha256())
        assessment = assess(settings, reason)
        if work is None or work.spec.stores != assessment.stores.parts:
            if assessment.decision.action is not Action.RETRAIN:
                return Result(assessment.decision)
            work = _begin(settings, reason, assessment)
        if (ended := work.conclusion()) is not None:
            return Result(work.spec.decision, ended, work.gate(), already=True)
        for why in work.spec.decision.reasons:
            hooks.say(why)
        with tracked(settings.tracking, f"{settings.name} retraining {work.spec.retraining_id}") as mirror:
            retraining = _Retraining(
                settings, assessment.registry, assessment.stores, work, lease, joined, hooks, mirror
            )
            result = retraining.conclude()
            if mirror is not None:
                mirror.result(*_mirrored(result))
            return result


def _mirrored(result: Result) -> tuple[dict[str, Any], dict[str, object]]:
    """Return the gate's figures and its verdict, as MLflow takes them."""
    assert result.gate is not None
    assert result.conclusion is not None
    figures = {
        f"{who}/{one.name}{'/' + one.subgroup if one.subgroup else ''}": value
        for one in result.gate.criteria
        for who, value in ((one.beside, one.champion), ("candidate", one.candidate))
    }
    ended = result.conclusion
    return figures, {"gate": ended.outcome, "why": ended.why, "version": ended.version, "promoted": ended.promoted}


def _begin(settings: RetrainSettings, reason: Reason, assessment: Assessment) -> Workspace:
    parts = assessment.stores.parts
    spec = Spec(
        retraining_id=make_id(settings.sha256(), assessment.champion, parts, assessment.policy),
        name=settings.name,
        reason=reason,
        settings_sha256=settings.sha256(),
        champion=assessment.champion,
        stores=parts,
        policy=assessment.policy,
        decision=assessment.decision,
        created_at=now(),
        who=signature(),
    )
    return Workspace.create(assessment.root, spec)


class _Retraining:
    """The steps; each first checks whether it was done before."""

    def __init__(
        self,
        settings: RetrainSettings,
        registry: Registry,
        stores: ShardUnion,
        work: Workspace,
        lease: Lease,
        join: Connect,
        hooks: Hooks,
        mirror: Tracking | None,
    ) -> None:
        self._settings, self._registry, self._stores, self._work = settings, registry, stores, work
        self._lease, self._join, self._hooks, self._spec = lease, join, hooks, work.spec
        self._mirror = mirror
        self._tag = f"retraining {work.spec.retraining_id} ({work.spec.reason})"

    def conclude(self) -> Result:
        """Do every step that is left."""
        champion = read_bundle(open_store(self._spec.champion.uri))
        candidate = self._work.candidate() or self._train()
        pin, report = self._judged(champion, candidate)
        self._hooks.say(f"The gate: {report.outcome.replace('_', ' ')}. {report.why}")
        promoted, why = self._promote(pin, report)
        conclusion = Conclusion(
            retraining_id=self._spec.retraining_id,
            outcome=report.outcome,
            why=" ".join(filter(None, [report.why, why])),
            version=pin.version,
            weights_sha256=pin.weights_sha256,
            promoted=promoted,
            finished_at=now(),
        )
        history = self._registry.history(self._spec.name)
        html = retraining_page(self._spec, conclusion, report, history)
        page = self._work.keep_page(html)
        if self._settings.page:
            store, key = open_parent(self._settings.page)
            store.put(key, html.encode())
        self._work.conclude(conclusion)
        return Result(self._spec.decision, conclusion, report, page)

    def _train(self) -> Bundle:
        parent = f"{self._spec.name}@{self._spec.champion.version}"
        info = read_info(open_store(self._spec.champion.uri))
        bundle = run_stages(
            self._stores,
            training_settings(self._settings, info),
            self._registry,
            name=self._spec.name,
            parent=parent,
            workers=self._settings.workers,
            checkpoints=self._settings.checkpoints,
            connect=self._join,
            say=self._hooks.say,
            on_epoch=(lambda _: None) if self._mirror is None else self._mirror.epoch,
        )
        bundle = calibrated(bundle, self._stores, connect=self._join, say=self._hooks.say)
        self._work.keep_candidate(bundle)
        return bundle

    def _judged(self, champion: Bundle, candidate: Bundle) -> tuple[ModelPin, GateReport]:
        """Show the candidate the locked test split, publish it with the resulting metrics, and have the gate judge."""
        sha, tests = candidate.info.weights_sha256, self._stores.locked_tests
        used, allowed = self._registry.looks(self._spec.name, tests), self._spec.policy.gate.looks
        seen = self._registry.has_looked(self._spec.name, sha, tests)
        if used >= allowed and not seen:
            pin = self._publish(candidate)
            self._work.keep_gate(spent(used, self._spec.policy.gate))
            return pin, self._entered(pin)
        self._registry.look(self._spec.name, sha, tests, reason=self._tag)
        table = self._evaluation_table("candidate", candidate)
        pin = self._publish(candidate.with_metrics(evaluate(table, self._stores.info.caution()).summary()))
        if self._work.gate() is None:
            published = read_bundle(open_store(pin.uri))
            facts = gather_facts(champion, published, (used if seen else used + 1, allowed))
            self._work.keep_gate(
                judge(self._evaluation_table("champion", champion), table, facts, self._spec.policy.gate)
            )
        return pin, self._entered(pin)

    @cached_property
    def _reference(self) -> Reference:
        """What the maps of champion and candidate are both measured beside."""
        return reference_of(self._stores, "test")

    def _evaluation_table(self, who: str, bundle: Bundle) -> EvaluationTable:
        if (kept := self._work.evaluation_table(who)) is not None:
            return kept
        self._hooks.say(f"The {who} predicts the locked test split.")
        table = table_of_bundle(
            bundle,
            self._stores,
            "test",
            reference=self._reference if "saliency" in bundle.info.predicts else None,
            connect=self._join,
            on_progress=lambda done, total: self._hooks.on_progress(who, done, total),
        )
        self._work.keep_evaluation_table(who, table)
        return table

    def _publish(self, candidate: Bundle) -> ModelPin:
        """Publish the candidate, whatever the gate will say: a version in the ledger is not yet in service."""
        name, sha = self._spec.name, candidate.info.weights_sha256
        for entry in self._registry.history(name):
            if entry.action == "publish" and entry.weights_sha256 == sha and self._tag in entry.reason:
                return self._registry.resolve(f"{name}@{entry.version}")
        self._lease.check()
        return self._registry.publish(candidate, f"candidate of {self._tag}")

    def _entered(self, pin: ModelPin) -> GateReport:
        """Enter the gate's report into the ledger once, by its hash."""
        report, (key, digest) = self._work.gate(), self._work.evidence()
        assert report is not None
        if not any(entry.evidence_sha256 == digest for entry in self._registry.history(self._spec.name)):
            self._registry.record_gate(self._spec.name, pin.version, report.outcome, key, digest, reason=self._tag)
        return report

    def _promote(self, pin: ModelPin, report: GateReport) -> tuple[bool, str]:
        """Promote an accepted candidate if that is allowed and the champion is still the one it was compared with."""
        name, champion = self._spec.name, self._spec.champion.version
        stands = self._registry.aliases(name).get(CHAMPION)
        if stands == pin.version:
            return True, ""
        # no full stop after a command that somebody copies
        if report.outcome is not GateOutcome.ACCEPTED:
            return False, f"{_UNLESS[report.outcome]}, or decide yourself: {self._promotion(pin)} --reason WHY"
        if not self._settings.auto_promote:
            return False, f"To put it into service: {self._promotion(pin)}"
        self._lease.check()
        try:
            self._registry.promote(name, pin.version, note=f"accepted by the gate of {self._tag}", expected=champion)
        except PromotionConflict as conflict:
            return False, f"Not promoted: {conflict}"
        self._hooks.say(f"{name}@{CHAMPION} is {pin.version}.")
        return True, ""

    def _promotion(self, pin: ModelPin) -> str:
        """Return the command by which a person promotes a version."""
        registry = self._settings.registry
        where = [] if registry == default_registry() else ["--registry", registry]
        return shlex.join(["cxrgaze", "models", "promote", pin.name, pin.version, *where])
