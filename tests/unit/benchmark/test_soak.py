"""What a soak notes and how it judges: broken promises are found, whoever breaks them."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
from fastapi import FastAPI

from cxrgaze_ray.benchmark import soak
from cxrgaze_ray.benchmark.samples import jpeg_phantom
from cxrgaze_ray.benchmark.soak import SoakFigures
from cxrgaze_ray.benchmark.soak.cluster import MODEL, serve_file
from cxrgaze_ray.benchmark.soak.faults import Burst, Event, Window
from cxrgaze_ray.benchmark.soak.memory import Held, Look, held_by_role
from cxrgaze_ray.benchmark.soak.promises import CHECK_WITHIN_S, MEND_WITHIN_S, Promise, during, judge, tally
from cxrgaze_ray.benchmark.soak.requests import Kind, health, malformed, post, sound
from cxrgaze_ray.benchmark.soak.traffic import BROKEN, GAVE_UP, Answer, Traffic
from cxrgaze_ray.config.serve_file import IngressSettings
from cxrgaze_ray.errors import EXIT_STRICT
from cxrgaze_ray.http.proxy import Door
from cxrgaze_ray.serving.routes import make_api
from tests.command import Cxrgaze
from tests.dicom_files import gradient, make_dicom
from tests.service_here import ServiceHere, listening

PICTURE = Kind("JPEG", b"", 200)
BAD = Kind("no image", b"", 415, "not_an_image")
LATER = Answer(0, 0, PICTURE, 503, "busy", 2.0)
WINDOWS = [Window(event, 10.0 * place, 10.0 * place + 10) for place, event in enumerate(Event)]
MIB = 2**20


def at(event: Event, answer: Answer, lasting: float = 1.0) -> Answer:
    """Move an answer into the middle of an event."""
    began = 10.0 * list(Event).index(event) + 4
    return replace(answer, began=began, ended=began + lasting)


def well() -> list[Answer]:
    return [at(event, Answer(0, 0, kind, kind.code, kind.reason)) for event in Event for kind in (PICTURE, BAD)]


def looks(*held: int, pids: Sequence[int] = (1, 2)) -> list[Look]:
    return [Look(float(when), {MODEL: bytes_}, frozenset(pids)) for when, bytes_ in enumerate(held)]


CROWD = Burst([Answer(0, 1, PICTURE, 200), LATER, Answer(0, 1, PICTURE, GAVE_UP)], [Answer(0, 1, health(), 200)])
FLAT = [Held(MODEL, 500 * MIB, 520 * MIB)]


def broken(
    answers: list[Answer] | None = None,
    windows: list[Window] = WINDOWS,
    burst: Burst = CROWD,
    held: list[Held] = FLAT,
    steady: list[Look] | None = None,
) -> dict[str, str]:
    judged = judge(well() if answers is None else answers, windows, burst, held, steady or looks(1, 1))
    return {one.what: one.found for one in judged if not one.kept}


def test_a_service_that_is_well_breaks_no_promise() -> None:
    assert broken() == {}


@pytest.mark.parametrize("event", list(Event))
def test_a_503_that_says_when_to_come_back_is_allowed_where_something_is_lost(event: Event) -> None:
    allowed = event in (Event.MODEL, Event.INGRESS, Event.NODE, Event.BURST)
    assert (broken([*well(), at(event, LATER)]) == {}) is allowed


@pytest.mark.parametrize("event", list(Event))
@pytest.mark.parametrize(
    "answer",
    [
        Answer(0, 0, PICTURE, 500, "bug"),
        Answer(0, 0, PICTURE, 503, "busy"),
        Answer(0, 0, PICTURE, 503, "", 2.0),
        Answer(0, 0, PICTURE, BROKEN),
        Answer(0, 0, PICTURE, GAVE_UP),
        Answer(0, 0, BAD, 200),
        Answer(0, 0, BAD, 415, "truncated"),
        Answer(0, 0, BAD, 500, "bug"),
    ],
    ids=lambda one: f"{one.kind.name}-{one.code}-{one.reason}",
)
def test_a_wrong_answer_breaks_a_promise_whenever_it_comes(event: Event, answer: Answer) -> None:
    ((what, found),) = broken([*well(), at(event, answer)]).items()
    assert what.startswith(f"{event}: its own answer")
    assert found.startswith("not 1 of 3: ")
    assert answer.kind.name in found


@pytest.mark.parametrize("kept", [True, False])
def test_a_broken_promise_is_told_and_ends_the_command(
    cxrgaze: Cxrgaze, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    promise = Promise("steady: memory is flat", kept, "proxy +99 MiB")
    summed = tuple(tally(window, well()) for window in WINDOWS)
    found = SoakFigures("tiny", 2, 4, 1.0, 2, 30.0, summed, tuple(FLAT), (promise,))
    monkeypatch.setattr(soak, "bench_soak", lambda *_: found)
    ended = cxrgaze("bench", "soak")
    assert ended.code == (0 if kept else EXIT_STRICT)
    assert ("BROKEN" in ended.out) is not kept
    for told in (*Event, MODEL, "proxy +99 MiB"):
        assert told in ended.out
    ended = cxrgaze("bench", "soak", "--json")
    assert (ended.code, ended.json["kept"]) == (0 if kept else EXIT_STRICT, kept)
    assert [one["event"] for one in ended.json["tallies"]] == list(Event)


def test_who_is_never_answered_is_no_proof() -> None:
    assert len(broken([])) == len(Event)


def test_a_request_that_a_kill_touches_is_the_kill_s() -> None:
    late = Answer(WINDOWS[4].ended - 1, WINDOWS[-1].began + 1, PICTURE, 200)
    found = during([late, at(Event.CALM, PICTURE_ANSWER)], WINDOWS)
    assert [len(one) for one in found] == [1, 0, 0, 0, 0, 0, 1, 0], "the last kill that it saw"


PICTURE_ANSWER = Answer(0, 0, PICTURE, 200)


def test_a_burst_must_be_told_to_come_back_beyond_the_bound() -> None:
    none_waited = replace(CROWD, answers=[PICTURE_ANSWER] * 9)
    assert set(broken(burst=none_waited)) == {"burst: the queue is bounded"}
    lost = replace(CROWD, answers=[*CROWD.answers, Answer(0, 0, PICTURE, BROKEN)])
    assert set(broken(burst=lost)) == {"burst: scored, or 503 with Retry-After"}
    for checks in ([], [Answer(0, 0, health(), 503, "busy", 2.0)]):
        assert set(broken(burst=replace(CROWD, checks=checks))) == {"burst: health is answered"}
    late = replace(CROWD, checks=[Answer(0, CHECK_WITHIN_S, health(), 200)])
    assert set(broken(burst=late)) == {f"burst: health is answered within {CHECK_WITHIN_S:.0f} s"}


def test_only_what_is_about_seconds_may_be_a_busy_machine_s_fault() -> None:
    timed = {one.what for one in judge(well(), WINDOWS, CROWD, FLAT, looks(1, 1)) if one.timed}
    assert len(timed) == 7
    assert all("within" in what for what in timed)


def test_a_fault_must_be_over_in_time() -> None:
    never = [replace(one, over=one.event is not Event.NODE) for one in WINDOWS]
    assert set(broken(windows=never)) == {f"node killed: over within {MEND_WITHIN_S:.0f} s"}
    slow = [replace(one, ended=one.began + MEND_WITHIN_S) if one.event is Event.AWAY else one for one in WINDOWS]
    assert f"store away: over within {MEND_WITHIN_S:.0f} s" in broken(windows=slow)


def test_memory_that_grows_and_processes_that_end_are_told() -> None:
    grown = [Held(MODEL, 500 * MIB, 560 * MIB)]
    assert broken(held=grown) == {"steady: memory is flat": "model replica +60 MiB"}
    assert set(broken(held=[])) == {"steady: memory is flat"}
    gone = [*looks(1), *looks(1, pids=(1, 3))]
    assert broken(steady=gone) == {"steady: no process of the service ends": "1 of 2 ended"}


def test_memory_is_compared_after_what_is_loaded_at_first_use() -> None:
    (held,) = held_by_role(looks(1, 1, 5, 7, 0, 0, 0, 0, 9, 9))
    assert held == Held(MODEL, 6, 9)


def test_what_clients_got_is_summed_up() -> None:
    window = WINDOWS[0]
    scored = [Answer(2, 3, PICTURE, 200), Answer(2, 6, PICTURE, 200)]
    others = [LATER, Answer(1, 2, BAD, 415, "not_an_image"), Answer(1, 2, replace(PICTURE, code=0), 0)]
    found = tally(window, [*scored, *others, Answer(1, 2, PICTURE, BROKEN)])
    assert (found.scored, found.refused, found.told_to_wait, found.hung_up, found.wrong) == (2, 1, 1, 1, 1)
    assert (found.p50_ms, found.gap_s) == (2500, 4)
    assert tally(window, []).p50_ms is None


def test_the_service_is_too_large_for_the_head_and_spread_over_the_nodes() -> None:
    file = serve_file(8123, "r", 2.0)
    assert (file.http_options.port, file.ingress.registry, file.ingress.follow_every_s) == (8123, "r", 2.0)
    for one in file.applications[0].deployments:
        assert one.ray_actor_options
        assert (one.max_replicas_per_node, one.ray_actor_options.num_cpus > 1) == (1, True)


@contextmanager
def guarded(api: FastAPI) -> Iterator[int]:
    with listening(Door(api)) as url:  # type: ignore[arg-type]
        yield int(url.rpartition(":")[2])


@pytest.mark.long
def test_every_request_gets_the_answer_that_is_expected_of_it() -> None:
    """The service's own routes behind its own door, and the very clients of a soak."""
    dicom, jpeg = make_dicom(gradient(300, 300)), jpeg_phantom()
    service = ServiceHere()
    kinds = (*sound(dicom, jpeg), *malformed(dicom, jpeg), health())
    try:
        with guarded(make_api(service, IngressSettings())) as port, Traffic(port, [health()], [health()], 1) as traffic:
            answers = [traffic.ask(kind) for kind in kinds]
            assert {one.kind.name: (one.code, one.reason) for one in answers if not one.as_promised} == {}
            assert answers[0].version == "v0001"
            assert traffic.ask(post_until(jpeg), patience_s=0.1).code == GAVE_UP
            crowd = traffic.start_burst(kinds[0], 5, 30).result()
            assert [one.code for one in crowd] == [200] * 5
    finally:
        service.close()
    assert {one.code for one in traffic.answers} == {200}


def post_until(jpeg: bytes) -> Kind:
    return Kind("half", post(jpeg)[:-1], 200)


def test_a_connection_that_breaks_is_told() -> None:
    class HangUp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            pass

    with socketserver.TCPServer(("127.0.0.1", 0), HangUp) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        with Traffic(server.server_address[1], [PICTURE], [PICTURE], 1) as traffic:
            while not traffic.answers:
                time.sleep(0.01)
        server.shutdown()
    assert {one.code for one in traffic.answers} == {BROKEN}
