"""What is told of a training while it runs."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event

from cxrgaze_ray.cli import console
from cxrgaze_ray.cli.console import epoch_bar
from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.training.loop import LoopHooks, run_loop
from cxrgaze_ray.training.progress import EpochStep, Pace, check_event_files, event_files
from tests.rows import feed_of
from tests.unit.training.test_training import TRAIN, VALIDATION, settings


@pytest.mark.long
def test_every_step_says_where_the_training_is() -> None:
    chosen, steps = settings("encoder", epochs=2, batch=4), list[EpochStep]()
    run_loop(build(chosen.network), feed_of(TRAIN), feed_of(VALIDATION), chosen, LoopHooks(on_step=steps.append))
    before = [(0, "validation", images, 6) for images in (4, 6)]
    assert [(step.epoch, step.split, step.images, step.of) for step in steps] == before + [
        (epoch, split, images, of)
        for epoch in (1, 2)
        for split, of, taken in (("train", 9, (4, 8, 9)), ("validation", 6, (4, 6)))
        for images in taken
    ]
    assert {(step.stage, step.epochs) for step in steps} == {("encoder", 2)}
    assert all(step.rate > 0 for step in steps)


def events(folder: Path) -> list[Any]:
    """Read the only event file of a folder: length, its checksum, the event, its checksum."""
    (file,) = folder.iterdir()
    data, found = file.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


def test_losses_are_tensorboard_s_event_files(tmp_path: Path) -> None:
    metrics = {"stage": "saliency", "train_loss": 0.5, "validation_loss": 0.25, "images": 90, "seconds": 3.0}
    with event_files(str(tmp_path / "events")) as write:
        write(metrics | {"epoch": 1})
        write(metrics | {"epoch": 2, "train_loss": 0.375})
    told = [
        (event.step, one.tag, one.simple_value) for event in events(tmp_path / "events") for one in event.summary.value
    ]
    assert told[:3] == [
        (1, "saliency/train_loss", 0.5),
        (1, "saliency/validation_loss", 0.25),
        (1, "saliency/images_per_second", 30.0),
    ]
    assert told[3] == (2, "saliency/train_loss", 0.375)


@pytest.mark.parametrize("folder", ["file/events", "s3://bucket/events"])
def test_a_place_that_takes_no_event_files_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(ConfigError, match=f"Event files can't be written to {folder}"), event_files(folder):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "no folder is named after a bucket"


def test_a_place_for_event_files_is_tried_before_a_training_and_nothing_is_left(tmp_path: Path) -> None:
    check_event_files(str(tmp_path / "new" / "events"))
    assert list(tmp_path.iterdir()) == []
    for folder in ("/proc/events", "/dev/null/events"):
        with pytest.raises(ConfigError, match=f"Event files can't be written to {folder}"):
            check_event_files(folder)


def test_nothing_is_written_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with event_files(None) as write:
        write({})
    assert list(tmp_path.iterdir()) == []


AT = EpochStep("saliency", 3, 50, "train", 40, 100, 20.0)


@pytest.mark.parametrize(("terminal", "quiet"), [(True, False), (True, True), (False, False)])
def test_an_epoch_has_a_bar_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, terminal: bool, quiet: bool) -> None:
    file = io.StringIO()
    monkeypatch.setattr(console, "terminal", lambda: Console(file=file, force_terminal=terminal, width=120))
    with epoch_bar(quiet=quiet) as shown:
        shown.step(AT)
        if shown._progress is not None:
            shown._progress.refresh()
        shown.step(AT._replace(split="validation", images=100))
    told = file.getvalue()
    if not terminal or quiet:
        assert told == ""
        return
    assert "saliency epoch 3/50 train" in told
    assert "40/100" in told
    assert "20.0 images/s, 3 s left" in told
    assert "100/100" not in told.rpartition("left")[2]


def test_a_resumed_epoch_goes_on_counting() -> None:
    pace = Pace(9, 4, steps=1)
    assert (pace.images(1), pace.images(3)) == (4, 9)
    assert pace.rate(1) == 0
    assert pace.rate(2) > 0
