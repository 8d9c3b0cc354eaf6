"""Write a whole phantom archive: radiographs in the MIMIC-CXR layout, and EGD-CXR's tables beside them."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.phantoms.anatomy import draw
from cxrgaze_ray.phantoms.drift import Drift, Shot, drifted, drifted_label
from cxrgaze_ray.phantoms.faults import FAULTS
from cxrgaze_ray.phantoms.files import Identity, choose_recipe, encode
from cxrgaze_ray.phantoms.scanpath import look
from cxrgaze_ray.phantoms.tables import calibration_rows, csv_bytes, fixation_table, gaze_table, master_row
from cxrgaze_ray.schemas import CLASSES
from cxrgaze_ray.storage import Store

GAZE_FOLDER = "egd-cxr"
"""Where an archive's gaze tables lie."""

NO_DRIFT = Drift()

_FAULT_ROWS, _FAULT_COLUMNS = 480, 400
_DICOM_ID = (8, 8, 8, 8, 8)


@dataclass(frozen=True)
class Planted:
    """A broken file: its kind, where it lies, and the reason code that its row must get."""

    kind: str
    image_id: str
    path: str
    reason: str


@dataclass(frozen=True)
class PhantomReport:
    """What was written.

    Attributes
    ----------
    counts
        images, faults, patients, studies, and sound images a class.
    planted
        The broken files.
    """

    counts: dict[str, int]
    planted: tuple[Planted, ...]


@dataclass(frozen=True)
class _Slot:
    """One image to draw: everything about it but its pixels."""

    number: int
    identity: Identity
    label: int


@dataclass(frozen=True)
class _Drawn:
    path: str
    master: dict[str, object]
    gaze: pa.Table
    fixations: pa.Table


