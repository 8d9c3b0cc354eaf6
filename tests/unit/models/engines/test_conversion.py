"""Converted models in the cache: found again, never stale, private, bounded; and nobody is told of them."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cxrgaze_ray.models.engines import conversion
from cxrgaze_ray.models.engines.conversion import read_or_convert
from cxrgaze_ray.models.engines.engine import EXACT_CPU
from cxrgaze_ray.models.engines.openvino_cpu import OpenVinoForward
from cxrgaze_ray.models.network import Network
from cxrgaze_ray.models.settings import architecture
from cxrgaze_ray.models.zoo import build


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("CXRGAZE_CACHE", str(tmp_path))
    return tmp_path / "openvino"


def network(seed: int = 1) -> Network:
    return build(architecture("unet-s", "tiny"), seed).eval()


def answer(of: Network, weights: str) -> torch.Tensor:
    image_B1HW = torch.rand(1, 1, *of.config.input_size, generator=torch.Generator().manual_seed(0))
    found = OpenVinoForward(of, EXACT_CPU, 1, weights)(image_B1HW, None).log_saliency_B1HW
    assert found is not None
    return found


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the batch of each conversion that is made."""
    made: list[int] = []
    convert = conversion.convert

    def recorded(of: Network, batch: int) -> conversion.Converted:
        made.append(batch)
        return convert(of, batch)

    monkeypatch.setattr(conversion, "convert", recorded)
    return made


def test_a_later_start_converts_nothing_and_answers_alike(conversions: list[int]) -> None:
    first, later = answer(network(), "a"), answer(network(), "a")
    assert conversions == [1]
    assert torch.equal(first, later)


@pytest.mark.long
def test_other_weights_settings_or_batches_are_converted_anew(conversions: list[int]) -> None:
    first = answer(network(), "a")
    other = answer(network(2), "b")
    assert not torch.equal(first, other)
    read_or_convert(network(), 2, "a")
    read_or_convert(build(architecture("unet-s", "tiny", {"batch_norm": True}), 1).eval(), 1, "a")
    assert conversions == [1, 1, 2, 1]


def test_another_version_of_torch_or_openvino_converts_anew(
    conversions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_or_convert(network(), 1, "a")
    monkeypatch.setattr("openvino.get_version", lambda: "other")
    read_or_convert(network(), 1, "a")
    assert conversions == [1, 1]


def test_a_torn_file_is_made_anew_with_a_word(
    cache: Path, conversions: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    expected = answer(network(), "a")
    (graph,) = cache.glob("*/decode.xml")
    graph.write_text(graph.read_text()[:100])
    with caplog.at_level(logging.WARNING):
        found = answer(network(), "a")
    assert torch.equal(found, expected)
    assert conversions == [1, 1]
    assert "made anew" in caplog.text
    assert str(cache) not in caplog.text


def test_a_cache_that_cannot_be_written_costs_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = answer(network(), "a")
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("CXRGAZE_CACHE", str(blocked))
    with caplog.at_level(logging.WARNING):
        assert torch.equal(answer(network(), "a"), expected)
    assert "cannot be kept" in caplog.text


def test_two_that_convert_at_once_do_not_hinder_each_other(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep: Any = conversion._keep

    def second_first(converted: conversion.Converted, folder: Path) -> None:
        keep(converted, folder)
        keep(converted, folder)

    monkeypatch.setattr(conversion, "_keep", second_first)
    read_or_convert(network(), 1, "a")
    assert len(list(cache.iterdir())) == 1


def test_the_cache_is_private_and_bounded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "_KEPT", 2)
    abandoned = cache / "making-abandoned"
    abandoned.mkdir(parents=True)
    os.utime(abandoned, (0, 0))
    for weights in "abc":
        read_or_convert(network(), 1, weights)
    assert len(list(cache.iterdir())) == 2
    assert all(not stat.S_IMODE(path.stat().st_mode) & 0o077 for path in cache.iterdir())


def test_nothing_is_reported_to_anybody(tmp_path: Path) -> None:
    """OpenVINO's own converter sends its use to an analytics service, and leaves an id in the home folder for it."""
    program = """
import socket
def refuse(*_): raise SystemExit("a connection was opened")
socket.socket.connect = refuse
from cxrgaze_ray.models.engines.conversion import convert
from cxrgaze_ray.models.settings import architecture
from cxrgaze_ray.models.zoo import build
convert(build(architecture("unet-s", "tiny")).eval(), 1)
import time; time.sleep(0.5)
"""
    outcome = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"HOME": str(tmp_path)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    assert not (tmp_path / "intel").exists()


@pytest.mark.long
def test_signals_are_answered_after_models_came_and_went(tmp_path: Path) -> None:
    """OpenVINO's CPU plugin puts a stack for signal handlers in force: a freed one would be the process's end."""
    program = """
import gc, signal
from cxrgaze_ray.models.engines.engine import EXACT_CPU
from cxrgaze_ray.models.engines.openvino_cpu import OpenVinoForward
from cxrgaze_ray.models.settings import architecture
from cxrgaze_ray.models.zoo import build
made = [OpenVinoForward(build(architecture("dnet201", "tiny"), n).eval(), EXACT_CPU, 1, str(n)) for n in range(2)]
while made:
    del made[0]
    gc.collect()
heard = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: heard.append(number))
    signal.raise_signal(number)
assert len(heard) == 2
print("alive")
"""
    environment = os.environ | {"CXRGAZE_CACHE": str(tmp_path)}
    outcome = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert outcome.stdout == "alive\n", outcome


@pytest.mark.parametrize("harm", ["another bit", "a file gone", "all gone"])
def test_files_that_are_not_those_that_were_kept_are_made_anew(
    cache: Path, conversions: list[int], caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    """OpenVINO reads any weights of the right size, and a step without a file would be one that does nothing."""
    expected = answer(network(), "a")
    (weights,) = cache.glob("*/decode.bin")
    if harm == "another bit":
        data = bytearray(weights.read_bytes())
        data[len(data) // 2] ^= 0x40
        weights.write_bytes(data)
    for path in {"another bit": [], "a file gone": [weights.with_suffix(".xml")]}.get(harm, weights.parent.iterdir()):
        path.unlink()
    assert torch.equal(answer(network(), "a"), expected)
    assert conversions == [1, 1]
    assert "made anew" in caplog.text


def test_a_user_without_a_home_has_the_engine_all_the_same(
    monkeypatch: pytest.MonkeyPatch, conversions: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    expected = answer(network(), "a")

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("CXRGAZE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    assert torch.equal(answer(network(), "a"), expected)
    assert conversions == [1, 1]
    assert "CXRGAZE_CACHE" in caplog.text


@pytest.mark.parametrize(("named", "where"), [("~/kept", "home/kept"), ("kept", "work/kept")])
def test_the_folder_is_the_one_that_a_shell_would_mean(
    named: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("home", "work"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("CXRGAZE_CACHE", named)
    assert conversion._cache_root() == tmp_path / where / "openvino"
