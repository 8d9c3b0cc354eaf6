"""Evaluation tables: collected one at a time, taken apart, stored and read back."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from cxrgaze_ray.evaluation.evaluate import evaluate
from cxrgaze_ray.evaluation.metrics import diagnosis_metrics
from cxrgaze_ray.evaluation.table import UNKNOWN, EvaluationTable, EvaluationTableBuilder, ImageScores, MapScores
from cxrgaze_ray.models.settings import BOTH


@pytest.fixture
def table() -> EvaluationTable:
    found = EvaluationTableBuilder()
    scores = [ImageScores(MapScores(0.5, 0.8, 0.6)), ImageScores(MapScores(0.4, None, 0.7))]
    found.add("a", "p1", 0, np.array([0.7, 0.2, 0.1], np.float32), scores[0], {"sex": "F", "rows": "12"})
    found.add("b", None, None, np.array([0.1, 0.8, 0.1], np.float32), None, {"manufacturer": "Ostia"})
    found.add("c", "p1", 2, np.array([0.6, 0.2, 0.2], np.float32), scores[1], {"sex": "M"})
    return found.build()


def test_what_is_not_known_is_marked(table: EvaluationTable) -> None:
    assert table.labels_N.tolist() == [0, UNKNOWN, 2]
    assert table.patients == ("p1", "b", "p1")
    assert table.seen_N.tolist() == [True, False, True]
    assert np.isnan(table.scores("cc")).tolist() == [False, True, True]
    assert table.facets["sex"] == ("F", None, "M")
    assert table.facets["manufacturer"] == (None, "Ostia", None)


def test_a_part_keeps_everything_together(table: EvaluationTable) -> None:
    labelled = table.labelled()
    assert labelled.image_ids == ("a", "c")
    assert labelled.facets["sex"] == ("F", "M")
    np.testing.assert_array_equal(labelled.scores("hs"), [0.6, 0.7])


def test_they_survive_being_stored(table: EvaluationTable) -> None:
    again = EvaluationTable.from_table(table.to_table())
    assert (again.image_ids, again.patients, again.facets) == (table.image_ids, table.patients, table.facets)
    for name in ("labels_N", "probabilities_NK", "maps_NM", "seen_N", "centre_NM", "readers_NM"):
        np.testing.assert_array_equal(getattr(again, name), getattr(table, name))


def test_no_image_makes_a_table_too() -> None:
    nothing = EvaluationTableBuilder().build()
    assert len(nothing) == 0
    assert nothing.probabilities_NK.shape == (0, 3)
    assert evaluate(nothing).diagnosis is None


def test_metrics_are_of_what_is_known(table: EvaluationTable) -> None:
    found = evaluate(table)
    assert (found.images, found.diagnosis and found.diagnosis.images) == (3, 2)
    assert found.saliency is not None
    assert (found.saliency.images, found.saliency.undefined_cc) == (2, 1)
    assert [one.p_true for one in found.scores] == [pytest.approx(0.7), None, pytest.approx(0.2)]


def test_an_image_without_a_figure_is_left_out_of_it_and_counted(table: EvaluationTable) -> None:
    more = EvaluationTableBuilder()
    more.add("d", "p2", 1, np.array([0.1, 0.8, 0.1], np.float32), ImageScores(MapScores()), {})
    found = evaluate(EvaluationTable.from_table(pa.concat_tables([table.to_table(), more.build().to_table()])))
    assert found.saliency is not None
    assert (found.saliency.images, found.saliency.undefined_kl, found.saliency.undefined_hs) == (3, 1, 1)
    assert (found.saliency.kl, found.saliency.hs) == pytest.approx((0.45, 0.65))
    assert "NaN" not in json.dumps(found.summary())


def test_calibration_error_by_hand() -> None:
    # confidences .9 .9 .6; hits 1 0 1: bins of width 1/15 hold {.9, .9} and {.6}
    probabilities = np.array([[0.9, 0.05, 0.05], [0.9, 0.05, 0.05], [0.2, 0.6, 0.2]])
    assert diagnosis_metrics(probabilities, np.array([0, 1, 1])).ece == pytest.approx((abs(1 - 1.8) + abs(1 - 0.6)) / 3)
    assert diagnosis_metrics(np.eye(3), np.arange(3)).ece == 0


def test_a_model_of_saliency_alone_has_no_diagnosis_and_the_other_way_round() -> None:
    maps, classes = EvaluationTableBuilder(("saliency",)), EvaluationTableBuilder(("classes",))
    scores = ImageScores(MapScores(0.5, 0.8, 0.6, 1.5, 0.7), MapScores(0.9, 0.5, 0.5, 1.0, 0.5), MapScores(cc=0.9))
    maps.add("a", "p", 1, None, scores, {})
    maps.add("b", "q", 1, None, None, {})
    classes.add("a", "p", 1, np.array([0.1, 0.8, 0.1], np.float32), None, {}, seen=True)
    for builder in (maps, classes):
        again = EvaluationTable.from_table(builder.build().to_table())
        assert again.predicts == builder.predicts
        assert json.dumps(evaluate(again).summary(), allow_nan=False) == json.dumps(evaluate(builder.build()).summary())
    seen, labelled = evaluate(maps.build()), evaluate(classes.build())
    assert (seen.diagnosis, labelled.saliency, labelled.missing) == (None, None, {})
    nobody = maps.build().take(np.array([1]))
    assert evaluate(nobody).rows() == [["images", "1", ""], ["saliency", "no image has gaze", ""]]
    assert evaluate(replace(classes.build(), labels_N=np.array([UNKNOWN]))).rows()[1:] == [
        ["diagnosis", "no image has a label", ""]
    ]
    aucs = [row[1] for row in evaluate(classes.build()).rows()[1:4]]
    assert aucs == ["undefined: no image is of it", "undefined: every image is of it", "undefined: no image is of it"]
    assert [one.p_true for one in seen.scores] == [None, None]
    assert seen.saliency is not None
    assert seen.centre is not None
    assert seen.readers is not None
    assert (seen.saliency.images, seen.saliency.nss, seen.centre.sauc, seen.readers.cc) == (1, 1.5, 0.5, 0.9)
    assert (seen.readers.images, seen.readers.undefined_kl) == (1, 1)
    assert seen.intervals.keys() == {"cc", "hs", "kl", "nss", "sauc"}
    assert classes.build().seen_N.tolist() == [True]


def test_tables_of_earlier_versions_are_read(table: EvaluationTable) -> None:
    newer = [name for name in table.to_table().column_names if name.startswith(("centre_", "readers_", "nss", "sauc"))]
    earlier = table.to_table().drop_columns(newer).replace_schema_metadata(None)
    again = EvaluationTable.from_table(earlier)
    assert again.predicts == BOTH
    np.testing.assert_array_equal(again.maps_NM, table.maps_NM)
    found = evaluate(again)
    assert found.missing == {
        "centre": "not known: it takes a training split with gaze",
        "readers": "not known: readers are not kept apart",
    }
    assert ["saliency NSS", "not known", ""] in found.rows()
    assert not any("nan" in cell.lower() for row in found.rows() for cell in row)
