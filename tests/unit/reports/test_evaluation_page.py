"""The page of an evaluation: what is drawn, in the page's colours, without a network, the same bytes every time."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrgaze_ray.cli.evaluation_report import training_report
from cxrgaze_ray.evaluation.calibration import fit_temperature
from cxrgaze_ray.evaluation.evaluate import evaluate
from cxrgaze_ray.evaluation.examples import first_of_each_class
from cxrgaze_ray.models.bundle import Bundle, make_bundle
from cxrgaze_ray.models.curves import Curve
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.predictions import Predictions
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.reports.evaluation_page import evaluation_page
from cxrgaze_ray.reports.figures import Figure, example_figures
from cxrgaze_ray.reports.names import named
from cxrgaze_ray.reports.plots import evaluation_plots
from cxrgaze_ray.reports.svg import COLOURS
from cxrgaze_ray.schemas import CLASSES, HEIGHT, WIDTH
from cxrgaze_ray.storage import LocalStore
from tests.command import Cxrgaze
from tests.labelled_store import write_store
from tests.model_pairs import Model, table_pair

TABLE = table_pair(60, 1, Model(temperature=0.5))[1]


@pytest.fixture(scope="module")
def metrics() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(evaluate(TABLE).summary()))
    return found


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    curves = (Curve(phase="encoder", train=(2.0, 1.0), validation=(1.5, 0.5), best=2),)
    made = make_bundle(build(PRESETS["tiny"], 1), "net", trained=True).with_curves(curves)
    return made.with_calibration(fit_temperature(TABLE.labelled()))


@pytest.fixture(scope="module")
def page(bundle: Bundle, metrics: dict[str, Any]) -> str:
    return evaluation_page("net v0002", bundle.info, metrics, "test", "5t0re" * 8)


def test_everything_that_is_known_is_drawn(page: str, metrics: dict[str, Any]) -> None:
    shown = {"ROC", "Precision and recall", "Reliability", "Subgroups: macro AUC"}
    shown |= {f"Probability of {name.replace('_', ' ')}" for name in CLASSES}
    for title in (*shown, "How it learned", "encoder", "True class (rows) and answer (columns)", "Subgroups"):
        assert f">{title}</h" in page, title
    assert page.count("<svg ") >= len(shown) + 1
    assert metrics["reach"] in page.replace("&#39;", "'")
    assert "Temperature 1.9" in page or "Temperature 2." in page or "Temperature 1." in page
    assert re.search(r"\d+<small>\d+%</small>", page), "shares of a confusion's rows"


def test_the_page_needs_no_network_and_shows_no_picture_unless_asked(page: str) -> None:
    assert not re.findall(r"""(?:src|href)=(?!"#)|url\((?!#)|https?://|<script|@import""", page)
    assert "<img" not in page
    assert "prefers-color-scheme: dark" in page


def test_plots_have_the_page_s_colours_only_and_ids_of_their_own(page: str) -> None:
    plots = re.findall("<svg.*?</svg>", page, re.DOTALL)
    whole = "".join(plots)
    assert not re.findall(r"#[0-9a-fA-F]{6}\b", whole), "would not follow the page into the dark"
    assert {name for name in COLOURS if f"var(--{name})" in whole} >= {"ink", "soft", "line", "bar", "bad", "good"}
    for plot in plots:
        ids = re.findall(r'id="([^"]+)"', plot)
        assert len(ids) == len({*ids})
    ids = re.findall(r'id="([^"]+)"', whole)
    assert len(ids) == len({*ids})
    assert {link[1:] for link in re.findall(r'href="(#[^"]+)"', whole)} <= {*ids}
    assert set(re.findall(r"url\(#([^)]+)\)", whole)) <= {*ids}


def test_the_same_figures_give_the_same_bytes(page: str, bundle: Bundle, metrics: dict[str, Any]) -> None:
    again = evaluation_page("net v0002", bundle.info, metrics, "test", "5t0re" * 8)
    assert re.findall("<svg.*?</svg>", again, re.DOTALL) == re.findall("<svg.*?</svg>", page, re.DOTALL)


