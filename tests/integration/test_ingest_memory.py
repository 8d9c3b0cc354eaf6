"""Memory of an ingest does not grow with the archive: the same peak over twenty times as many images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cxrgaze_ray.phantoms import make_archive
from cxrgaze_ray.storage import LocalStore

FEW, TIMES = 256, 20

SCRIPT = """
import json, sys
from cxrgaze_ray.cluster.connection import ClusterSettings, connect
from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.shards import IngestSettings, ingest

seen = []
with connect(ClusterSettings(num_cpus=4)):
    store = ingest(
        sys.argv[1], None, sys.argv[2],
        settings=IngestSettings(keep="all", split_by="image", shard_rows=32, chunk_rows=8),
        identities=Identities, workers=2,
        on_progress=lambda state: seen.append((state.worker_peak_mib, state.driver_peak_mib)),
    )
print(json.dumps({"images": store.info.counts["images"], "worker": seen[-1][0], "driver": seen[-1][1]}))
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("sources")
    make_archive(LocalStore(str(folder)), images=8, seed=3, height=(180, 220))
    return sorted(path for path in (folder / "files").rglob("*") if path.is_file())


def measure(sources: list[Path], images: int, folder: Path) -> dict[str, float]:
    """Ingest hard links to a few phantoms, in processes of its own; return the peaks in MiB."""
    archive = folder / "archive"
    archive.mkdir(parents=True)
    for index in range(images):
        source = sources[index % len(sources)]
        os.link(source, archive / f"{index:06d}{source.suffix}")
    command = [sys.executable, "-c", SCRIPT, str(archive), str(folder / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    assert result["images"] == images
    return result


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_twenty_times_as_many_images_take_no_more_memory(sources: list[Path], tmp_path: Path) -> None:
    few, many = (measure(sources, count, tmp_path / f"{count}") for count in (FEW, FEW * TIMES))
    print(f"peak MiB at {FEW} and {FEW * TIMES} images: {few} {many}")
    assert many["worker"] <= 1.15 * few["worker"]
    assert many["driver"] <= 1.15 * few["driver"]
