"""The benchmarks race contestants that do the same work."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cxrgaze_ray.benchmark import samples
from cxrgaze_ray.benchmark.decode import BARE, OURS, REDUCED, SCRIPT, bench_decode, plain_script
from cxrgaze_ray.benchmark.samples import archive_samples, phantom_samples
from cxrgaze_ray.benchmark.stand_ins import MaplessModel, NoopModel, WaitingModel
from cxrgaze_ray.benchmark.timing import race
from cxrgaze_ray.radiograph.preprocess import prepare
from cxrgaze_ray.radiograph.reading import read_radiograph
from cxrgaze_ray.scoring.model_calls import ModelCalls
from tests.dicom_files import gradient, make_dicom, picture


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "ROWS", 1320)
    monkeypatch.setattr(samples, "COLUMNS", 1100)
    monkeypatch.setattr(samples, "SMALL", 700)


def test_contestants_take_turns_and_the_first_call_is_not_measured() -> None:
    calls: list[str] = []
    found = race({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert calls == ["a", "b"] * 4
    assert all(one.fastest <= one.seconds <= one.slowest for one in found.values())


def test_the_script_does_what_the_profile_does(small: None) -> None:
    for sample in phantom_samples():
        ours = prepare(read_radiograph(sample.data)).pixels / 65535
        assert np.abs(ours - plain_script(sample.data)).mean() < 0.002, sample.name


@pytest.mark.long
def test_every_format_is_raced(small: None) -> None:
    taken = [one for one in phantom_samples() if "PNG" not in one.name]
    rows = list(bench_decode(taken, rounds=1))
    assert [row.name for row in rows] == [one.name for one in taken]
    for row in rows:
        assert set(row.timings) == {OURS, REDUCED, BARE, SCRIPT}
        assert row.rate(OURS) > 0
        assert row.reduced_difference < 0.02
        halved = "JPEG" in row.name and "700" not in row.name
        assert row.reduced_as == ("1/2" if halved else "full"), row.name


def test_files_of_an_archive_can_be_raced(tmp_path: Path) -> None:
    (tmp_path / "one.dcm").write_bytes(make_dicom(gradient()))
    (tmp_path / "two.jpg").write_bytes(picture(gradient(bits=8).astype(np.uint8), "JPEG"))
    (tmp_path / "empty.dcm").write_bytes(b"")
    assert [one.name.split()[0] for one in archive_samples(str(tmp_path), 9)] == ["dicom", "jpeg"]


@pytest.mark.parametrize("model", [NoopModel, WaitingModel, MaplessModel], ids=lambda model: model.name)
def test_what_stands_in_for_the_model_can_be_called_as_a_run_calls_it(model: Any) -> None:
    calls = ModelCalls.__new__(ModelCalls)
    sent: list[inspect.BoundArguments] = []
    predict = inspect.signature(model.func_or_class.predict)
    handle = SimpleNamespace(predict=SimpleNamespace(remote=lambda *a, **b: sent.append(predict.bind(None, *a, **b))))
    vars(calls).update(_handle=handle, _pin="pin", _engine="engine", _cam=False)
    calls._send(None)  # type: ignore[arg-type]
    assert sent[0].arguments["engine"] == "engine"