def test_figures_of_earlier_versions_have_a_page_without_curves(bundle: Bundle) -> None:
    old = {"images": 60, "diagnosis": {"auc": {"normal": 0.9}, "auc_macro": 0.9, "accuracy": 0.8}, "intervals": {}}
    text = evaluation_page("net v0001", bundle.info, old, "test", "5")
    assert "0.900" in text
    assert ">ROC</h" not in text
    assert evaluation_plots({}) == []


def test_one_class_alone_is_drawn_as_far_as_it_goes() -> None:
    one = replace(TABLE, facets={}).take(TABLE.labels_N == 1)
    titles = [plot.title for plot in evaluation_plots(json.loads(json.dumps(evaluate(one).summary())))]
    assert "ROC" not in titles
    assert "Reliability" in titles


def test_examples_are_the_first_of_each_class_with_their_gaze(tmp_path: Path, bundle: Bundle, page: str) -> None:
    store = write_store(tmp_path, {"test": 7, "train": 2})
    chosen = first_of_each_class(store, "test", 2)
    rows = {row["image_id"]: row["label"] for table in store.tables("test") for row in table.to_pylist()}
    assert len(chosen) == 6
    for label in range(3):
        of_it = sorted(name for name, one in rows.items() if one == label)
        assert [name for name in chosen if rows[name] == label] == of_it[:2]
    (table, *_) = store.tables("test")
    figures = example_figures(table.slice(0, 2), answers(2))
    assert all(figure.radiograph and figure.overlay and figure.gaze for figure in figures)
    assert figures[0].caption.startswith("read as")
    shown = evaluation_page("net v0002", bundle.info, {}, "test", "5", figures)
    assert shown.count("<img") == 6
    assert "pictures of patients" in shown
    assert "Colours of gaze" in shown
    assert "pictures of patients" not in page


def answers(images: int) -> Predictions:
    even = np.full((images, HEIGHT, WIDTH), 1 / (HEIGHT * WIDTH), np.float32)
    even[:, :10] *= 5
    return Predictions(None, np.full((images, 3), 1 / 3, np.float32), even)


def test_a_model_of_classes_has_examples_without_maps(tmp_path: Path) -> None:
    (table,) = write_store(tmp_path, {"test": 1}).tables("test")
    (figure,) = example_figures(table, Predictions(None, np.full((1, 3), 1 / 3, np.float32), None))
    assert isinstance(figure, Figure)
    assert figure.overlay is None


def test_transfer_syntaxes_have_names() -> None:
    assert named("Most in 1.2.840.10008.1.2.4.90: 3%") == "Most in JPEG 2000 Image Compression (Lossless Only): 3%"
    assert named("1.2.840.10008.9.9.9") == "1.2.840.10008.9.9.9"
    assert named("Acme 1.2") == "Acme 1.2"


def test_commands_show_pictures_on_request_only(
    tmp_path: Path, bundle: Bundle, cxrgaze: Cxrgaze, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxrgaze_ray.models.predictor.limit_threads", lambda _: None)
    store = write_store(tmp_path / "store", {"validation": 3, "test": 3})
    registry = Registry(LocalStore(str(tmp_path / "registry")))
    pin = registry.publish(bundle)
    card = tmp_path / "card.html"
    command = ("models", "card", "net@v1", "--registry", registry.store.uri, "--out", card)
    assert cxrgaze(*command).code == 0
    assert "<img" not in card.read_text()
    assert cxrgaze(*command, "--store", tmp_path / "store").code == 0
    assert card.read_text().count("<img") == 9
    assert "first ids of each class in the validation split" in card.read_text()
    refused = cxrgaze(*command[:-1], tmp_path / "card.md", "--store", tmp_path / "store")
    assert (refused.code, "HTML card only" in refused.err) == (2, True)
    where = training_report(registry, pin, store, pictures=0)
    assert where.endswith("net/reports/v0001.html")
    text = registry.store.get("net/reports/v0001.html").decode()
    assert "<img" not in text
    assert "net v0001 on the test split" in text
