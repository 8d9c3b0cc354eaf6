"""The budget of retries, and the options of S3."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cxrgaze_ray.errors import ConfigError, StoreDenied, StoreUnavailable
from cxrgaze_ray.storage import S3Settings, open_store
from cxrgaze_ray.storage.retry import LONGEST_WAIT_S, SILENT, Transient, retry
from cxrgaze_ray.storage.s3_client import _arrow_attempts, addressing, ca_bundle, client


class Clock:
    """Time that passes only while one sleeps, or is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.waits_s: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits_s.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "sleep", clock.sleep)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now_s)
    return clock


def failing(clock: Clock, until_s: float, seconds: float = 0.0) -> Callable[[], str]:
    """Return an operation that fails until some time after now; each attempt takes some seconds."""
    end = clock.now_s + until_s

    def attempt() -> str:
        clock.now_s += seconds
        if clock.now_s < end:
            raise Transient("Down.", "Wait.")
        return "done"

    return attempt


def test_an_outage_within_the_budget_is_sat_out(clock: Clock) -> None:
    assert retry(failing(clock, 90), 120) == "done"
    assert max(clock.waits_s) <= LONGEST_WAIT_S
    assert clock.waits_s[0] <= 0.2
    assert len(set(clock.waits_s)) == len(clock.waits_s), "waits are random, so that workers do not come back as one"


def test_past_the_budget_it_is_told(clock: Clock) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        retry(failing(clock, 1e9), 120)
    assert type(caught.value) is StoreUnavailable
    assert str(caught.value) == "Down. It was retried for 120 s. Wait."
    assert 120 - LONGEST_WAIT_S <= sum(clock.waits_s) <= 120


def test_the_budget_begins_with_the_first_failure(clock: Clock) -> None:
    assert retry(failing(clock, 31, seconds=25), 10) == "done"


def test_without_a_budget_there_is_one_attempt(clock: Clock) -> None:
    with pytest.raises(StoreUnavailable, match=r"^Down\. Wait\.$"):
        retry(failing(clock, 1), 0)
    assert clock.waits_s == []


@pytest.mark.parametrize("error", [StoreDenied("No."), StoreUnavailable("Never."), ValueError()])
def test_other_failures_are_told_at_once(clock: Clock, error: Exception) -> None:
    def attempt() -> None:
        raise error

    with pytest.raises(type(error)):
        retry(attempt, 120)
    assert clock.waits_s == []


def test_options_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-")
    monkeypatch.setenv("CXRGAZE_S3_RETRY_S", "7.5")
    monkeypatch.setenv("CXRGAZE_S3_READ_TIMEOUT_S", "3")
    monkeypatch.setenv("CXRGAZE_S3_REQUESTER_PAYS", "true")
    monkeypatch.setenv("CXRGAZE_S3_ADDRESSING", "path")
    monkeypatch.setenv("CXRGAZE_S3_CA_BUNDLE", str(tmp_path / "ca.pem"))
    assert S3Settings.from_environment() == S3Settings(
        retry_s=7.5, read_timeout_s=3, requester_pays=True, addressing="path", ca_bundle=tmp_path / "ca.pem"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RETRY_S", "soon"),
        ("RETRY_S", "-1"),
        ("RETRY_S", "nan"),
        ("READ_TIMEOUT_S", "0"),
        ("REQUESTER_PAYS", "perhaps"),
        ("ADDRESSING", "dns"),
        ("CA_BUNDLE", "/no/such/file"),
        ("RETRIES", "3"),
    ],
)
def test_a_wrong_option_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"CXRGAZE_S3_{name}", value)
    with pytest.raises(ConfigError, match=f"CXRGAZE_S3_{name}: ") as caught:
        open_store("s3://bucket/prefix")
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Set up an AWS profile with its own addressing style and authorities; return its folder."""
    (tmp_path / "profile.pem").write_text("-")
    text = f"[default]\nregion = us-east-1\nca_bundle = {tmp_path}/profile.pem\ns3 =\n  addressing_style = virtual\n"
    (tmp_path / "config").write_text(text + "retry_mode = adaptive\nmax_attempts = 9\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    return tmp_path


def test_the_profiles_addressing_and_authorities_hold(profile: Path) -> None:
    assert addressing() == "virtual"
    assert ca_bundle() == str(profile / "profile.pem")


def test_options_win_over_the_profile(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (profile / "aws.pem").write_text("-")
    monkeypatch.setenv("CXRGAZE_S3_ADDRESSING", "path")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(profile / "aws.pem"))
    assert addressing() == "path"
    assert ca_bundle() == str(profile / "aws.pem")


def test_authorities_that_are_not_there_are_told(profile: Path) -> None:
    (profile / "profile.pem").unlink()
    with pytest.raises(ConfigError, match=r"no CA bundle .*profile\.pem"):
        open_store("s3://bucket").exists("a")


@pytest.mark.usefixtures("profile")
def test_botocore_retries_nothing_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "7")
    retries = client().meta.config.retries  # type: ignore[attr-defined]
    assert retries == {"mode": "standard", "total_max_attempts": 1}


def test_arrows_attempts_grow_with_the_budget() -> None:
    assert [_arrow_attempts(budget) for budget in (0, 1, 120)] == [1, 5, 14]


def test_who_waits_for_storage_is_told_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    retry(failing(clock, 0.05), 120)
    retry(failing(clock, 100), 120)
    assert [line.getMessage() for line in caplog.records].count(SILENT) == 1
    assert len(clock.waits_s) > 20
