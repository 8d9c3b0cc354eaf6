"""Work is mirrored to MLflow, where its own client finds it, and goes on in the run that it began."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from cxrgaze_ray.errors import StoreUnavailable
from cxrgaze_ray.registry.mlflow_tracking import EXPERIMENT, check_tracking, import_quietly, tracked

EPOCH = {"stage": "saliency", "epoch": 1, "train_loss": 2.5, "validation_loss": 3.0, "images": 100, "seconds": 4.0}


def runs_at(uri: str) -> list[Any]:
    client = import_quietly().MlflowClient(tracking_uri=uri)
    return list(client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id]))


def test_epochs_metrics_and_verdicts_are_found_by_mlflow_s_client(tmp_path: Path) -> None:
    uri = tmp_path.as_uri()
    with tracked(uri, "train-1") as run:
        assert run is not None
        run.epoch(EPOCH)
        figures = {"diagnosis": {"macro_auc": 0.9, "auc": {"heart failure": None}}, "curves": {"roc": [0.0, 1.0]}}
        run.result(figures, {"gate": "accepted", "version": "cxrgaze@v0002"})
    (found,) = runs_at(uri)
    assert found.info.status == "FINISHED"
    assert found.data.metrics == {
        "saliency/train_loss": 2.5, "saliency/validation_loss": 3.0, "saliency/images_per_second": 25.0,
        "diagnosis/macro_auc": 0.9,
    }  # fmt: skip
    assert found.data.tags["gate"] == "accepted"


def test_work_that_was_stopped_goes_on_in_its_run(tmp_path: Path) -> None:
    uri = tmp_path.as_uri()
    with pytest.raises(KeyboardInterrupt), tracked(uri, "train-1"):
        raise KeyboardInterrupt
    assert [run.info.status for run in runs_at(uri)] == ["KILLED"]
    with tracked(uri, "train-1") as run, tracked(uri, "train-2"):
        assert run is not None
        run.epoch(EPOCH)
    assert sorted(run.info.run_name for run in runs_at(uri)) == ["train-1", "train-2"]


def test_a_server_that_is_not_there_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StoreUnavailable, match="can't be written to"), tracked("http://127.0.0.1:9", "train-1"):
        pass
    with pytest.raises(StoreUnavailable, match="can't be written to"):
        check_tracking("http://127.0.0.1:9")


def test_a_check_leaves_no_experiment(tmp_path: Path) -> None:
    check_tracking(None)
    check_tracking(uri := tmp_path.as_uri())
    assert import_quietly().MlflowClient(tracking_uri=uri).get_experiment_by_name(EXPERIMENT) is None


def test_a_server_that_goes_away_costs_the_work_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with tracked(tmp_path.as_uri(), "train-1") as run:
        assert run is not None
        shutil.rmtree(tmp_path)
        run.result({"macro_auc": 0.9}, {})
    assert "could not be told of the result" in caplog.text


def test_nothing_is_written_unless_asked_for() -> None:
    with tracked(None, "train-1") as run:
        assert run is None
