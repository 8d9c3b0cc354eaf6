"""The model card says what bundle and ledger say, and carries a head that proves it."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrgaze_ray.errors import ConfigError, RegistryError
from cxrgaze_ray.evaluation.gate import GateSettings
from cxrgaze_ray.evaluation.metrics import Evaluation, diagnosis_metrics, saliency_metrics
from cxrgaze_ray.evaluation.statistics import Interval
from cxrgaze_ray.evaluation.table import MapScores
from cxrgaze_ray.models.bundle import INFO, Bundle, Lineage, make_bundle
from cxrgaze_ray.models.curves import Curve, curves_of
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.settings import SYSTEMS, System, architecture
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.audit import verify_registry
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.reports.model_card import card_format, model_card
from cxrgaze_ray.reports.model_card.curves import loss_rows
from cxrgaze_ray.reports.pages import markdown
from cxrgaze_ray.reports.plots import learning_plots
from cxrgaze_ray.storage import LocalStore
from cxrgaze_ray.training.settings import TrainSettings

NAME = "net"
HOSTILE = '<script>alert("x")</script> | [a](http://b) `c`\n# d'
CRITERIA: list[dict[str, Any]] = [
    {
        "name": "auc_macro", "subgroup": None, "rule": "non_inferiority", "champion": 0.861, "candidate": 0.872,
        "difference": 0.011, "low": -0.008, "high": 0.031, "margin": 0.02, "verdict": "pass", "patients": 214,
        "images": 260, "why": "The interval lies above the margin.",
    },
    {
        "name": "auc_macro", "subgroup": "sex=F", "rule": "guard", "champion": 0.85, "candidate": 0.79,
        "difference": -0.06, "low": -0.11, "high": -0.01, "margin": 0.05, "verdict": "cannot_tell", "patients": 31,
        "images": 40, "why": HOSTILE,
    },
    {
        "name": "golden outputs", "subgroup": None, "rule": "check", "champion": None, "candidate": 1.5e-6,
        "margin": 1024, "verdict": "pass", "why": "It reproduces them.",
    },
]  # fmt: skip
REPORT = {
    "outcome": "cannot_tell", "why": "One subgroup is too small.", "patients": 214, "images": 260,
    "settings": GateSettings().model_dump(mode="json"),
}  # fmt: skip
HISTORY = [
    {"stage": phase, "epoch": epoch, "train_loss": 2.0 / epoch, "validation_loss": loss, "best": best}
    | ({"before": 1.75} if (phase, epoch) == ("saliency", 1) else {})
    for phase in ("encoder", "saliency")
    for epoch, loss, best in ((1, 1.5, True), (2, 0.5, True), (3, 1.0, False))
]


def trained(seed: int) -> Bundle:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 60)
    probabilities = np.stack([rng.dirichlet(1 + 2 * np.eye(3)[label]) for label in labels])
    evaluation = Evaluation(
        images=60,
        diagnosis=diagnosis_metrics(probabilities, labels),
        saliency=saliency_metrics([MapScores(1.2, 0.5, 0.4), MapScores(1.0, 0.7, 0.5)]),
        intervals={"auc_macro": Interval(0.8, 0.714, 0.892), "accuracy": Interval(0.7, 0.6, 0.8), "cc": None},
        note="Of phantoms.",
        centre=saliency_metrics([MapScores(1.4, 0.4, 0.3, 0.9, 0.5)]),
        missing={"readers": "no image has two readers"},
    )
    settings = TrainSettings.for_preset("tiny").model_dump()
    lineage = Lineage(store_sha256="5t0re" * 8, parent="net@v1", settings=settings, backbone="imagenet")
    bundle = make_bundle(build(PRESETS["tiny"], seed), NAME, trained=True, lineage=lineage)
    bundle = bundle.with_curves(curves_of(HISTORY))
    return bundle.with_metrics(json.loads(json.dumps(evaluation.summary())))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A champion of no past, and a candidate that the gate could not tell of, promoted by hand."""
    folder = tmp_path_factory.mktemp("whole")
    registry = Registry(LocalStore(str(folder)))
    registry.publish(make_bundle(build(PRESETS["tiny"], 0), NAME, trained=False), "untrained", who="ann")
    registry.promote(NAME, "v1", who="ann")
    bundle = trained(1)
    registry.look(NAME, bundle.info.weights_sha256, ["a7ore" * 8], "to gate it", who="night job")
    registry.publish(bundle, "retrained", who="night job")
    record(registry, REPORT | {"criteria": CRITERIA})
    registry.promote(NAME, "v2", reason="the board of 3 May decided so", who="Dr. Bob")
    return folder


