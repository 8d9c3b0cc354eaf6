"""Canaries planted wherever a hospital keeps names, looked for wherever a program leaves traces."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx
import numpy as np
import pyarrow.parquet as pq
import ray
from PIL import Image
from pydicom import Dataset
from pydicom.uid import MPEG2MPML

from cxrgaze_ray.archive.identities import open_key
from cxrgaze_ray.cluster.connection import Cluster
from cxrgaze_ray.scoring.driver import ScoreSettings, score_archive
from cxrgaze_ray.scoring.runs import Request, ScoreOptions
from cxrgaze_ray.serving import ServeFile
from tests.dicom_files import dicom_bytes, dicom_dataset, gradient
from tests.integration.conftest import same_cluster

NAME, PATIENT, BORN, ACCESSION = "QUENTIN-CANARY", "MRN-774411", "19470613", "ACC-901255"
STUDY, PRIVATE, FOLDER, FILE, COMMENT = "1.2.826.0.31415926", "PRIV-CANARY", "WARD-CANARY", "FILE-CANARY", "SAID-CANARY"
CANARIES = (NAME, PATIENT, BORN, ACCESSION, STUDY, PRIVATE, FOLDER, FILE, COMMENT)

TAGS = {
    "PatientName": NAME,
    "PatientID": PATIENT,
    "PatientBirthDate": BORN,
    "AccessionNumber": ACCESSION,
    "StudyInstanceUID": STUDY,
    "StudyDate": BORN,
    "InstitutionName": NAME,
    "ReferringPhysicianName": NAME,
    "StudyDescription": COMMENT,
    "SeriesDescription": COMMENT,
    "ImageComments": COMMENT,
    "PatientAge": NAME,
    "PatientSex": PATIENT,
}


def dataset(**tags: Any) -> Dataset:
    made = dicom_dataset(gradient(160, 128), **(TAGS | tags))
    made.private_block(0x0011, PRIVATE, create=True).add_new(1, "LO", PRIVATE)
    return made


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray((gradient(160, 128) >> 4).astype(np.uint8)).save(file, "JPEG", comment=COMMENT.encode())
    return file.getvalue()


def plant(root: Path) -> int:
    """Write sound and broken files whose tags and names are canaries; return how many."""
    folder = root / f"{FOLDER}_{NAME}"
    folder.mkdir(parents=True)
    sound = dicom_bytes(dataset())
    video = dataset()
    video.file_meta.TransferSyntaxUID = MPEG2MPML
    files = {
        "sound.dcm": sound,
        "second": dicom_bytes(dataset(PhotometricInterpretation="MONOCHROME1")),
        "truncated.dcm": sound[: len(sound) // 2],
        "lateral.dcm": dicom_bytes(dataset(ViewPosition="LL")),
        "odd_view.dcm": dicom_bytes(dataset(ViewPosition=NAME)),
        "odd_slope.dcm": dicom_bytes(dataset(RescaleSlope=None, Rows=None)),
        "text.dcm": f"{NAME} {PATIENT}".encode() * 20,
        "empty.dcm": b"",
        "picture.jpg": jpeg(),
    }
    for name, data in files.items():
        (folder / f"{FILE}_{PATIENT}_{name}").write_bytes(data)
    return len(files)


def command(*arguments: str) -> str:
    """Run a command as a user would; return all that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "cxrgaze_ray", *arguments],
        capture_output=True,
        text=True,
        env=os.environ,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


def texts(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the place and the text of every file; tables are read, because Parquet is compressed."""
    for path in sorted(folder.rglob("*")):
        yield f"name of {path.name}", str(path.relative_to(folder))
        if path.name == "plan.parquet" or path.parent.name == "plan":  # the one place where URIs stand
            continue
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            for name in table.column_names:
                yield f"{path.name}:{name}", f"{name} {table[name].to_pylist()}"
        elif path.is_file():
            yield path.name, path.read_bytes().decode("latin-1")


def metrics() -> str:
    addresses = [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in ray.nodes()]  # type: ignore[no-untyped-call]
    return "".join(urlopen(f"http://{address}/metrics", timeout=10).read().decode() for address in addresses)


def test_nothing_of_a_patient_leaves_the_pixels(
    cluster: Cluster, application: ServeFile, published: str, tmp_path: Path
) -> None:
    archive, key, out, store = (tmp_path / name for name in ("archive", "secret.key", "out", "store"))
    files = plant(archive)
    identity = ["--pseudonymise", str(key)]
    on_ray = ["--address", cluster.address]
    found: dict[str, str] = {}
    found["list"] = command("archive", "list", str(archive), "--json", *identity)
    found["score"] = command(
        "score", str(archive), "--out", str(out), "--registry", published, *identity, *on_ray, "--engine", "float32"
    )
    found["ingest"] = command(
        "ingest", str(archive), "--out", str(store), "--keep", "all", "--split-by", "image", *identity, *on_ray
    )
    (run,) = out.iterdir()
    found["report"] = command("runs", "report", str(run), "--out", str(tmp_path / "report" / "report.html"))
    found["look"] = command("archive", "look", str(archive), "--out", str(tmp_path / "report" / "look.png"))
    with httpx.Client(base_url=application.url, timeout=60) as client:
        for path in sorted(archive.rglob("*")):
            if path.is_file():
                answer = client.post("/v1/predict", content=path.read_bytes())
                found[f"HTTP {path.suffix} {len(found)}"] = f"{answer.headers} {answer.text}"
    found["metrics"] = metrics()
    logs = Path(ray._private.worker._global_node.get_session_dir_path(), "logs")  # type: ignore[attr-defined]
    for folder in (out, store, tmp_path / "report", logs):
        found |= {f"{folder.name}/{place}": text for place, text in texts(folder)}

    secret = open_key(key)
    assert secret.key is not None
    for place, text in found.items():
        for canary in (*CANARIES, secret.key.hex()):
            assert canary not in text, f"{canary} in {place}"
    assert len(found) > 40, "logs and outputs were not looked at"

    # the searched rows are real: all are there, and the patient is one, by keyed hash
    summary = pq.read_table(run / "summary.parquet").to_pylist()
    assert len(summary) == files
    assert {row["subject_id"] for row in summary if row["status"] == "scored"} == {secret.of("patient", PATIENT), None}
    assert json.loads((run / "run.json").read_text())["identities"] == secret.name
    rows = [row for path in (store / "shards").iterdir() for row in pq.read_table(path).to_pylist()]
    assert secret.of("patient", PATIENT) in {row["subject_id"] for row in rows}


def test_the_search_would_find_a_canary(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"decoding {NAME}")
    assert any(NAME in text for _, text in texts(tmp_path))


def test_keeping_identities_is_a_choice(application: ServeFile, published: str, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    (archive / "one.dcm").write_bytes(dicom_bytes(dataset()))
    options = ScoreOptions(identities="keep")
    request = Request(archive=str(archive), model="cxrgaze@champion", engine="float32", options=options)
    outcome = score_archive(request, str(tmp_path / "out"), published, same_cluster, settings=ScoreSettings(decoders=1))
    assert outcome.run.summary()["subject_id"].to_pylist() == [PATIENT]
