"""The cache of what frozen layers make of images."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cxrgaze_ray.errors import StoreUnavailable
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.storage import LocalStore
from cxrgaze_ray.training import features
from cxrgaze_ray.training.checkpoint import Checkpoint
from cxrgaze_ray.training.features import FOLDER, FeatureCache, Features, digest
from cxrgaze_ray.training.loop import LoopHooks, run_loop
from cxrgaze_ray.training.ranks import World
from cxrgaze_ray.training.recipes import RECIPES
from cxrgaze_ray.training.stages import Batch, StageModule
from tests.rows import feed_of, make_rows
from tests.unit.training.test_training import settings, train

ROWS = make_rows(5)


class Counted:
    """Computes the mean and the spread of images, and counts them."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.rows, self._dtype = 0, dtype

    def __call__(self, batch: Batch) -> Tensor:
        self.rows += len(batch.label_B)
        means_B = batch.image_BCHW.mean(dim=(1, 2, 3))
        return torch.stack([means_B, means_B * 2], dim=1).to(self._dtype)[:, None]


def cached(cache: FeatureCache, make: Counted, **options: Any) -> Features | None:
    values: Any = {"of": ("weights",), "batch": 2, "size": (32, 32)} | options
    return cache.features(feed_of(ROWS), make, **values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_another_start_computes_nothing_again_unless_what_it_depends_on_changed(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    cache, make = FeatureCache(LocalStore(str(tmp_path))), Counted(dtype)
    first = cached(cache, make)
    assert make.rows == 1 + 5, "one tells the shape"
    again = cached(FeatureCache(LocalStore(str(tmp_path))), make)
    assert make.rows == 6 + 1
    assert first is not None
    assert again is not None
    places = np.array([4, 0, 2])
    assert again.take(places).shape == (3, 1, 2)
    assert again.take(places).dtype == dtype
    assert torch.equal(first.take(places), again.take(places))
    expected = [float(batch.image_BCHW.mean()) for batch in feed_of(ROWS).part(0, 5, 1, (32, 32))]
    assert again.take(np.arange(5))[:, 0, 0].tolist() == pytest.approx(expected, rel=1e-2)
    cached(cache, make, of=("other weights",))
    assert make.rows == 7 + 6
    cache.clear()
    assert not list(LocalStore(str(tmp_path)).list(FOLDER))


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_block_is_computed_again(tmp_path: Path, damage: str) -> None:
    store, make = LocalStore(str(tmp_path)), Counted()
    first = cached(FeatureCache(store), make)
    (block,) = store.list(FOLDER)
    whole = store.get(block.key)
    store.put(block.key, whole[:-9] if damage == "cut" else whole[:-1] + bytes([whole[-1] ^ 1]))
    again = cached(FeatureCache(store), make)
    assert make.rows == 6 + 6
    assert first is not None
    assert again is not None
    assert torch.equal(first.take(np.arange(5)), again.take(np.arange(5)))
    assert store.get(block.key) == whole


def test_what_takes_long_is_told_and_requests_for_checkpoints_are_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "BLOCK_BYTES", 2 * 2 * 4)  # two rows
    monkeypatch.setattr(features, "_TELL_S", 0.0)
    told, heard = list[str](), list[int]()
    cached(FeatureCache(LocalStore(str(tmp_path)), told.append, lambda: heard.append(1)), Counted())
    assert [line.split(":")[1].split(",")[0] for line in told] == [" 33%", " 67%"]
    assert len(heard) == 3


def test_what_was_computed_of_a_phase_s_features_outlives_a_kill(tmp_path: Path) -> None:
    """A training that goes on after the phase before it is over has nothing of that one to clear up."""
    chosen, ends, there = settings("encoder", "classifier"), list[Checkpoint](), list[bool]()
    train(chosen, report=lambda _metrics, make, _ends: ends.append(make()))
    store = LocalStore(str(tmp_path))
    store.put(f"{FOLDER}of-the-classifier/block", b"-")

    def look(*_: object) -> None:
        there.append(store.exists(f"{FOLDER}of-the-classifier/block"))

    train(chosen, resume=ends[0], cache=FeatureCache(store), report=look)
    assert there == [True]
    assert not list(store.list(FOLDER))


def test_a_limit_and_a_full_disk_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    row = 2 * 4
    assert cached(FeatureCache(), Counted(), most_bytes=5 * row - 1) is None
    assert cached(FeatureCache(), Counted(), most_bytes=5 * row) is not None

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreUnavailable, match="features of 5 images do not fit") as told:
        cached(FeatureCache(), Counted())
    assert "TMPDIR" in told.value.hint


def test_features_that_are_removed_while_they_are_read_are_no_user_s_error(tmp_path: Path) -> None:
    """It meets one worker of many, and the others would wait for it."""

    class Cleared(LocalStore):
        def get(self, key: str) -> bytes:
            self.delete(key)
            return super().get(key)

    with pytest.raises(StoreUnavailable, match="removed while they were read"):
        cached(FeatureCache(Cleared(str(tmp_path))), Counted())


@pytest.mark.long
def test_the_workers_of_a_machine_share_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    network, told = build(PRESETS["tiny"], seed=1), list[str]()
    need = len(ROWS) * 4 * network.classifier.hidden.in_features
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4 * 2 * need))
    for here in (2, 3):
        feed = feed_of(ROWS, World(here=here))
        run_loop(network, feed, feed, settings("classifier"), LoopHooks(tell=told.append))
        assert len(told) == (2 if here == 3 else 0)


def test_the_digest_is_of_the_weights_that_do_not_learn() -> None:
    network = build(PRESETS["tiny"], seed=1)
    learning = StageModule(network, RECIPES["gazenet"].stages["classifier"], settings("classifier")).learning()
    before = digest(network, learning)
    with torch.no_grad():
        network.classifier.hidden.weight.add_(1)
    assert digest(network, learning) == before
    with torch.no_grad():
        network.densenet.features.conv0.weight.add_(1)
    assert digest(network, learning) != before


def test_a_phase_leaves_no_features_behind(tmp_path: Path) -> None:
    hooks, seen = LoopHooks(cache=FeatureCache(LocalStore(str(tmp_path)))), []

    def look(*_: object) -> None:
        seen.append(len(list(LocalStore(str(tmp_path)).list(FOLDER))))

    run_loop(
        build(PRESETS["tiny"], seed=1), feed_of(ROWS), feed_of(ROWS), settings("classifier"),
        LoopHooks(cache=hooks.cache, report=look),
    )  # fmt: skip
    assert seen == [1], "both splits are the same rows here"
    assert not list(LocalStore(str(tmp_path)).list(FOLDER))
