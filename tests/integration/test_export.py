"""An export goes to S3 as it goes to a folder, and Ray Data reads a run as the docs say."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from cxrgaze_ray.cluster.connection import Cluster
from cxrgaze_ray.export import KINDS, export_run
from cxrgaze_ray.storage import LocalStore, open_store
from tests.dicom_files import gradient, make_dicom
from tests.pages import DOCS, blocks
from tests.unit.export.test_export import UIDS, make_scored


@pytest.mark.long
def test_s3_holds_what_a_folder_would(s3: str, tmp_path: Path) -> None:
    run = make_scored(tmp_path, {f"{name}.dcm": make_dicom(gradient(), **UIDS) for name in "ab"})
    folder, bucket = LocalStore(str(tmp_path / "out")), open_store(f"{s3}/out")
    for kind in KINDS:
        assert export_run(run, kind, bucket) == export_run(run, kind, folder)
    names = [info.key for info in folder.list()]
    assert [info.key for info in bucket.list()] == names
    assert all(bucket.get(name) == folder.get(name) for name in names)


@pytest.mark.long
def test_ray_data_reads_a_run_in_one_line(cluster: Cluster, tmp_path: Path) -> None:
    make_scored(tmp_path, {"a.dcm": make_dicom(gradient()), "b.dcm": make_dicom(gradient())})
    (told,) = [one for one in blocks(DOCS / "how-to" / "results.md", "python") if one.startswith("ray.")]
    counted = eval(told.replace("RUN", f"{tmp_path}/run"), {"ray": ray})
    assert counted == [{"prediction": "pneumonia", "count()": 2}]
