"""Files that take the decoder's process down, in a run and over HTTP: their row or answer, and nobody else's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

from cxrgaze_ray.phantoms import PhantomReport
from cxrgaze_ray.scoring.driver import ScoreSettings, score_archive
from cxrgaze_ray.scoring.runs import Request, ScoreOptions, verify_run
from cxrgaze_ray.serving import ServeFile
from tests.dicom_files import gradient, make_dicom
from tests.integration.breaking.sitecustomize import ABORT, HANG, SEGFAULT
from tests.integration.conftest import same_cluster


def planted(mark: str) -> bytes:
    """Return a sound file that breaks the decoding process of these tests."""
    return make_dicom(gradient(60, 50), ImageComments=mark)


@pytest.fixture
def client(application: ServeFile) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=application.url, timeout=60) as client:
        yield client


@pytest.fixture
def archive(phantoms: tuple[str, PhantomReport], tmp_path: Path) -> Path:
    """Return a folder of one sound film under many names, with killers between them, and what is no file."""
    folder = tmp_path / "archive"
    folder.mkdir()
    bad = {Path(phantoms[0], fault.path) for fault in phantoms[1].planted}
    film = next(path for path in sorted(Path(phantoms[0], "files").rglob("*.dcm")) if path not in bad)
    for number in range(12):
        shutil.copyfile(film, folder / f"{number:02d}-film.dcm")
    for number, mark in ((3, ABORT), (4, SEGFAULT), (8, ABORT), (11, SEGFAULT)):
        (folder / f"{number:02d}-killer.dcm").write_bytes(planted(mark))
    os.mkfifo(folder / "12-pipe.dcm")
    (folder / "13-gone.dcm").symlink_to("nowhere.dcm")
    (folder / "14-out.dcm").symlink_to(film)
    shutil.copyfile(film, folder / os.fsdecode(b"15-M\xfcller.dcm"))
    return folder


def test_a_killer_gets_its_row_and_the_images_beside_it_are_scored(
    application: ServeFile, archive: Path, published: str, tmp_path: Path
) -> None:
    asked = Request(archive=str(archive), model="cxrgaze@champion", engine="float32", options=ScoreOptions(view="all"))
    settings = ScoreSettings(decoders=2)
    outcome = score_archive(asked, str(tmp_path / "out"), published, same_cluster, settings=settings)
    table = pa.concat_tables(outcome.run.read_shard(shard) for shard in range(outcome.run.spec.shards))
    rows = table.select(["position", "status", "reason_code", "p_normal", "p_pneumonia"]).to_pylist()
    killers = {place for place, path in enumerate(sorted(archive.iterdir())) if "killer" in path.name}
    assert outcome.success.counts == {"scored": 13, "failed": 7}
    assert [row["position"] for row in rows] == list(range(20))
    assert {row["position"]: row["reason_code"] for row in rows if row["reason_code"]} == {
        **dict.fromkeys(killers, "decoder_crash"), 16: "not_an_image", 17: "missing", 18: "link_outside",
    }  # fmt: skip
    assert verify_run(outcome.run) == []
    assert len({(row["p_normal"], row["p_pneumonia"]) for row in rows if row["status"] == "scored"}) == 1


@pytest.mark.parametrize(
    ("mark", "reason"), [(ABORT, "decoder_crash"), (SEGFAULT, "decoder_crash"), (HANG, "decode_timeout")]
)
def test_the_application_answers_after_a_body_that_kills_its_decoder(
    client: httpx.Client, mark: str, reason: str
) -> None:
    answer = client.post("/v1/predict", content=planted(mark))
    assert (answer.status_code, answer.json()["reason"]) == (422, reason)
    for body in (make_dicom(gradient(60, 50)), planted("harmless")):
        assert client.post("/v1/predict", content=body).status_code == 200
