"""A dashboard is asked with the token, which goes nowhere else, and each way of not answering has its sentence."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from cxrgaze_ray.cluster.dashboard import Dashboard, checked_url, is_own_address
from cxrgaze_ray.errors import ConfigError, ServingUnavailable
from tests.dashboard_here import NODE, TOKEN, DashboardHere, dashboard_here


@pytest.fixture
def here() -> Iterator[DashboardHere]:
    with dashboard_here() as dashboard:
        yield dashboard


@pytest.fixture
def dashboard(here: DashboardHere) -> Dashboard:
    return Dashboard(here.url, TOKEN)


def test_it_tells_versions_nodes_and_use(dashboard: Dashboard) -> None:
    assert dashboard.version() == {"ray": "2.60.0", "session": "session-1"}
    assert dashboard.nodes() == [NODE]
    assert dashboard.usage() == {"CPU": (1.0, 4.0), "memory": (0.0, 2e9)}


def test_a_cluster_whose_autoscaler_says_nothing_is_in_no_use(here: DashboardHere, dashboard: Dashboard) -> None:
    silent: list[dict[str, Any]] = [{}, {"data": {"clusterStatus": None}}, {"data": {"clusterStatus": {}}}]
    for answer in silent:
        here.answers["/api/cluster_status"] = answer
        assert dashboard.usage() == {}


def test_submitted_jobs_come_newest_first(here: DashboardHere, dashboard: Dashboard) -> None:
    jobs = [{"submission_id": name, "start_time": at} for name, at in (("a", 1), ("b", 3), ("c", None))]
    here.answers["/api/jobs/"] = [*jobs, {"submission_id": None, "type": "DRIVER"}]
    assert [one["submission_id"] for one in dashboard.jobs()] == ["b", "a", "c"]


def test_a_job_that_is_not_there_is_none(here: DashboardHere, dashboard: Dashboard) -> None:
    here.answers["/api/jobs/score-1"] = {"status": "RUNNING"}
    assert dashboard.job("score-1") == {"status": "RUNNING"}
    assert dashboard.job("../version") is None
    assert here.asked[-1] == ("GET", "/api/jobs/..%2Fversion")


def test_a_job_is_told_to_end(here: DashboardHere, dashboard: Dashboard) -> None:
    here.answers["/api/jobs/score-1/stop"] = {"stopped": True}
    dashboard.stop_job("score-1")
    assert here.asked == [("POST", "/api/jobs/score-1/stop")]


@pytest.mark.parametrize("token", ["", "another-token-altogether"])
def test_a_wrong_token_is_told_and_not_shown(here: DashboardHere, token: str) -> None:
    with pytest.raises(ConfigError, match="The token is not that of the cluster") as told:
        Dashboard(here.url, token).version()
    assert "another" not in str(told.value)


@pytest.mark.parametrize(("answer", "words"), [(500, "answers with 500"), (b"<html>", "no Ray dashboard")])
def test_what_is_no_dashboard_is_told(here: DashboardHere, dashboard: Dashboard, answer: object, words: str) -> None:
    here.answers["/api/version"] = answer
    with pytest.raises(ServingUnavailable, match=words):
        dashboard.version()


def test_silence_is_told_with_the_next_step() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ServingUnavailable, match=r"No cluster answers at .* cxrgaze cluster up"):
            Dashboard(url, TOKEN).version()
        with pytest.raises(ServingUnavailable, match="look there"):
            Dashboard(url, TOKEN, "look there").version()


def test_the_token_follows_no_redirection(here: DashboardHere, dashboard: Dashboard) -> None:
    with dashboard_here() as elsewhere:
        here.answers["/api/version"] = f"{elsewhere.url}/api/version"
        with pytest.raises(ServingUnavailable, match="answers with 302"):
            dashboard.version()
        assert elsewhere.asked == []


def test_no_proxy_is_told_the_token(here: DashboardHere, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert dashboard.version()["ray"] == "2.60.0"


def test_the_token_is_not_in_its_representation(dashboard: Dashboard) -> None:
    assert TOKEN not in repr(dashboard)


def test_an_address_is_read_as_people_write_it() -> None:
    assert checked_url("head:8265") == "http://head:8265"
    assert checked_url("http://head:8265/") == "http://head:8265"
    assert checked_url("https://ray.example/cluster/") == "https://ray.example/cluster"
    for wrong in ("", "ftp://head", "http://", "http://me:secret@head:8265", "http://head/?a=b", "http://[::1"):
        with pytest.raises(ConfigError) as told:
            checked_url(wrong)
        assert "secret" not in str(told.value)


def test_an_address_of_this_machine_is_known() -> None:
    assert is_own_address("127.0.0.1")
    assert not is_own_address("192.0.2.254")
    assert not is_own_address("no address")
