"""Logs as JSON: what stands in a line, what never does, and where the ids come from."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from cxrgaze_ray.telemetry import logs
from cxrgaze_ray.telemetry.logs import about, event, request_id_of, start_logging

CANARY = "QUENTIN-CANARY MRN-774411"


class Written(io.StringIO):
    """What was written, line by line."""

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    monkeypatch.setenv(logs.FORMAT_VARIABLE, "json")
    log, stream = logging.getLogger(logs.OURS), Written()
    before = log.handlers[:], log.level, log.propagate
    log.handlers.clear()
    assert start_logging(stream)
    assert start_logging(stream), "twice is as good as once"
    yield stream
    log.handlers[:], log.level, log.propagate = before


LOG = logging.getLogger("cxrgaze_ray.some.room")


def test_a_line_says_when_what_and_what_about(written: Written) -> None:
    with about(run="0123456789abcdef"), about(shard=3):
        event(LOG, "shard committed", rows=128)
    event(LOG, "over")
    first, second = written.lines
    assert first.pop("time").endswith("+00:00")
    assert first.pop("process") > 0
    assert first == {
        "level": "info", "logger": LOG.name, "message": "shard committed", "run": "0123456789abcdef", "shard": 3,
        "rows": 128,
    }  # fmt: skip
    assert not {"run", "shard"} & set(second), "what was bound ends with its block"


def test_an_exception_is_told_by_type_and_place(written: Written) -> None:
    try:
        raise RuntimeError(CANARY)
    except RuntimeError:
        LOG.exception("following the model failed")
    assert CANARY not in written.getvalue()
    assert written.lines[0]["error"].startswith("RuntimeError at test_logs.py:")


@pytest.mark.parametrize(
    "fields", [{"patient": "x"}, {"path": "/a"}, {"run": CANARY}, {"route": "x" * 65}, {"code": "a\nb"}]
)
def test_what_is_no_short_word_of_a_known_field_is_refused(written: Written, fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))) as refused:
        event(LOG, "something", logging.INFO, **fields)
    with pytest.raises(ValueError, match=next(iter(fields))), about(**fields):
        pass
    assert CANARY not in str(refused.value)
    assert not written.lines


def test_serve_s_records_tell_their_request_in_the_same_form(written: Written) -> None:
    serves = logging.getLogger(logs.SERVES)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    serves.addHandler(handler)
    try:
        start_logging()
        for request in ("2f1d2f6e-6a1b-4a6c-9e51-0d8f4f7cfb11", CANARY):
            serves.error("failed", extra={"request_id": request})
    finally:
        serves.removeHandler(handler)
    known, unknown = (json.loads(line) for line in stream.getvalue().splitlines())
    assert known["request"] == "2f1d2f6e-6a1b-4a6c-9e51-0d8f4f7cfb11"
    assert "request" not in unknown


@pytest.mark.parametrize("given", [None, "", CANARY, "123456789012", "abc-1", "../../etc", "1.2.840.113619.2.55"])
def test_a_client_s_words_are_no_request_id(given: str | None) -> None:
    assert request_id_of(given) is None


def test_a_uuid_is_a_request_id_however_it_is_written() -> None:
    known = uuid.uuid4()
    assert request_id_of(known.hex) == request_id_of(str(known).upper()) == str(known)


def test_without_the_variable_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(logs.FORMAT_VARIABLE, raising=False)
    before = list(logging.getLogger(logs.OURS).handlers)
    assert not start_logging()
    assert logging.getLogger(logs.OURS).handlers == before


def command(arguments: list[str], value: str) -> subprocess.CompletedProcess[str]:
    program = (
        "import os, sys; os.environ['CXRGAZE_LOG_FORMAT'] = sys.argv.pop(1); from cxrgaze_ray.cli import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, value, *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_a_command_tells_its_user_in_json_too_and_results_stay_as_they_are(tmp_path: Any) -> None:
    made = command(["archive", "make", str(tmp_path / "a"), "--images", "3"], "json")
    assert made.returncode == 0, made.stderr
    assert made.stdout
    lines = [json.loads(line) for line in made.stderr.splitlines()]
    assert lines
    assert {line["level"] for line in lines} == {"info"}
    failed = command(["runs", "show", str(tmp_path / "none")], "json")
    (line,) = (json.loads(line) for line in failed.stderr.splitlines())
    assert (failed.returncode, line["level"]) == (2, "error")
    assert line["message"].startswith("cxrgaze: ")


def test_a_format_that_there_is_none_of_is_refused() -> None:
    refused = command(["config", "env"], "xml")
    assert refused.returncode == 2
    assert "CXRGAZE_LOG_FORMAT" in refused.stderr
    assert "json" in refused.stderr
