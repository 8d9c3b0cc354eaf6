"""How listing an archive grows in time and memory: made archives, each listed by a process of its own."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from cxrgaze_ray.benchmark.processes import measure_apart
from cxrgaze_ray.schemas import FINDINGS

SIZES = (1_000, 10_000, 100_000, 377_110, 1_000_000)
"""Entries; MIMIC-CXR has 377,110."""

_CHILD = """
import json, resource, sys, time
from pathlib import Path
from cxrgaze_ray.archive.manifest import list_archive
started = time.perf_counter()
manifest = list_archive(sys.argv[1])
digest = manifest.sha256()
seconds = time.perf_counter() - started
status = Path("/proc/self/status")
if status.exists():  # the resource count of a child starts at its parent's peak
    peak = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"rows": manifest.table.num_rows, "layout": manifest.layout, "seconds": seconds, "peak_bytes": peak}))
"""
_FOLDER_FILES = 1000


@dataclass(frozen=True)
class Listing:
    """One measurement.

    Attributes
    ----------
    kind
        records, tree, or given.
    rows, layout
        Size of the manifest.
    seconds
        Listing and hashing, without the start of the process.
    peak_bytes
        Largest resident size of the process, libraries included (about 100 MB).
    """

    kind: str
    rows: int
    layout: str
    seconds: float
    peak_bytes: int


def bench_listing(sizes: tuple[int, ...] = SIZES, trees: tuple[int, ...] = ()) -> Iterator[Listing]:
    """Measure record lists of the given sizes, then trees of as many small files."""
    for kind, entries, make in (
        *(("records", size, write_records) for size in sizes),
        *(("tree", size, write_tree) for size in trees),
    ):
        yield _made(kind, entries, make)


def _made(kind: str, entries: int, make: Callable[[Path, int], None]) -> Listing:
    with tempfile.TemporaryDirectory(prefix="cxrgaze-listing-") as folder:
        make(Path(folder), entries)
        return measure_listing(folder, kind)


def measure_listing(uri: str, kind: str = "given") -> Listing:
    """List an archive in a process of its own: see `measure_apart`."""
    return Listing(kind, **measure_apart("-c", _CHILD, uri))


def write_records(folder: Path, entries: int) -> None:
    """Write MIMIC-CXR's record list and MIMIC-CXR-JPG's metadata, split and CheXpert tables; no image."""
    numbers = np.arange(entries)
    image, subject, study = _identify(numbers)
    paths = [
        f"files/p{one[:2]}/p{one}/s{two}/{three}.dcm" for one, two, three in zip(subject, study, image, strict=True)
    ]
    ids = {"dicom_id": image, "subject_id": subject, "study_id": study}
    _write(folder, "cxr-record-list", {**ids, "path": paths})
    _write(folder, "mimic-cxr-2.0.0-metadata", {**ids, **_views(numbers)})
    _write(folder, "mimic-cxr-2.0.0-split", {**ids, "split": np.where(numbers % 100, "train", "test")})
    firsts = slice(None, None, 2)
    labels = {name.replace("_", " ").title(): _labels(numbers[firsts], at) for at, name in enumerate(FINDINGS)}
    studies = {"subject_id": subject[firsts], "study_id": study[firsts]}
    _write(folder, "mimic-cxr-2.0.0-chexpert", studies | labels)


def _identify(numbers: NDArray[np.int64]) -> tuple[list[str], list[str], list[str]]:
    """Deal images out: two a study, six a patient; ids look like hashes."""
    words = np.random.default_rng(0).integers(0, 2**32, (len(numbers), 5), dtype=np.uint32)
    image = ["-".join(f"{word:08x}" for word in row) for row in words.tolist()]
    subject = [f"{10_000_000 + number // 6}" for number in numbers.tolist()]
    return image, subject, [f"{50_000_000 + number // 2}" for number in numbers.tolist()]


def _views(numbers: NDArray[np.int64]) -> dict[str, object]:
    """Two thirds are frontal; one in 25 has no view position, and half of these say it in the procedure."""
    views = np.array(["PA", "AP", "LATERAL"], object)[numbers % 3]
    views[numbers % 25 == 0] = ""
    texts = np.where(numbers % 50, "CHEST (PORTABLE AP)", "CHEST (PA AND LAT)")
    return {"PerformedProcedureStepDescription": texts, "ViewPosition": views, "Rows": np.full(len(numbers), 3056)}


def _labels(numbers: NDArray[np.int64], place: int) -> list[str]:
    values = np.array(["", "1.0", "0.0", "-1.0", ""], object)[(numbers + place) % 5]
    return [str(one) for one in values]


def _write(folder: Path, name: str, columns: Mapping[str, object]) -> None:
    with gzip.open(folder / f"{name}.csv.gz", "wb", compresslevel=1) as file:
        pacsv.write_csv(pa.table(columns), file)


def write_tree(folder: Path, entries: int) -> None:
    """Write small files named like DICOM, a thousand a folder; half have no extension."""
    data = bytes(128) + b"DICM"
    for number in range(entries):
        place = folder / f"{number // _FOLDER_FILES:05d}"
        if number % _FOLDER_FILES == 0:
            place.mkdir()
        (place / (f"IM{number:07d}" if number % 2 else f"IM{number:07d}.dcm")).write_bytes(data)
