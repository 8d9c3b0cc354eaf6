"""A bundle's answers to a store, predicted in this process; on a cluster: tests/integration/test_evaluation.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.evaluation.answers import Answers, PoolSettings, answers_to, rows_of, table_of_bundle
from cxrgaze_ray.evaluation.maps import score_image
from cxrgaze_ray.evaluation.reference import reference_of
from cxrgaze_ray.models.bundle import Bundle, make_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.predictor import Predictor
from cxrgaze_ray.models.settings import System, architecture
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.shards import Shard, ShardUnion
from cxrgaze_ray.shards.store import image_array
from tests.labelled_store import write_store


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return make_bundle(build(PRESETS["tiny"], 3), "cxrgaze", trained=True)


@pytest.fixture(scope="module")
def union(tmp_path_factory: pytest.TempPathFactory) -> ShardUnion:
    folder = tmp_path_factory.mktemp("stores")
    parts = {"a": {"train": 2, "test": 3}, "b": {"train": 1, "test": 2}}
    return ShardUnion([write_store(folder / prefix, counts, prefix=prefix) for prefix, counts in parts.items()])


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the cores to the other test processes."""
    monkeypatch.setattr("cxrgaze_ray.models.predictor.limit_threads", lambda _: None)


def test_a_table_holds_what_the_predictor_says_in_the_store_s_order(bundle: Bundle, union: ShardUnion) -> None:
    seen: list[tuple[int, int]] = []
    table = table_of_bundle(bundle, union, "test", on_progress=lambda done, total: seen.append((done, total)))
    assert table.image_ids == tuple(
        f"image-{one}" for one in ("a-test-0", "a-test-1", "a-test-2", "b-test-0", "b-test-1")
    )
    assert seen == [(0, 5), (3, 5), (5, 5)]
    predictor, reference = Predictor.from_bundle(bundle), reference_of(union, "test")
    (_, last) = union.tables("test")
    answer = predictor.predict(image_array(last["image"]))
    assert answer.probabilities_BK is not None
    assert answer.saliency_BHW is not None
    assert table.probabilities_NK[3:].tobytes() == answer.probabilities_BK.tobytes()
    scores = score_image(last.to_pylist()[1], answer.saliency_BHW[1], reference)
    assert scores is not None
    assert table.scores("kl")[4] == scores.model.kl


def test_a_reference_that_is_given_is_not_read_again(
    bundle: Bundle, union: ShardUnion, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, reference = table_of_bundle(bundle, union, "test"), reference_of(union, "test")
    monkeypatch.setattr("cxrgaze_ray.evaluation.answers.reference_of", None)
    assert repr(table_of_bundle(bundle, union, "test", reference=reference)) == repr(expected)


def test_whole_maps_of_a_few_images_come_in_the_order_asked_for(
    bundle: Bundle, union: ShardUnion, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, original = list[str](), Shard.read

    def noted(shard: Shard, split: str, columns: Sequence[str] | None = None) -> pa.Table:
        read.extend([shard.store] if columns is None else [])
        return original(shard, split, columns)

    monkeypatch.setattr(Shard, "read", noted)
    rows = rows_of(union, "test", ["image-b-test-1", "image-b-test-0"])
    assert rows["image_id"].to_pylist() == ["image-b-test-1", "image-b-test-0"]
    assert [Path(uri).name for uri in read] == ["b"], "pixels are read where they are needed only"
    maps = answers_to(bundle, rows).saliency_BHW
    assert maps is not None
    assert maps.shape == (2, 640, 512)
    assert maps.sum(axis=(1, 2)) == pytest.approx(np.ones(2), abs=1e-4)


@pytest.mark.parametrize("system", ["unet-s", "dnet201", "gazegnn"])
def test_a_system_answers_what_it_predicts(union: ShardUnion, system: System) -> None:
    network = build(architecture(system, "tiny"), 3)
    table = table_of_bundle(make_bundle(network, "cxrgaze", trained=True), union, "test")
    assert len(table) == union.rows("test")
    assert np.isfinite(table.probabilities_NK).all() == ("classes" in table.predicts)
    assert np.isfinite(table.scores("cc")).all() == ("saliency" in table.predicts)
    assert table.predicts == network.config.predicts


def test_a_network_that_reads_gaze_answers_images_that_somebody_looked_at(union: ShardUnion) -> None:
    (rows, _) = union.tables("test")
    gaze = [None, *rows["gaze"].to_pylist()[1:]]
    partly = rows.set_column(rows.schema.get_field_index("gaze"), "gaze", pa.array(gaze, pa.binary()))
    part = Answers(make_bundle(build(architecture("gazegnn", "tiny"), 3), "cxrgaze", trained=True)).part(7, partly)
    assert (part.number, part.images, part.table.num_rows) == (7, 3, 2)


@pytest.mark.parametrize("image_id", ["image-a-train-0", "nobody"])
def test_an_image_of_another_split_is_not_found(union: ShardUnion, image_id: str) -> None:
    with pytest.raises(UserError, match="does not hold all of 2 images"):
        rows_of(union, "test", ["image-a-test-0", image_id])


@pytest.mark.parametrize(
    ("settings", "there", "workers", "gpus"),
    [
        ({}, (1, 0.0), 1, 0.0),
        ({}, (3, 0.0), 3, 0.0),
        ({}, (300, 0.0), 100, 0.0),
        ({"workers": 7}, (3, 0.0), 7, 0.0),
        ({}, (3, 8.0), 8, 1.0),
        ({"gpus": 0.25}, (1, 2.0), 8, 0.25),
        ({"gpus": 0}, (3, 8.0), 3, 0.0),
        ({"gpus": 4, "workers": 2}, (3, 8.0), 2, 4.0),
    ],
)
def test_a_worker_takes_a_gpu_or_a_node(
    settings: dict[str, float], there: tuple[int, float], workers: int, gpus: float
) -> None:
    assert PoolSettings.build(**settings).size(100, *there) == (workers, gpus)