@pytest.fixture
def registry(tmp_path: Path, whole: Path) -> Registry:
    shutil.copytree(whole, tmp_path / "registry")
    return Registry(LocalStore(str(tmp_path / "registry")))


def record(registry: Registry, report: Any, key: str = "gates/v0002.json") -> None:
    data = json.dumps(report).encode()
    registry.store.put(f"{NAME}/{key}", data)
    registry.record_gate(NAME, "v2", "cannot_tell", key, hashlib.sha256(data).hexdigest(), who="gate")


def text_of(registry: Registry, reference: str = NAME, form: Any = "md") -> str:
    return model_card(registry, reference, form).text


@pytest.mark.parametrize(
    ("parent", "phases", "told"),
    [
        (None, ["classifier"], "The gaze path learns in no phase: it keeps its first weights"),
        ("net@v1", ["contrastive"], "Phase contrastive changes DenseNet after DenseNet's own head, the gaze path and"),
        (None, ["encoder", "saliency", "classifier"], None),
    ],
)
def test_parts_that_phases_left_fresh_or_behind_are_among_the_limits(
    tmp_path: Path, parent: str | None, phases: list[str], told: str | None
) -> None:
    registry, settings = Registry(LocalStore(str(tmp_path))), TrainSettings.for_preset("tiny", phases)
    lineage = Lineage(
        parent=parent, parent_phases=("encoder", "saliency", "classifier"), settings=settings.model_dump(mode="json")
    )
    registry.publish(make_bundle(build(settings.network), NAME, trained=True, lineage=lineage))
    text = text_of(registry, f"{NAME}@v1")
    assert (told in text) if told else ("in no phase" not in text and " again." not in text)


@pytest.mark.parametrize("form", ["html", "md"])
def test_the_card_says_what_bundle_and_ledger_say(registry: Registry, form: Any) -> None:
    card = model_card(registry, NAME, form)
    assert (card.name, card.version) == (NAME, "v0002")
    info = Registry(registry.store).resolve("net@v2")
    plain = re.sub(r"<[^>]+>", " ", card.text).replace("\\", "")
    for said in (
        "net v0002", "champion", "Research only, not for clinical use.", "5t0re5t0re", "a7ore", "net@v1", "imagenet",
        "tiny", "cxrgaze-v1", "normal, heart failure, pneumonia", "contrastive", "epochs 6, batch 32", "0.714 to 0.892",
        "AUC macro", "saliency CC", "0.600", "centre-bias baseline shuffled AUC",
        "0.500", "no image has two readers", "Of phantoms.", "cannot tell", "One subgroup is too small.",
        "214 patients, 260 images", "AUC macro (sex=F)", "-0.060", "1.5e-06", "1024", "-0.110 to -0.010",
        "night job", "Dr. Bob", "the board of 3 May decided so", "retrained",
        "The gate did not accept it: cannot tell.", info.weights_sha256,
        hashlib.sha256(registry.store.get(f"{NAME}/versions/v0002/{INFO}")).hexdigest(),
    ):  # fmt: skip
        assert said in plain, said


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_has_a_card(tmp_path: Path, system: System) -> None:
    registry = Registry(LocalStore(str(tmp_path)))
    config = architecture(system, "tiny")
    registry.publish(make_bundle(build(config), NAME, trained=False))
    text = text_of(registry).replace("\\", "")
    for name, said in (
        ("system", system),
        ("predicts", " and ".join(config.predicts)),
        ("reads", "image and gaze" if config.needs_gaze else "image"),
        ("input", f"{config.input_size[0]} x {config.input_size[1]} pixels"),
    ):
        assert f"| {name} | {said}" in text, name


