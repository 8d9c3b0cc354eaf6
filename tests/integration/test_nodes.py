"""A cluster of three nodes: the job spreads over them, and survives the loss of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cxrgaze_ray.scoring.driver import Outcome
from cxrgaze_ray.scoring.runs import Run, verify_run
from cxrgaze_ray.storage import open_store
from tests.integration.scored import rows

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Spread:
    """What came of a job on three nodes.

    Attributes
    ----------
    run
        As it stands in the end.
    chunks
        Decoded chunks of each node.
    lost
        Classes of the actors that ran on the node that was lost, by its id; none if no node was.
    """

    run: Run
    chunks: dict[str, int]
    lost: dict[str, list[str]]


def score_on_three_nodes(archive: str, registry: str, folder: Path, *, lose: bool) -> Spread:
    """Score in a process of its own: the tests' own cluster has one node."""
    notes = folder / "notes"
    notes.mkdir()
    arguments = [archive, registry, str(folder / "out"), str(notes), "yes" if lose else "no"]
    command = [sys.executable, "-m", "tests.integration.three_nodes", *arguments]
    environment = os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=580, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    chunks = {note.name: note.stat().st_size for note in notes.iterdir()}
    return Spread(Run.open(open_store(result["run"])), chunks, result["lost"])


@pytest.mark.long
@pytest.mark.parametrize("lose", [False, True])
def test_a_job_spreads_over_nodes_and_outlives_one(
    lose: bool, whole: Outcome, large_archive: str, published: str, tmp_path: Path
) -> None:
    found = score_on_three_nodes(large_archive, published, tmp_path, lose=lose)
    assert len(found.chunks) == 3, "every node decoded"
    assert sum(found.chunks.values()) >= whole.run.spec.rows / whole.run.spec.chunk_rows
    assert len(found.lost) == int(lose)
    for node, classes in found.lost.items():
        assert found.chunks[node]
        assert any("Noted" in name or name.endswith("Model") for name in classes), classes
    assert found.run.spec.engine == whole.run.spec.engine
    assert not verify_run(found.run)
    assert rows(found.run).equals(rows(whole.run))


@pytest.mark.long
def test_work_that_was_promised_gpus_waits_for_them_and_asks_for_no_more_once_it_has_them() -> None:
    command = [sys.executable, "-m", "tests.integration.late_gpus"]
    environment = os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["said"].startswith("The cluster has 0 of the 2 GPUs that were asked for, after 1 s.")
    assert (found["gpus"], found["asked"]) == (2, ["REMOVED"])
