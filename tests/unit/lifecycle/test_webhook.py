"""From a notification to a submitted job: once an incident, and not too often."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cxrgaze_ray.errors import StoreUnavailable
from cxrgaze_ray.http.refusals import Reply
from cxrgaze_ray.lifecycle.webhook.groups import Trigger, Triggers
from cxrgaze_ray.lifecycle.webhook.jobs import JobState, state_of
from cxrgaze_ray.lifecycle.webhook.service import Service
from cxrgaze_ray.lifecycle.webhook.settings import WebhookSettings
from cxrgaze_ray.storage import LocalStore
from tests.alertmanager import Clock, FakeJobs, alert, notification

SETTINGS = WebhookSettings(config="s3://models/retrain.yaml")


@pytest.fixture
def jobs() -> FakeJobs:
    return FakeJobs()


@pytest.fixture
def clock() -> Clock:
    return Clock()


Start = Callable[..., Service]


@pytest.fixture
def start(tmp_path: Path, jobs: FakeJobs, clock: Clock) -> Start:
    """Start a webhook, as often as a test wants: all use one registry."""

    def make(settings: WebhookSettings = SETTINGS) -> Service:
        return Service(settings, Triggers(LocalStore(str(tmp_path)), settings.name), jobs, clock)

    return make


def reason(reply: Reply) -> str:
    return str(reply.body["reason"])


def test_a_firing_alert_is_retrained_for_once(start: Start, jobs: FakeJobs, clock: Clock, tmp_path: Path) -> None:
    webhook = start()
    first = webhook.receive(notification())
    assert first.code == 202
    clock.advance(hours=12)
    repeated = webhook.receive(notification())
    clock.advance(hours=24)
    after_a_restart = start().receive(notification())
    assert [repeated.code, after_a_restart.code] == [200, 200]
    assert first.body == repeated.body == after_a_restart.body
    assert (list(jobs.jobs), jobs.submissions) == ([first.body["submission_id"]], 1)
    (claim,) = tmp_path.glob("cxrgaze/retraining/triggers/*.json")
    assert json.loads(claim.read_text())["alerts"] == ["CxrgazeDrift"]


def test_the_job_s_command_comes_from_the_settings_alone(start: Start, jobs: FakeJobs) -> None:
    evil = "x'; touch /tmp/owned; #"
    settings = WebhookSettings(
        config="s3://models/it's mine.yaml", arguments=("--auto-promote",), python="/opt/python", alerts=(evil,)
    )
    assert start(settings).receive(notification(alert(evil), group=evil, receiver=evil)).code == 202
    ((command, metadata),) = jobs.jobs.values()
    assert shlex.split(command) == [
        "/opt/python", "-m", "cxrgaze_ray", "retrain", "--config", "s3://models/it's mine.yaml", "--auto-promote",
        "--reason", "drift", "--json",
    ]  # fmt: skip
    assert set(metadata) == {"incident", "alerts"}


def test_an_alert_that_joins_is_of_the_same_incident(start: Start, jobs: FakeJobs) -> None:
    webhook = start()
    later = alert("CxrgazePerformanceDrop", start="2026-11-02T03:30:00Z")
    first = webhook.receive(notification())
    assert webhook.receive(notification(later, alert())).body == first.body
    assert webhook.receive(notification(alert(start="2026-11-02T04:04:05.123456789+01:00"))).body == first.body
    assert jobs.submissions == 1


def test_an_incident_that_comes_back_is_another_one(start: Start, jobs: FakeJobs, clock: Clock) -> None:
    webhook = start()
    first = webhook.receive(notification())
    clock.advance(days=3)
    again = webhook.receive(notification(alert(start="2026-11-05T01:00:00Z")))
    other = start(SETTINGS.model_copy(update={"least_hours_between": 0})).receive(notification(group="{}:{another}"))
    assert [again.code, other.code] == [202, 202]
    assert len({reply.body["submission_id"] for reply in (first, again, other)}) == 3


@pytest.mark.parametrize(
    "alerts",
    [
        [alert(status="resolved")],
        [alert("CxrgazeRejectRate")],
        [alert("CxrgazeRejectRate"), alert(status="resolved")],
    ],
)
def test_other_alerts_are_answered_and_ignored(start: Start, jobs: FakeJobs, alerts: list[dict[str, object]]) -> None:
    reply = start().receive(notification(*alerts))
    assert (reply.code, "ignored" in reply.body, jobs.jobs) == (200, True, {})


def test_keys_of_a_later_alertmanager_are_no_error(start: Start) -> None:
    assert start().receive(notification(alert() | {"mood": 7}, newKey={"a": [1]})).code == 202


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * 100_000,
        notification(version="3"),
        notification(version=4),
        notification(groupKey=""),
        notification(groupKey=None),
        notification(alerts={}),
        notification(alert() | {"status": "pending"}),
        notification(alert() | {"startsAt": "yesterday"}),
        notification(alert() | {"startsAt": "2026-11-02T03:04:05"}),
        notification(alert() | {"labels": ["alertname"]}),
        notification(alert() | {"labels": {"alertname": 7}}),
    ],
    ids=lambda body: body[:20].decode("latin-1"),
)
def test_what_alertmanager_does_not_send_is_refused(start: Start, jobs: FakeJobs, body: bytes) -> None:
    reply = start().receive(body)
    assert (reply.code, reason(reply), jobs.jobs) == (400, "not_a_notification", {})


def test_the_second_incident_of_a_day_waits(start: Start, jobs: FakeJobs, clock: Clock) -> None:
    start().receive(notification())
    clock.advance(hours=22, minutes=30)
    another = notification(alert(start="2026-11-03T02:00:00Z"))
    refused = start().receive(another)
    assert (refused.code, reason(refused), refused.headers) == (429, "too_soon", {"Retry-After": "5400"})
    assert "22.5 hours ago; at least 24" in refused.body["error"]
    clock.advance(hours=1, minutes=30)
    assert start().receive(another).code == 202
    assert len(jobs.jobs) == 2


def test_the_last_trigger_is_the_latest_of_all(start: Start, clock: Clock) -> None:
    webhook = start(SETTINGS.model_copy(update={"least_hours_between": 2}))
    for hour in range(0, 12, 3):
        assert webhook.receive(notification(alert(start=f"2026-11-02T{hour:02d}:00:00Z"))).code == 202
        assert webhook.receive(notification(alert(start=f"2026-11-02T{hour:02d}:59:00Z"))).code == 429
        clock.advance(hours=3)


def test_clocks_that_disagree_are_told(start: Start, jobs: FakeJobs, clock: Clock) -> None:
    start().receive(notification())
    another = notification(alert(start="2026-11-03T02:00:00Z"))
    clock.advance(minutes=-4)
    assert reason(start().receive(another)) == "too_soon"
    clock.advance(days=-300)
    refused = start().receive(another)
    assert (refused.code, reason(refused)) == (409, "clocks_disagree")
    assert "2026-11-02T04:00:00+00:00" in refused.body["error"]
    assert start().receive(notification()).code == 200  # an incident that was accepted needs no clock
    assert jobs.submissions == 1


def test_a_claim_whose_webhook_died_is_submitted_by_the_next_repeat(start: Start, jobs: FakeJobs, clock: Clock) -> None:
    jobs.down = True
    down = start().receive(notification())
    assert (down.code, reason(down), down.headers) == (503, "unavailable", {"Retry-After": "30"})
    jobs.down = False
    clock.advance(minutes=5)  # within the least time between two: it is the same one
    assert start().receive(notification()).code == 202
    assert start().receive(notification()).code == 200
    assert jobs.submissions == 1


def test_a_webhook_that_died_after_submitting_does_not_retrain_twice(start: Start, jobs: FakeJobs) -> None:
    jobs.dies_after = True
    with pytest.raises(KeyboardInterrupt):
        start().receive(notification())
    jobs.dies_after = False
    assert start().receive(notification()).code == 202
    assert len(jobs.jobs) == 1


def test_a_cluster_that_forgot_its_jobs_is_not_given_them_again(start: Start, jobs: FakeJobs) -> None:
    start().receive(notification())
    jobs.jobs.clear()
    assert start().receive(notification()).code == 200
    assert jobs.jobs == {}


@pytest.mark.parametrize("call", ["exists", "list", "put_if_absent", "get"])
def test_a_store_that_is_away_is_asked_again(
    start: Start, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailable("The store does not answer.")

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, call, away)
        refused = start().receive(notification())
    assert (refused.code, reason(refused), jobs.submissions) == (503, "unavailable", 0)
    assert start().receive(notification()).code == 202


@pytest.mark.parametrize(("other", "code"), [("{}:{same}", 200), ("{}:{another}", 429)])
def test_of_two_webhooks_asked_at_once_one_accepts(
    start: Start, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch, other: str, code: int
) -> None:
    """The second has looked before the first claimed: the claim itself must tell them apart."""
    first, second = notification(group="{}:{same}"), notification(group=other)
    real = Triggers.accepted
    stale: Iterator[list[Trigger]] = iter([[]])
    assert start().receive(first).code == 202
    monkeypatch.setattr(Triggers, "accepted", lambda triggers: next(stale, None) or real(triggers))
    assert start().receive(second).code == code
    assert jobs.submissions == 1


def test_a_trigger_that_was_edited_is_told(start: Start, jobs: FakeJobs, tmp_path: Path) -> None:
    start().receive(notification())
    (claim,) = tmp_path.glob("cxrgaze/retraining/triggers/*.json")
    claim.write_text("{}")
    broken = start().receive(notification(alert(start="2026-11-05T02:00:00Z")))
    assert (broken.code, reason(broken)) == (500, "broken_trigger")
    assert claim.name in broken.body["error"]


def test_the_state_of_a_retraining_is_told(start: Start, jobs: FakeJobs) -> None:
    webhook = start()
    submission_id = webhook.receive(notification()).body["submission_id"]
    assert webhook.state(submission_id) == Reply(
        200, {"submission_id": submission_id, "state": "running", "exit_code": None}
    )
    for unknown in ("cxrgaze-retrain-0123456789abcdef", "raysubmit_another", "../x", "", submission_id + "\n"):
        assert webhook.state(unknown).code == 404
    jobs.down = True
    assert webhook.state(submission_id).code == 503


@pytest.mark.parametrize(
    ("status", "exit_code", "state"),
    [
        ("PENDING", None, "pending"),
        ("RUNNING", None, "running"),
        ("SUCCEEDED", 0, "done"),
        ("FAILED", 2, "ask"),
        ("FAILED", 10, "rejected"),
        ("FAILED", 11, "cannot_tell"),
        ("FAILED", 4, "failed"),
        ("FAILED", 0, "failed"),
        ("FAILED", None, "failed"),
        ("STOPPED", None, "stopped"),
    ],
)
def test_a_rejected_candidate_is_no_failure(status: str, exit_code: int | None, state: str) -> None:
    assert state_of(status, exit_code) == JobState(state, exit_code)
