"""A split predicted by workers on a cluster: the same table to the byte, and faults that are told as what they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cxrgaze_ray.cluster.connection import Cluster
from cxrgaze_ray.errors import EXIT_ENVIRONMENT, BundleError, StoreDenied
from cxrgaze_ray.evaluation.answers import Answers, PoolSettings, table_of_bundle
from cxrgaze_ray.evaluation.maps import Negatives, Reference
from cxrgaze_ray.evaluation.reference import reference_of
from cxrgaze_ray.evaluation.table import EvaluationTable
from cxrgaze_ray.models.bundle import Bundle, make_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.shards import ShardUnion
from tests.fault_proxy import Fault, FaultProxy
from tests.integration.conftest import same_cluster
from tests.integration.test_faults import kill
from tests.labelled_store import write_store

pytestmark = pytest.mark.usefixtures("cluster")

STORES = 6
COUNTS = {"train": 1, "test": 4}


@pytest.fixture(scope="module")
def candidate() -> Bundle:
    """A bundle that was never published."""
    return make_bundle(build(PRESETS["tiny"], 3), "cxrgaze", trained=True)


@pytest.fixture(scope="module")
def union(tmp_path_factory: pytest.TempPathFactory) -> ShardUnion:
    return several(str(tmp_path_factory.mktemp("stores")))


@pytest.fixture(scope="module")
def expected(candidate: Bundle, union: ShardUnion) -> str:
    """Answers of the predictor in this process, a shard after the other."""
    answers = Answers(candidate, reference=reference_of(union, "test"))
    parts = [answers.part(number, rows).table for number, rows in enumerate(union.tables("test"))]
    return "".join(exact(EvaluationTable.from_table(part)) for part in parts)


def several(folder: str, stores: int = STORES) -> ShardUnion:
    return ShardUnion([write_store(f"{folder}/{number}", COUNTS, prefix=str(number)) for number in range(stores)])


def exact(table: EvaluationTable) -> str:
    """Return a table as text that tells every bit of it, with equal words for what is not a number."""
    return "".join(f"{row}\n" for row in table.to_table().to_pylist())


def once(happen: Callable[[], object]) -> Callable[[int, int], None]:
    """Let something happen as soon as an image is answered, once."""
    left = [happen]

    def watch(done: int, total: int) -> None:
        if 0 < done < total and left:
            left.pop()()

    return watch


@pytest.mark.long
def test_workers_make_the_table_that_the_predictor_makes(candidate: Bundle, union: ShardUnion, expected: str) -> None:
    seen: list[int] = []
    table = table_of_bundle(
        candidate,
        union,
        "test",
        connect=same_cluster,
        pool=PoolSettings(workers=2),
        on_progress=lambda done, _total: seen.append(done),
    )
    assert exact(table) == expected
    assert seen == [4 * done for done in range(STORES + 1)]


@pytest.mark.long
def test_a_killed_worker_changes_nothing(candidate: Bundle, union: ShardUnion, expected: str) -> None:
    killed: list[int] = []
    table = table_of_bundle(
        candidate,
        union,
        "test",
        pool=PoolSettings(workers=1),
        on_progress=once(lambda: killed.append(kill("AnswerShard"))),
    )
    assert killed
    assert killed[0], "no worker was there"
    assert exact(table) == expected


@pytest.mark.long
def test_a_bundle_whose_answers_are_not_finite_is_told_as_such(candidate: Bundle, union: ShardUnion) -> None:
    state = {name: tensor * 1e30 if tensor.is_floating_point() else tensor for name, tensor in candidate.state.items()}
    with pytest.raises(BundleError, match="values that are not finite"):
        table_of_bundle(Bundle(candidate.info, state), union, "test")


@pytest.mark.long
def test_weights_that_do_not_fit_are_told_as_such(candidate: Bundle, union: ShardUnion) -> None:
    state = dict(list(candidate.state.items())[1:])
    with pytest.raises(BundleError, match="do not fit the network"):
        table_of_bundle(Bundle(candidate.info, state), union, "test")


@pytest.mark.long
def test_a_store_that_refuses_a_worker_is_no_missing_row(
    cluster: Cluster, candidate: Bundle, storm: tuple[FaultProxy, str]
) -> None:
    weather, s3 = storm
    union = several(s3, 2)
    refused = weather.add(Fault("expired", method="GET", key=r"/1/shards/"))
    with pytest.raises(StoreDenied) as denied:
        table_of_bundle(candidate, union, "test", reference=Reference(None, Negatives()))
    assert refused.hits
    assert denied.value.exit_code == EXIT_ENVIRONMENT