@pytest.mark.parametrize("form", ["html", "md"])
def test_the_card_says_what_the_split_can_not_vouch_for(registry: Registry, form: Any) -> None:
    """Once, among the limits; and how the images were split, among the lineage."""
    said = "Nobody names the patients of 3 of 9 images."
    bundle = trained(2)
    lineage = bundle.info.lineage.model_copy(update={"split_by": "image", "caution": said})
    registry.publish(Bundle(bundle.info.model_copy(update={"lineage": lineage}), bundle.state), "trained")
    plain = re.sub(r"<[^>]+>", " ", text_of(registry, f"{NAME}@v3", form))
    assert plain.count(said) == 1
    assert re.search(r"split by[ |]+image", plain)
    assert "split by" not in text_of(registry, f"{NAME}@v2", form), "of a bundle that does not say"


@pytest.mark.parametrize("form", ["html", "md"])
def test_the_cards_head_is_the_ledgers_and_finds_a_cut_tail(registry: Registry, form: Any) -> None:
    card = model_card(registry, NAME, form)
    (head,) = set(re.findall(r"models verify net --head ([0-9a-f]{64})", card.text))
    assert head == card.head == registry.head(NAME)
    registry.rollback(NAME)
    assert verify_registry(registry, NAME, head) == []
    for number in (5, 6):
        registry.store.delete(f"{NAME}/ledger/{number:08d}.json")
    assert verify_registry(registry, NAME) == []
    assert [one.note for one in verify_registry(registry, NAME, head)] == [False]


def test_a_name_alone_is_its_champion_or_its_last_version(registry: Registry) -> None:
    assert model_card(registry, "net@v1").version == "v0001"
    registry.promote(NAME, "v1", reason="back to the start")
    assert model_card(registry, "net").version == model_card(registry, "net@champion").version == "v0001"
    other = make_bundle(build(PRESETS["tiny"], 3), "other", trained=True)
    registry.publish(other)
    registry.look("other", "-", ["s"])
    assert model_card(registry, "other").version == "v0001"
    with pytest.raises(RegistryError, match="There is no model none"):
        model_card(registry, "none")


@pytest.mark.parametrize("form", ["html", "md"])
def test_an_untrained_model_without_a_past_has_a_card_too(registry: Registry, form: Any) -> None:
    text = text_of(registry, "net@v1", form)
    for said in (
        "The model is untrained: its answers mean nothing", "nothing is known of how good it is",
        "No gate judged this version", "No gate compared it", "it was the first",
    ):  # fmt: skip
        assert said in text, said
    assert "to gate it" not in text
    assert "Dr. Bob" not in text


def test_the_page_runs_no_script_and_needs_no_network(registry: Registry) -> None:
    registry.promote(NAME, "v2", reason=HOSTILE, who=HOSTILE)
    page = text_of(registry, form="html")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    assert not re.findall(r"(?:src|href)=(?!\"#)", page)


