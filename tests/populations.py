"""Rows of a made-up hospital, as a scoring run would hold them: patients with many images, heavy tails, gaps."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.random import Generator

from cxrgaze_ray.gaze import saliency
from cxrgaze_ray.models.settings import BOTH, Answer
from cxrgaze_ray.radiograph.preprocess import fit
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.schemas import CLASSES, HEIGHT, MANIFEST, RESULT, WIDTH, status_of
from cxrgaze_ray.scoring.runs import SHARD_ROWS, Request, Run, RunSpec, ScoreOptions
from cxrgaze_ray.scoring.runs.contract import make_plan
from cxrgaze_ray.storage import LocalStore
from tests.answers import only

DEVICES = (
    ("Lumen Imaging", "LX-200", 12, "1.2.840.10008.1.2.1", 3056, 0.00),
    ("Lumen Imaging", "LX-410", 14, "1.2.840.10008.1.2.1", 2544, 0.03),
    ("Nordray", "Atlas DR", 12, "1.2.840.10008.1.2.4.90", 3056, -0.02),
    ("Ostia Medical", "CR-7", 10, "1.2.840.10008.1.2", 2022, 0.05),
    ("Rarely Seen", "One", 16, "1.2.840.10008.1.2.4.70", 2500, 0.10),
    (None, None, None, None, 1024, 0.00),
)
"""Manufacturer, model, bits, transfer syntax, rows, and how much brighter its images are."""

_SHARES = (0.3, 0.2, 0.2, 0.15, 0.01, 0.14)
_MAPS = 24
Rows = list[dict[str, Any]]


def population(
    patients: int,
    seed: int,
    *,
    site: float = 0.0,
    exposure: float = 0.0,
    inverted: float = 0.0,
    sick: float = 0.0,
    broken: float = 0.0,
    skill: float = 2.0,
) -> Rows:
    """Draw the images of some patients.

    Parameters
    ----------
    patients
        Each with one image or more: a few have dozens.
    site, inverted, sick, broken
        Share of patients from a new device, with pictures that look inverted, with pneumonia beyond the usual, and with
        files that are cut short.
    exposure
        How much brighter every image is, of full scale.
    skill
        How well the scores know the true class, in standard deviations.
    """
    rng = np.random.default_rng(seed)
    rows: Rows = []
    for number in range(patients):
        one = _Patient(rng, f"{seed}-{number}", site, exposure, inverted, sick, broken, skill)
        rows += [one.image(index) for index in range(min(40, 1 + rng.geometric(0.35) + int(rng.pareto(1.2))))]
    return rows


class _Patient:
    """What the images of one patient have in common."""

    def __init__(
        self,
        rng: Generator,
        name: str,
        site: float,
        exposure: float,
        inverted: float,
        sick: float,
        broken: float,
        skill: float,
    ) -> None:
        self.rng, self.name, self.skill = rng, name, skill
        self.device = DEVICES[rng.choice(len(DEVICES), p=_SHARES)]
        if rng.random() < site:
            self.device = ("Helio Systems", "H-9", 12, "1.2.840.10008.1.2.4.80", 2880, 0.04)
        self.brightness = 0.45 + self.device[5] + exposure + 0.05 * rng.standard_t(3)
        self.label = 2 if rng.random() < sick else int(rng.choice(3, p=(0.6, 0.25, 0.15)))
        self.inverted, self.broken = rng.random() < inverted, rng.random() < broken + 0.01
        self.sex = str(rng.choice(["F", "M"]))
        self.age = f"{10 * int(rng.integers(2, 9))}s"
        self.tendency = rng.normal(size=3)

    def image(self, index: int) -> dict[str, Any]:
        """Return a row: scored, a lateral, or broken."""
        rng, manufacturer = self.rng, self.device[0]
        row: dict[str, Any] = {
            "image_id": f"image-{self.name}-{index}", "subject_id": self.name, "study_id": f"study-{self.name}",
            "label": self.label,
        }  # fmt: skip
        reason = "truncated" if self.broken else "lateral_view" if rng.random() < 0.1 else None
        if reason:
            return row | {"status": str(status_of(reason)), "reason_code": reason, "detail": "Made up."}
        logits = self.tendency + rng.normal(size=3) + self.skill * np.eye(3)[self.label]
        chances = np.exp(logits) / np.exp(logits).sum()
        bright = self.brightness + 0.03 * rng.standard_t(3)
        return row | {
            "status": "scored",
            "prediction": CLASSES[int(chances.argmax())],
            **{f"p_{name}": float(chance) for name, chance in zip(CLASSES, chances, strict=True)},
            "view_position": None if rng.random() < 0.08 else str(rng.choice(["PA", "AP"], p=(0.6, 0.4))),
            "view_source": "unknown" if rng.random() < 0.05 else "tag",
            "photometric": None if manufacturer is None else "MONOCHROME2",
            "photometric_check": "disagrees" if self.inverted else "unsure" if rng.random() < 0.05 else "agrees",
            "manufacturer": manufacturer, "device_model": self.device[1], "bits_stored": self.device[2],
            "transfer_syntax": self.device[3], "rows": self.device[4], "columns": int(rng.choice([2022, 2544])),
            "sex": self.sex, "age_band": self.age,
            "intensity_p1": max(0.0, bright - 0.5), "intensity_p50": bright, "intensity_p99": min(1.0, bright + 0.45),
            "intensity_mean": bright + 0.02 * rng.normal(),
        }  # fmt: skip


@cache
def _maps() -> list[tuple[bytes, float]]:
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    rng = np.random.default_rng(7)
    found = []
    for _ in range(_MAPS):
        top, left, size = rng.normal(320, 60), rng.normal(256, 50), rng.uniform(40, 120)
        density = np.exp(-((y - top) ** 2 + (x - left) ** 2) / (2 * size**2)).astype(np.float32)
        found.append(saliency.encode(density / density.sum()))
    return found


def map_of(row: dict[str, Any]) -> int:
    """Return which of the maps an image has: patients have theirs."""
    return sum(str(row["subject_id"]).encode()) % _MAPS


def make_run(
    folder: Path | str,
    rows: Rows,
    *,
    name: str = "run",
    at: str = "2026-01-01T00:00:00.000000+00:00",
    weights: str = "ab" * 32,
    profile: str = "cxrgaze-v1",
    layout: str = "mimic-cxr",
    archive: str = "/archive",
    trained: bool = True,
    predicts: tuple[Answer, ...] = BOTH,
    finish: bool = True,
    change: Callable[[dict[str, Any]], dict[str, Any]] = lambda row: row,
) -> Run:
    """Write rows as a run at FOLDER/NAME."""
    table = pa.Table.from_pylist([{**row, "uri": f"/files/{row['image_id']}"} for row in rows], schema=MANIFEST)
    plan = make_plan(table)
    shards = -(-len(rows) // SHARD_ROWS)
    spec = RunSpec(
        run_id=name, request=Request(archive=archive, model="m@champion", engine="auto", options=ScoreOptions()),
        model=ModelPin(uri="/r", name="m", version="v0001", weights_sha256=weights, trained=trained),
        predicts=predicts, profile=profile, engine="cpu-float32", layout=layout, identities="keep",
        manifest_sha256="ff", plan_sha256="ff", rows=len(rows), shards=shards, code_version="0.1.0", created_at=at,
    )  # fmt: skip
    run = Run.create(LocalStore(str(Path(folder) / name)), spec, plan)
    for shard in range(shards):
        part = rows[shard * SHARD_ROWS : (shard + 1) * SHARD_ROWS]
        full = [only(predicts, change(_result(row, shard, position))) for position, row in enumerate(part)]
        run.commit(shard, pa.Table.from_pylist(full, schema=RESULT))
    if finish:
        run.finish(1.0, len(rows), at)
    return run


def _result(row: dict[str, Any], shard: int, position: int) -> dict[str, Any]:
    result = {**row, "shard": shard, "position": position, "repeated_id": False}
    del result["label"]
    if row["status"] != "scored":
        return result
    png, peak = _maps()[map_of(row)]
    return result | {"saliency_png": png, "saliency_peak": peak, "affine": vars(fit(2544, 2022))}
