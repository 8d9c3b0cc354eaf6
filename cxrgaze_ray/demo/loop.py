"""The loop on phantoms: what `cxrgaze demo --loop` runs.

Score, meet another hospital's archive, notice, ask for labels, retrain, have the candidate judged, put it into service
under load, and take it back. Where the gate can't tell, the promotion is a person's, and shown as one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ray import serve

from cxrgaze_ray.cluster.connection import connect
from cxrgaze_ray.cluster.ports import claimed
from cxrgaze_ray.demo.load import LoadGenerator
from cxrgaze_ray.demo.steps import MODEL, SPLIT, DemoHooks, clear, draw, ingest_phantoms, score_phantoms, train_first
from cxrgaze_ray.demo.timeline import Timeline
from cxrgaze_ray.evaluation.gate import GateOutcome, GateSettings, gate_rows
from cxrgaze_ray.lifecycle.monitoring import MonitorReport, monitor
from cxrgaze_ray.lifecycle.retraining import (
    DecidePolicy,
    Hooks,
    NewData,
    Policy,
    Result,
    RetrainSettings,
    plan_retraining,
    run_retraining,
)
from cxrgaze_ray.phantoms import GAZE_FOLDER, Drift
from cxrgaze_ray.registry.audit import verify_registry
from cxrgaze_ray.registry.versions import CHAMPION, Registry
from cxrgaze_ray.reports.pages import render
from cxrgaze_ray.schemas import RESEARCH_ONLY
from cxrgaze_ray.scoring.runs import Run
from cxrgaze_ray.serving import ServeFile, start_http, wait_ready
from cxrgaze_ray.shards import IngestSettings
from cxrgaze_ray.storage import open_store

DEMO_POLICY = Policy(
    name="demo",
    decide=DecidePolicy(least_new_patients=20, least_train_patients=60, least_test_patients=10, least_days_between=0.0),
    gate=GateSettings(least_patients=20, rounds=1000),
)
"""For a few hundred phantoms: the gate's margins are the default ones, and often can't be shown with so few."""

_PARTS = ("archive", "unseen", "drifted", "labelled", "store", "new-store", "registry", "run", "monitor")
_FAULTS = 1
_REQUESTS = 10
"""Answers that the clients wait for before the champion moves, and after each move."""

_PROMOTIONS = {
    True: ("The gate accepted: the candidate is promoted", "demo: accepted by the gate"),
    False: (
        "The gate can't tell with so few: a person promotes the candidate",
        "demo: promoted by hand, the gate could not tell",
    ),
}


@dataclass(frozen=True)
class LoopResult:
    """What the loop came to.

    Attributes
    ----------
    suspected
        Kinds of drift that the monitor named.
    decision_before, decision_after
        What the policy said before and after labels came.
    outcome
        Outcome of the gate.
    promoted_by
        gate, person, or nobody.
    requests, failures
        Single requests while serving rolled over and back.
    """

    directory: str
    report: str
    suspected: tuple[str, ...]
    decision_before: str
    decision_after: str
    outcome: str
    promoted_by: str
    rolled_over: bool
    rolled_back: bool
    requests: int
    failures: int
    ledger_sound: bool
    seconds: float

    def lines(self) -> list[str]:
        """Return the result for people."""
        return [
            f"The monitor named: {', '.join(self.suspected) or 'nothing'}. Policy: {self.decision_before}, and with "
            f"labels {self.decision_after}. Gate: {self.outcome.replace('_', ' ')}. Promoted by: {self.promoted_by}.",
            f"Serving rolled over: {_yes(self.rolled_over)}; back: {_yes(self.rolled_back)}; {self.failures} of "
            f"{self.requests} requests failed meanwhile. Ledger sound: {_yes(self.ledger_sound)}.",
            f"Report: {self.report} (the loop took {self.seconds:.0f} s; {RESEARCH_ONLY.lower()[:-1]})",
        ]


def run_loop_demo(directory: str, *, images: int, unseen: int, seed: int, port: int, hooks: DemoHooks) -> LoopResult:
    """Close the loop on phantoms.

    Parameters
    ----------
    directory
        Local folder; what an earlier demo left there is replaced.
    images, unseen
        Phantoms that the first champion learns from, and of each archive that is scored.
    seed
        Seed of phantoms and training.
    port
        Where HTTP listens, on this machine only.

    Raises
    ------
    UserError
        If the folder holds something else, or another program has the port.
    """
    root = clear(directory, _PARTS)
    with claimed("127.0.0.1", port), connect():
        return _Loop(root, images, unseen, seed, port, hooks).close()


class _Loop:
    """The steps, in order; what they leave lies under one folder."""

    def __init__(self, root: Path, images: int, unseen: int, seed: int, port: int, hooks: DemoHooks) -> None:
        self._root, self._images, self._unseen, self._seed, self._port = root, images, unseen, seed, port
        self._hooks, self._line = hooks, Timeline(hooks.say)
        self._uri = str(root / "registry")
        self._registry = Registry(open_store(self._uri))

    def close(self) -> LoopResult:
        """Go once around."""
        self._first_champion()
        with self._served() as url:
            baseline = self._score("unseen", "Scoring a night's archive: the baseline")
            current = self._score("drifted", "Scoring the next one: it comes from another hospital")
            report = self._watch(baseline, current)
            before = self._decide()
            self._label()
            result = self._retrain()
            with LoadGenerator(url, self._radiograph()) as load:
                load.wait_for_requests(_REQUESTS)
                promoted_by = self._promote(result)
                over = self._roll_over(load, result) if promoted_by != "nobody" else math.inf
                back = self._roll_back(load) if promoted_by != "nobody" else math.inf
        sound = self._audit()
        outcome = result.gate.outcome if result.gate else "none"
        page = self._report(report, result, load)
        return LoopResult(
            directory=str(self._root),
            report=page,
            suspected=tuple(one.drift for one in report.suspicions),
            decision_before=before,
            decision_after=str(result.decision.action),
            outcome=str(outcome),
            promoted_by=promoted_by,
            rolled_over=math.isfinite(over),
            rolled_back=math.isfinite(back),
            requests=load.requests,
            failures=load.failures.total(),
            ledger_sound=sound,
            seconds=round(self._line.seconds, 1),
        )

    def _first_champion(self) -> None:
        with self._line.moment("Drawing four archives of phantoms, two of them from another hospital") as moment:
            drift = Drift(site=1.0)
            draw(self._root / "archive", self._images, self._seed, self._hooks)
            draw(self._root / "unseen", self._unseen, self._seed + 1, self._hooks, faults=_FAULTS)
            draw(self._root / "drifted", self._unseen, self._seed + 2, self._hooks, faults=_FAULTS, drift=drift)
            draw(self._root / "labelled", self._images // 2, self._seed + 3, self._hooks, drift=drift)
            moment.tell(f"{self._images} to learn from, {self._unseen} a night, {self._images // 2} to be labelled.")
        with self._line.moment("Training the first champion, all four phases") as moment:
            store = ingest_phantoms(self._root / "archive", self._root / "store", self._hooks)
            version = train_first(store, self._uri, self._seed, self._hooks)
            moment.tell(f"{MODEL}@{version} is the champion: the first one, promoted without a gate.")

    @contextmanager
    def _served(self) -> Iterator[str]:
        """Host the champion over HTTP meanwhile; runs are scored by the same application."""
        file = ServeFile().with_arguments(
            port=self._port, registry=self._uri, model=f"{MODEL}@{CHAMPION}", engine="auto", follow_every_s=1.0
        )
        with self._line.moment("Hosting the champion on Ray Serve", "service") as moment:
            start_http(file)
            wait_ready(file)
            moment.tell(f"It answers on {file.url}.")
        try:
            yield file.url
        finally:
            serve.shutdown()  # type: ignore[no-untyped-call]

    def _score(self, archive: str, title: str) -> Run:
        with self._line.moment(title) as moment:
            outcome = score_phantoms(self._root / archive, self._root / "run", self._uri, self._hooks)
            counts = outcome.success.counts
            moment.tell(", ".join(f"{number} {status}" for status, number in counts.items()) + ".")
        return outcome.run

    def _watch(self, baseline: Run, current: Run) -> MonitorReport:
        with self._line.moment("The monitor compares the two runs, without labels", "alert") as moment:
            report = monitor([baseline], [current])
            folder = open_store(str(self._root / "monitor"))
            folder.put("report.json", report.model_dump_json(indent=2).encode())
            for suspicion in report.suspicions:
                moment.tell(suspicion.sentence)
            moment.tell(f"{len(report.alerts)} alerts.")
        return report

    def _settings(self, *, labelled: bool) -> RetrainSettings:
        new = NewData(
            archive=str(self._root / "labelled"),
            gaze=(str(self._root / "labelled" / GAZE_FOLDER),),
            out=str(self._root / "new-store"),
            settings=IngestSettings(split=SPLIT),
        )
        return RetrainSettings(
            registry=self._uri,
            name=MODEL,
            stores=(str(self._root / "store"),),
            ingest=(new,) if labelled else (),
            reports=(str(self._root / "monitor" / "report.json"),),
            policy=DEMO_POLICY,
            phases=("encoder", "saliency", "classifier"),
            training={"seed": self._seed + 1, "stages": {"saliency": {"epochs": 3}, "encoder": {"epochs": 8}}},
            auto_promote=False,  # it is promoted under load, below
            page=str(self._root / "monitor" / "retraining.html"),
        )

    def _decide(self) -> str:
        with self._line.moment("The policy is asked whether to retrain", "decision") as moment:
            plan = plan_retraining(self._settings(labelled=False), "drift")
            moment.tell(f"{plan['decision'].capitalize()}: {' '.join(plan['reasons'])}")
        return str(plan["decision"])

    def _label(self) -> None:
        with self._line.moment("Radiologists read some of the new images: labels and gaze arrive", "person") as one:
            store = ingest_phantoms(self._root / "labelled", self._root / "new-store", self._hooks)
            one.tell(f"{store.info.counts['images']} labelled images are a store of their own; splits are by patient.")

    def _retrain(self) -> Result:
        with self._line.moment("Retraining from the champion, and judging the candidate", "decision") as moment:
            hooks = Hooks(say=self._hooks.say, on_progress=self._hooks.on_progress)
            result = run_retraining(self._settings(labelled=True), "drift", connect, hooks)
            if result.conclusion is not None:
                outcome = result.conclusion.outcome.replace("_", " ")
                moment.tell(f"{MODEL}@{result.conclusion.version}: {outcome}. {result.conclusion.why}")
            else:
                moment.tell(f"{result.decision.action}: {' '.join(result.decision.reasons)}")
        return result

    def _promote(self, result: Result) -> str:
        """Promote what was accepted; by hand where the gate could not tell: a demo must go on, and says who did it."""
        if result.conclusion is None or result.gate is None or result.gate.outcome is GateOutcome.REJECTED:
            return "nobody"
        accepted = result.gate.outcome is GateOutcome.ACCEPTED
        title, why = _PROMOTIONS[accepted]
        with self._line.moment(title, "decision" if accepted else "person") as moment:
            self._registry.promote(MODEL, result.conclusion.version, reason=why, say=moment.tell)
            moment.tell(f"The ledger says: {why}.")
        return "gate" if accepted else "person"

    def _roll_over(self, load: LoadGenerator, result: Result) -> float:
        assert result.conclusion is not None
        return self._switched(load, result.conclusion.version, "Serving rolls over, under load")

    def _roll_back(self, load: LoadGenerator) -> float:
        pin = self._registry.rollback(MODEL, reason="demo: the way back, in one command")
        return self._switched(load, pin.version, "Rolled back in one command, under load")

    def _switched(self, load: LoadGenerator, version: str, title: str) -> float:
        with self._line.moment(title, "service") as moment:
            seconds = load.wait_for(version)
            load.wait_for_requests(_REQUESTS)
            moment.tell(_switch_line(version, seconds, load))
        return seconds

    def _radiograph(self) -> bytes:
        """Return a file of the night's archive, for the clients to send."""
        return next(path for path in sorted((self._root / "archive" / "files").rglob("*.dcm"))).read_bytes()

    def _audit(self) -> bool:
        with self._line.moment("The ledger is verified, entry by entry", "decision") as moment:
            head = self._registry.head(MODEL)
            faults = [one for one in verify_registry(self._registry, MODEL, head) if not one.note]
            moment.tell(f"Head {head[:16]}: {'sound' if not faults else faults[0].what}")
        return not faults

    def _report(self, report: MonitorReport, result: Result, load: LoadGenerator) -> str:
        path = self._root / "report.html"
        html = render(
            "loop.html",
            moments=self._line.moments,
            total=max(1.0, self._line.seconds),
            report=report,
            result=result,
            gate_rows=gate_rows(result.gate.judged) if result.gate else [],
            versions=dict(load.versions),
            failures=dict(load.failures),
            history=self._registry.history(MODEL),
            policy=DEMO_POLICY,
        )
        open_store(str(self._root)).put(path.name, html.encode())
        return str(path)


def _switch_line(version: str, seconds: float, load: LoadGenerator) -> str:
    if math.isinf(seconds):
        return f"{version} has not answered."
    return f"{version} answers after {seconds:.1f} s; {load.requests} requests so far, {load.failures.total()} failed."


def _yes(value: bool) -> str:
    return "yes" if value else "no"
