"""What a rehearsal measures: real steps of every phase, and the memory and room that they take."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.losses import triplet_bytes
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.training.recipes import RECIPES
from cxrgaze_ray.training.rehearsal import PhaseCost, _some, rehearse
from cxrgaze_ray.training.rows import HeldRows
from cxrgaze_ray.training.settings import TrainSettings
from cxrgaze_ray.training.steps import Steps
from tests.rows import make_rows

CPU = torch.device("cpu")
TRAIN, VALIDATION = HeldRows(make_rows(9)), HeldRows(make_rows(5, seed=1))


def cost(phase: str, **values: object) -> PhaseCost:
    settings = TrainSettings.for_preset("tiny", [phase], backbone="fresh", **values)
    (name,) = settings.stages
    return rehearse(build(settings.network, 3), TRAIN, VALIDATION, settings, name, CPU)


@pytest.mark.long
def test_a_phase_is_reckoned_from_its_own_steps() -> None:
    one = cost("saliency")
    assert (one.images, one.validated, one.epochs) == (9, 5, 10)
    assert min(one.step_s, one.validation_s, one.features_s) > 0
    assert one.once_s == pytest.approx(14 * one.features_s + 5 * one.validation_s)
    assert one.seconds == pytest.approx(one.once_s + 10 * (9 * one.step_s + 5 * one.validation_s))
    assert 0 < one.learning_bytes < one.network_bytes
    assert one.checkpoint_bytes == one.network_bytes + 3 * one.learning_bytes
    assert one.step_bytes(8) - one.step_bytes(4) == 4 * one.saved_bytes


@pytest.mark.long
def test_what_layers_keep_is_counted_and_grows_with_the_picture() -> None:
    small = cost("encoder", architecture={"input_size": [160, 128]})
    large = cost("encoder", architecture={"input_size": [320, 256]})
    assert 3.5 < large.saved_bytes / small.saved_bytes < 4.5


def test_the_triplets_of_a_whole_batch_are_reckoned_beside_the_layers() -> None:
    """Layers grow with the rows, triplets with their cube: those of the few rows that are tried say nothing."""
    few, many = (cost("contrastive", stages={"contrastive": {"batch": batch}}) for batch in (4, 65_536))
    channels = build(PRESETS["tiny"]).densenet.classifier.in_features
    assert (few.rows, few.loss_bytes) == (4, triplet_bytes(4, (channels,)))
    assert (many.rows, many.loss_bytes) == (9, triplet_bytes(9, (channels,)))
    assert few.saved_bytes == many.saved_bytes
    assert many.step_bytes(3) - many.step_bytes(2) == many.saved_bytes


@pytest.mark.long
def test_features_that_have_no_room_are_reckoned_in_every_step() -> None:
    cached, without = cost("classifier"), cost("classifier", cache_gib=0)
    assert cached.feature_bytes > 0
    assert (without.feature_bytes, without.features_s) == (0, 0)


def test_rows_that_are_tried_hold_triplets_if_any_do() -> None:
    labels = [0, 0, 0, 0, 0, 1]
    rows = HeldRows(replace(row, label=label) for row, label in zip(make_rows(6), labels, strict=True))
    stage = RECIPES["gazenet"].stages["contrastive"]
    found = rows.label_N[_some(rows, stage, 4)]
    assert sorted(found.tolist()) == [0, 0, 0, 1]
    assert np.array_equal(_some(rows, stage, 4), np.sort(_some(rows, stage, 4)))


def test_a_step_that_does_not_fit_is_reckoned_from_a_smaller_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrgaze_ray.training.rehearsal.CPU_IMAGES", 8)
    train, tried = Steps.train, []

    def crowded(steps: Steps, *how: Any) -> float:
        tried.append(steps.images)
        if steps.images > 4:
            raise torch.OutOfMemoryError
        return train(steps, *how)

    monkeypatch.setattr(Steps, "train", crowded)
    assert cost("encoder").saved_bytes > 0
    assert tried[:2] == [8, 4]


def test_it_is_measured_with_every_core_as_workers_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    train, threads, before = Steps.train, set(), torch.get_num_threads()

    def counted(steps: Steps, *how: Any) -> float:
        threads.add(torch.get_num_threads())
        return train(steps, *how)

    monkeypatch.setattr(Steps, "train", counted)
    monkeypatch.setattr(torch.multiprocessing, "cpu_count", lambda: before + 1)
    cost("classifier")
    assert (threads, torch.get_num_threads()) == ({before + 1}, before)