def make_archive(
    store: Store,
    *,
    images: int,
    seed: int = 0,
    faults: int = 0,
    drift: Drift = NO_DRIFT,
    height: tuple[int, int] = (880, 1240),
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> PhantomReport:
    """Draw and write an archive; the same arguments write the same bytes, another seed other patients.

    Parameters
    ----------
    store
        Empty: an archive is never written over something.
    images
        Sound radiographs; without drift, of all classes in equal parts by study.
    faults
        Broken files of each kind.
    drift
        What differs from other archives; it moves no patient, and no broken file.
    height
        Least and most rows of an image.
    on_progress
        Called with images done and images in all.

    Raises
    ------
    UserError
        If something is there already.
    """
    if store.exists("phantoms.json") or store.exists("cxr-record-list.csv.gz"):
        raise UserError(f"An archive is at {store.uri} already.", "Name an empty folder.")
    slots = list(_slots(seed, images, drift))
    drawn = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for done, one in enumerate(pool.map(lambda slot: _draw(store, slot, seed, drift, height), slots), 1):
                drawn.append(one)
                on_progress(done, images)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # who asks to stop does not wait for all that is queued
            raise
    planted = _plant(store, seed, faults)
    _write_tables(store, drawn)
    paths = [(slot.identity, one.path) for slot, one in zip(slots, drawn, strict=True)]
    paths += [(identity, fault.path) for identity, fault in planted]
    _write_record_list(store, paths)
    report = PhantomReport(_counts(slots, len(planted)), tuple(fault for _, fault in planted))
    about = {"seed": seed, "drift": drift.model_dump(), "counts": report.counts}
    note = about | {"planted": [asdict(fault) for fault in report.planted]}
    store.put("phantoms.json", json.dumps(note, indent=2).encode())
    return report


def _slots(seed: int, images: int, drift: Drift) -> Iterator[_Slot]:
    """Deal images out to studies and patients: some have two."""
    rng = np.random.default_rng([seed, 0])
    number = patient = study = 0
    while number < images:
        sex, age = str(rng.choice(["F", "M"])), int(rng.integers(24, 91))
        for _ in range(1 + int(rng.random() < 0.25)):
            label = drifted_label(study % len(CLASSES), drift, np.random.default_rng([seed, 3, study]))
            for _ in range(1 + int(rng.random() < 0.15)):
                if number < images:
                    identity = _identity(f"{seed}", patient, study, number, sex, age)
                    yield _Slot(number, identity, label)
                number += 1
            study += 1
        patient += 1


def _identity(seed: str, patient: int, study: int, number: int, sex: str, age: int) -> Identity:
    digest = hashlib.sha256(f"image:{seed}:{number}".encode()).hexdigest()
    starts = np.cumsum((0, *_DICOM_ID))
    image_id = "-".join(digest[start : start + size] for start, size in zip(starts, _DICOM_ID, strict=False))
    return Identity(image_id, _number("patient", seed, patient, 1), _number("study", seed, study, 5), sex, age)


def _number(kind: str, seed: str, index: int, lead: int) -> str:
    """Return an eight-digit number as MIMIC's are, the first digit given."""
    digest = hashlib.sha256(f"{kind}:{seed}:{index}".encode()).digest()
    return f"{lead}{int.from_bytes(digest[:8], 'big') % 10**7:07d}"


def _path(identity: Identity, extension: str) -> str:
    subject = f"p{identity.subject}"
    return f"files/{subject[:3]}/{subject}/s{identity.study}/{identity.image_id}.{extension}"


def _draw(store: Store, slot: _Slot, seed: int, drift: Drift, height: tuple[int, int]) -> _Drawn:
    rng = np.random.default_rng([seed, 1, slot.number])
    view = "AP" if rng.random() < 0.35 else "PA"
    rows = int(rng.integers(height[0], height[1] + 1))
    columns = int(rows * rng.uniform(0.80, 1.02))
    shot = Shot(view, rows, columns, choose_recipe(rng, view))
    shot = drifted(shot, drift, np.random.default_rng([seed, 4, slot.number]), height)
    phantom = draw(rng, slot.label, shot.rows, shot.columns, technique=shot.technique, view=shot.view)
    path = _path(slot.identity, "jpg" if shot.recipe.format == "jpeg" else "dcm")
    store.put(path, encode(phantom.image, shot.recipe, slot.identity))
    gaze, one = look(phantom, rng), slot.identity
    master = master_row(one.image_id, one.subject, one.study, slot.label, path, one.sex, one.age)
    arguments = (one.image_id, gaze, (shot.rows, shot.columns), slot.number)
    return _Drawn(path, master, gaze_table(*arguments), fixation_table(*arguments))


def _plant(store: Store, seed: int, faults: int) -> list[tuple[Identity, Planted]]:
    planted: list[tuple[Identity, Planted]] = []
    for kind, fault in FAULTS.items():
        for index in range(faults):
            number = len(planted)
            rng = np.random.default_rng([seed, 2, number])
            identity = _identity(f"fault:{seed}", number, number, number, "O", 50)
            image = draw(rng, index % len(CLASSES), _FAULT_ROWS, _FAULT_COLUMNS).image
            path = _path(identity, fault.extension)
            data = fault.make(image, identity, rng)
            if data is not None:
                store.put(path, data)
            planted.append((identity, Planted(kind, identity.image_id, path, str(fault.reason))))
    return planted


def _write_tables(store: Store, drawn: list[_Drawn]) -> None:
    gaze = pa.concat_tables([calibration_rows(drawn[0].gaze), *(one.gaze for one in drawn)])
    store.put(f"{GAZE_FOLDER}/eye_gaze.csv", csv_bytes(gaze))
    store.put(f"{GAZE_FOLDER}/fixations.csv", csv_bytes(pa.concat_tables([one.fixations for one in drawn])))
    store.put(f"{GAZE_FOLDER}/master_sheet.csv", csv_bytes(pa.Table.from_pylist([one.master for one in drawn])))


def _write_record_list(store: Store, paths: list[tuple[Identity, str]]) -> None:
    lines = ["subject_id,study_id,dicom_id,path"]
    lines += [f"{one.subject},{one.study},{one.image_id},{path}" for one, path in sorted(paths, key=lambda p: p[1])]
    text = "\n".join([*lines, ""]).encode()
    store.put("cxr-record-list.csv.gz", gzip.compress(text, mtime=0))  # the same text gives the same bytes


def _counts(slots: list[_Slot], faults: int) -> dict[str, int]:
    return {
        "images": len(slots),
        "faults": faults,
        "patients": len({slot.identity.subject for slot in slots}),
        "studies": len({slot.identity.study for slot in slots}),
        **{name: sum(slot.label == index for slot in slots) for index, name in enumerate(CLASSES)},
    }
