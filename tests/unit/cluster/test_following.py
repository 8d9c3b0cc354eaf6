"""A job is followed to its end: every line once, over broken connections and restarts of the head, and told truly."""

from __future__ import annotations

from collections.abc import Callable
from queue import Queue

import pytest

from cxrgaze_ray.cluster.following import Follower
from cxrgaze_ray.cluster.job_server import JobState
from cxrgaze_ray.errors import ServingUnavailable, UserError

RUNS, DONE = JobState("RUNNING"), JobState("SUCCEEDED", 0)
AGAIN = "cxrgaze submit attach job"


class Scripted:
    """A server whose states come one after the other, the last one for ever; None is silence, "" a job unknown."""

    url = "http://head:8265"

    def __init__(
        self, *states: JobState | str | None, said: tuple[str, ...] = (), sessions: tuple[str, ...] = ("one",)
    ) -> None:
        self.states, self.said, self.sessions = list(states), list(said), list(sessions)

    def session(self) -> str:
        return self.sessions.pop(0) if len(self.sessions) > 1 else self.sessions[0]

    def state(self, job: str) -> JobState | None:
        found = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if found is None:
            raise ServingUnavailable("silence")
        return found if isinstance(found, JobState) else None

    def tail(self, job: str, words: Queue[str | None]) -> None:
        for piece in self.said.pop(0) if len(self.said) > 1 else self.said[0]:
            words.put(piece)
        words.put(None)

    def stop(self, job: str) -> None:
        raise AssertionError


def follow(server: Scripted, patience: float = 10) -> tuple[Callable[[], JobState], list[str], list[str]]:
    heard: list[str] = []
    said: list[str] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    follower = Follower(
        server, "job", heard.append, said.append, patience_s=patience, again=AGAIN, sleep=sleep, clock=lambda: now[0]
    )
    return follower.follow, heard, said


def test_every_line_is_heard_once_and_the_end_is_told() -> None:
    server = Scripted(RUNS, DONE, said=("one\ntwo\nhalf",))
    ends, heard, said = follow(server)
    assert ends() == DONE
    assert heard == ["one", "two", "half"]
    assert said == []


def test_a_job_that_has_ended_already_is_heard_from_its_beginning() -> None:
    ends, heard, _ = follow(Scripted(DONE, said=("a\nb\n",)))
    assert ends() == DONE
    assert heard == ["a", "b"]


def test_a_connection_that_breaks_loses_no_line_and_repeats_none() -> None:
    server = Scripted(
        RUNS, None, None, RUNS, DONE, said=("one\ntwo\nthr", "one\ntwo\nthree\n", "one\ntwo\nthree\nfour\n")
    )
    ends, heard, said = follow(server)
    assert ends() == DONE
    assert heard == ["one", "two", "three", "four"]
    assert said == [
        "The head does not answer. Waiting for it, up to 10 s.", "The head is back, and has job still."
    ]  # fmt: skip


def test_a_head_that_stays_away_is_not_waited_for_for_ever() -> None:
    ends, _, said = follow(Scripted(RUNS, None, said=("one\n",)))
    with pytest.raises(ServingUnavailable, match=f"not answered for 10 s; whether job goes on .* {AGAIN}") as told:
        ends()
    assert told.value.exit_code == 4
    assert len(said) == 1


def test_a_head_that_was_started_anew_has_lost_the_job() -> None:
    ends, heard, _ = follow(Scripted(RUNS, None, "", said=("one\n",), sessions=("one", "two")))
    with pytest.raises(ServingUnavailable, match=r"job is lost: .* was started anew.* Submit it again"):
        ends()
    assert heard == ["one"]


def test_a_job_that_was_deleted_is_told_so() -> None:
    ends, _, _ = follow(Scripted(RUNS, "", said=("",)))
    with pytest.raises(ServingUnavailable, match="has forgotten it"):
        ends()


def test_a_job_that_never_was_is_the_user_s_error() -> None:
    ends, _, _ = follow(Scripted(""))
    with pytest.raises(UserError, match="knows no job job"):
        ends()


def test_a_machine_that_vanishes_without_a_word_is_noticed() -> None:
    class Mute(Scripted):
        def tail(self, job: str, words: Queue[str | None]) -> None:
            words.put("one\n")

    heard: list[str] = []
    now = [0.0]
    follower = Follower(
        Mute(RUNS, RUNS, None), "job", heard.append, heard.append, patience_s=3, again=AGAIN, silence_s=0.01,
        sleep=lambda seconds: now.__setitem__(0, now[0] + seconds), clock=lambda: now[0],
    )  # fmt: skip
    with pytest.raises(ServingUnavailable, match="not answered for 3 s"):
        follower.follow()
    assert heard[0] == "one"


def test_interrupted_it_goes_on_where_it_was() -> None:
    heard: list[str] = []

    def hear(line: str) -> None:
        heard.append(line)
        if line == "two" and heard.count("two") == 1 and len(heard) == 2:
            raise KeyboardInterrupt

    follower = Follower(
        Scripted(RUNS, RUNS, DONE, said=("one\ntwo\nthree\n",)), "job", hear, hear, patience_s=1, again=AGAIN,
        sleep=lambda _: None,
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        follower.follow()
    assert follower.follow() == DONE
    assert heard == ["one", "two", "three"]