def test_a_markdown_table_can_not_be_broken_out_of(registry: Registry) -> None:
    registry.promote(NAME, "v2", reason=HOSTILE)
    text = text_of(registry)
    assert "<script" not in text
    (row,) = (line for line in text.splitlines() if line.startswith("| 6 |"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 6
    assert markdown("\x1b[2J") == r"\\x1b\[2J"
    assert markdown("a|b\n<c> & [d](e) _f_") == r"a\|b &lt;c\> &amp; \[d\](e) \_f\_"


@pytest.mark.parametrize("form", ["html", "md"])
def test_a_report_that_was_edited_is_not_shown(registry: Registry, form: Any) -> None:
    registry.store.put(f"{NAME}/gates/v0002.json", json.dumps(REPORT | {"why": "All is well."}).encode())
    text = text_of(registry, form=form)
    assert "The report was edited after the gate had judged: it is not shown." in text
    assert "All is well." not in text
    registry.store.delete(f"{NAME}/gates/v0002.json")
    assert "The report that the ledger names is gone." in text_of(registry, form=form)


@pytest.mark.parametrize(
    "report",
    [
        [], "text", {}, REPORT, REPORT | {"criteria": ["x", {}]}, REPORT | {"criteria": CRITERIA, "from_later": 1},
    ],
    ids=str,
)  # fmt: skip
def test_reports_of_other_versions_do_not_break_the_card(registry: Registry, report: Any) -> None:
    record(registry, report, "gates/other.json")
    for form in ("html", "md"):
        text = text_of(registry, form=form)
        assert "ledger entry 6" in text
        assert re.search("This version of cxrgaze can.{1,5}t read the report", text)


@pytest.mark.parametrize(
    "metrics",
    [{"diagnosis": None, "intervals": []}, {"diagnosis": {"auc": {"normal": None}, "accuracy": "high"}}, {"cc": 1.0}],
    ids=str,
)
def test_metrics_of_other_versions_do_not_break_the_card(registry: Registry, metrics: dict[str, Any]) -> None:
    registry.publish(trained(2).with_metrics(metrics))
    for form in ("html", "md"):
        assert "net v0003" in text_of(registry, "net@v3", form)


def test_a_bundle_that_was_edited_has_no_card(registry: Registry) -> None:
    key = f"{NAME}/versions/v0002/{INFO}"
    registry.store.put(key, registry.store.get(key).replace(b'"temperature": 1.0', b'"temperature": 2.0'))
    with pytest.raises(RegistryError, match="not as it was published"):
        model_card(registry, NAME)


@pytest.mark.parametrize(("file", "form"), [("a.html", "html"), ("s3://b/c.MD", "md"), ("x.md.html", "html")])
def test_the_ending_is_the_format(file: str, form: str) -> None:
    assert card_format(file) == form


@pytest.mark.parametrize("file", ["card", "card.pdf", "md", "a.html/b"])
def test_other_endings_are_refused(file: str) -> None:
    with pytest.raises(ConfigError, match=r"\.html or \.md"):
        card_format(file)


@pytest.mark.parametrize("form", ["html", "md"])
def test_the_card_of_a_model_of_classes_speaks_of_no_map(tmp_path: Path, form: Any) -> None:
    registry = Registry(LocalStore(str(tmp_path)))
    registry.publish(make_bundle(build(architecture("dnet201", "tiny")), NAME, trained=True))
    text = text_of(registry, form=form)
    for said in ("dnet201", "classes only", "From one chest radiograph: probabilities of", "temperature", "2, 4, 6, 4"):
        assert said in text
    assert "gaze map" not in text
    assert "U-Net" not in text


def test_the_card_draws_how_the_model_learned(registry: Registry) -> None:
    page = model_card(registry, "net@v2").text
    assert page.count('aria-label="Losses of phase') == 2
    assert 'aria-label="Losses of phase saliency"' in page
    assert "3 epochs; began with validation 1.75; kept: epoch 2, validation 0.5" in page
    assert "| saliency | 3 | 1.75 | 0.5 | 2 |" in model_card(registry, "net@v2", "md").text
    assert "How it learned" not in model_card(registry, "net@v1").text


def test_curves_that_are_flat_or_not_finite_are_no_fault() -> None:
    flat = Curve(phase="encoder", train=(1.0,), validation=(1.0,), best=1)
    curves = [flat, flat.model_copy(update={"train": (math.nan,)})]
    assert [(one.before, one.best_loss) for one in loss_rows(curves)] == [(None, 1.0)]
    assert len(learning_plots(curves)) == 1
