"""The report of a run: one file that stands alone, and says all that came of the run."""

from __future__ import annotations

import base64
import io
import re
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from cxrgaze_ray.archive.manifest import list_archive
from cxrgaze_ray.errors import CxrgazeError, StoreUnavailable
from cxrgaze_ray.evaluation.evaluate import evaluate_run
from cxrgaze_ray.evaluation.metrics import (
    Evaluation,
    ImageScore,
    SaliencyMetrics,
    diagnosis_metrics,
)
from cxrgaze_ray.evaluation.statistics import Interval
from cxrgaze_ray.gaze import saliency
from cxrgaze_ray.gaze.egd import EgdTables, read_egd
from cxrgaze_ray.models.settings import BOTH, Answer
from cxrgaze_ray.phantoms import GAZE_FOLDER, make_archive
from cxrgaze_ray.radiograph.preprocess import fit
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.reports import figures
from cxrgaze_ray.reports.run_report import run_report
from cxrgaze_ray.schemas import (
    CAM_MEANING,
    CAM_RESULT,
    CLASSES,
    HEIGHT,
    REASON_HELP,
    RESEARCH_ONLY,
    RESULT,
    WIDTH,
    Reason,
    status_of,
)
from cxrgaze_ray.scoring.runs import Request, Run, RunSpec, ScoreOptions, make_plan
from cxrgaze_ray.storage import LocalStore
from tests.answers import only
from tests.command import Cxrgaze

IMAGES = 9
REFUSED = (Reason.TRUNCATED, Reason.TRUNCATED, Reason.LATERAL_VIEW)
INJECTION = "<script>alert(1)<script>"


@dataclass
class Page(HTMLParser):
    """What a browser would see."""

    html: str
    tags: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href", "action", "data", "srcset"}]

    def handle_data(self, data: str) -> None:
        self.text += data

    def section(self, title: str) -> str:
        """Return the HTML of the section under a heading."""
        (found,) = (part for part in self.html.split("<section>") if f"<h2>{title}</h2>" in part)
        return found

    def row(self, head: str) -> list[str]:
        """Return the cells of the table row that begins with a text."""
        rows = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.S) for row in re.findall(r"<tr>(.*?)</tr>", self.html, re.S)]
        (found,) = (cells for cells in rows if cells and re.sub("<[^>]+>", "", cells[0]) == head)
        return found


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    make_archive(LocalStore(str(folder)), images=IMAGES, seed=3, height=(200, 260))
    return folder


@pytest.fixture(scope="module")
def truth(archive: Path) -> EgdTables:
    return read_egd(LocalStore(str(archive / GAZE_FOLDER)))


def result_row(one: dict[str, Any], number: int) -> dict[str, Any]:
    """Make up a row: the last ones are refused, the others are scored ever more surely, class after class."""
    row = {name: one[name] for name in ("shard", "position", "image_id", "subject_id", "study_id")}
    if number >= IMAGES - len(REFUSED):
        reason = REFUSED[number - IMAGES]
        return row | {"status": str(status_of(reason)), "reason_code": str(reason), "detail": "Made up."}
    best, sure = number % 3, 0.4 + 0.1 * number
    chances = [sure if index == best else (1 - sure) / 2 for index in range(3)]
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    density = np.exp(-((y - 300) ** 2 + (x - 200) ** 2) / 5000).astype(np.float32)
    png, peak = saliency.encode(density / density.sum())
    return row | {
        "status": "scored",
        "prediction": CLASSES[best],
        **{f"p_{name}": chance for name, chance in zip(CLASSES, chances, strict=True)},
        "saliency_png": png,
        "saliency_peak": peak,
        "affine": vars(fit(230, 210)),
        "view_position": "PA",
        "bits_stored": 12,
        "manufacturer": f"Acme {INJECTION}" if number == 0 else "Acme",
    }


def make_run(
    archive: Path,
    out: Path,
    *,
    trained: bool = True,
    commit: bool = True,
    finish: bool = True,
    predicts: tuple[Answer, ...] = BOTH,
) -> Run:
    manifest = list_archive(str(archive))
    plan = make_plan(manifest.table)
    spec = RunSpec(
        run_id="0123456789abcdef",
        request=Request(archive=str(archive), model="m@champion", engine="auto"),
        model=ModelPin(uri="/r", name="m", version="v0001", weights_sha256="ab" * 32, trained=trained),
        predicts=predicts,
        profile="cxrgaze-v1",
        engine="cpu-float32",
        layout=manifest.layout,
        identities=manifest.identities,
        plan_sha256="ff",
        manifest_sha256=manifest.sha256(),
        rows=plan.num_rows,
        shards=1,
        code_version="0.1.0",
        created_at="2026-01-01T00:00:00.000000+00:00",
    )
    run = Run.create(LocalStore(str(out)), spec, plan)
    if commit:
        rows = [only(predicts, result_row(one, number)) for number, one in enumerate(plan.to_pylist())]
        run.commit(0, pa.Table.from_pylist(rows, schema=RESULT))
        if finish:
            run.finish(4.0, IMAGES, "2026-01-01T00:01:00+00:00")
    return run


@pytest.fixture(scope="module")
def run(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(archive, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return Page(run_report(run, figures=3))


def evaluation_of(run: Run) -> Evaluation:
    """Make up an evaluation in which each image's true class is the one after the predicted one."""
    scored = [row for row in run.summary().to_pylist() if row["status"] == "scored"]
    labels = np.array([(CLASSES.index(row["prediction"]) + 1) % 3 for row in scored])
    chances = np.array([[row[f"p_{name}"] for name in CLASSES] for row in scored])
    return Evaluation(
        images=len(scored),
        diagnosis=diagnosis_metrics(chances, labels),
        saliency=SaliencyMetrics(len(scored), None, None, 0.4321, 0.1, 0.3456, 0.1, 0),
        intervals={"cc": Interval(0.4321, 0.3111, 0.5222)},
        note="Made-up figures.",
        scores=tuple(
            ImageScore(row["image_id"], int(label), float(chance[label]), None)
            for row, label, chance in zip(scored, labels, chances, strict=True)
        ),
    )


def test_a_report_needs_no_network(page: Page) -> None:
    assert not re.search(r"https?://|//cdn|url\((?!#)|@import", page.html)
    assert page.links
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in page.links)
    assert not {"script", "link", "iframe", "object", "embed", "form"} & set(page.tags)


def test_pictures_are_pictures(page: Page) -> None:
    for link in (link for link in page.links if not link.startswith("#")):
        with Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2]))) as image:
            image.load()
            assert image.width == 512
            assert np.asarray(image).std() > 5


def test_a_report_says_that_it_is_for_research_only(page: Page) -> None:
    assert RESEARCH_ONLY == "Research only, not for clinical use."
    assert f'<p class="banner">{RESEARCH_ONLY}</p>' in page.html


def tiles(page: Page) -> dict[str, str]:
    found = re.findall(r'<div class="tile[^"]*"><b>(.*?)</b><span>(.*?)</span>', page.html)
    return {name: count for count, name in found}


def test_every_file_is_counted_by_status(page: Page) -> None:
    assert {name: tiles(page)[name] for name in ("files", "scored", "skipped", "failed")} == {
        "files": "9",
        "scored": "6",
        "skipped": "1",
        "failed": "2",
    }
    assert (tiles(page)["images/s"], tiles(page)["of work"]) == ("2.2", "4 s")


def test_every_reason_is_counted_and_explained(page: Page) -> None:
    assert page.row("truncated")[1:] == ["2", "failed", "The file ends too early. Copy it again from its source."]
    assert '<a href="#truncated">truncated</a>' in page.html
    assert page.section("Files that failed").count('id="truncated"') == 1, "where its files are listed"
    assert page.row("lateral view")[1:3] == ["1", "skipped"]
    assert "--view all" in page.row("lateral view")[3]


def test_commands_in_a_reason_s_text_are_code(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REASON_HELP, Reason.TRUNCATED, "Cut <short>. See `cxrgaze <doctor>`.")
    shown = run_report(run, figures=0)
    assert "Cut &lt;short&gt;. See <code>cxrgaze &lt;doctor&gt;</code>." in shown


def test_predictions_and_facts_are_counted(page: Page) -> None:
    predicted = re.findall(r"<span>([^<]*)</span>", page.section("Predicted class"))
    assert predicted == ["normal", "2", "heart failure", "2", "pneumonia", "2"]
    facts = re.findall(r"<span>([^<]*)</span>", page.section("What the files say about themselves"))
    assert facts[:4] == ["PA", "6", "not stated", "3"]


def test_the_run_is_described(page: Page, run: Run) -> None:
    for text in (run.spec.run_id, run.spec.request.archive, "m v0001", "cpu-float32", "cxrgaze-v1", "mimic-cxr"):
        assert text in page.text
    assert "unfinished" not in page.text
    assert "untrained" not in page.text


def test_each_group_has_as_many_images_as_asked(page: Page) -> None:
    for title in ("Most certain", "Least certain", "Drawn at random"):
        section = page.section(title)
        assert section.count("<figure>") == 3
        assert section.count("<img") == 6
        assert "out of reach" not in section


def test_no_group_has_more_images_than_there_are(run: Run) -> None:
    page = Page(run_report(run, figures=50))
    assert page.section("Drawn at random").count("<figure>") == 6


def test_certain_images_are_told_from_uncertain_ones(page: Page) -> None:
    sure, unsure = (
        [
            max(map(float, re.findall(r"<b>([\d.]+)%</b>", caption)))
            for caption in page.section(title).split("<figure>")[1:]
        ]
        for title in ("Most certain", "Least certain")
    )
    assert unsure == pytest.approx([40, 50, 60])
    assert sure == pytest.approx([70, 80, 90])  # one of every class


def test_pictures_can_be_left_out(run: Run) -> None:
    page = Page(run_report(run, figures=0))
    assert "figure" not in page.tags
    assert tiles(page)["scored"] == "6"


def test_names_are_escaped(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / INJECTION
    shutil.copytree(archive, folder)
    page = Page(run_report(make_run(folder, tmp_path / "run"), figures=0))
    assert "script" not in page.tags
    assert "&lt;script&gt;alert(1)&lt;script&gt;" in page.html
    assert f"Acme {INJECTION}" in page.text
    assert str(folder) in page.text


def test_an_unfinished_run_is_marked(archive: Path, tmp_path: Path) -> None:
    page = Page(run_report(make_run(archive, tmp_path, finish=False), figures=0))
    assert "This run is unfinished: 0 of 1 shards are still to be committed." in page.text
    assert tiles(page)["scored"] == "6"
    assert "images/s" not in tiles(page)


def test_folders_that_could_not_be_listed_are_told(archive: Path, tmp_path: Path) -> None:
    run = make_run(archive, tmp_path, commit=False)
    closed = Run(run.store, run.spec.model_copy(update={"closed_folders": 2}))
    told = "2 folders of the archive could not be listed"
    assert told in run_report(closed, figures=0)
    assert told not in run_report(run, figures=0)


def test_a_run_without_any_row_has_a_report(archive: Path, tmp_path: Path) -> None:
    page = Page(run_report(make_run(archive, tmp_path, commit=False)))
    assert "1 of 1 shards are still to be committed" in page.text
    assert tiles(page)["files"] == "0"


def test_an_untrained_model_is_marked(archive: Path, tmp_path: Path) -> None:
    page = Page(run_report(make_run(archive, tmp_path, trained=False), figures=0))
    assert '<p class="banner bad">The model is untrained: its answers mean nothing.</p>' in page.html
    assert "m v0001 (untrained)" in page.text


def test_what_the_model_s_split_can_t_vouch_for_is_said(run: Run) -> None:
    page = Page(run_report(run, figures=0, caution="Nobody names the patients of 3 of 9 images."))
    assert "What the model learned from: Nobody names the patients of 3 of 9 images." in page.text
    assert "What the model learned from" not in run_report(run, figures=0)


def test_a_report_is_made_though_the_files_are_gone(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    shutil.copytree(archive, folder)
    run = make_run(folder, tmp_path / "run")
    shutil.rmtree(folder)
    lost: list[CxrgazeError] = []
    page = Page(run_report(run, figures=1, on_lost=lost.append))
    assert page.text.count("source not found") == page.text.count("without the radiograph") == 3
    assert "of the radiographs below can't be shown" in page.text
    assert 'alt="radiograph ' not in page.html
    assert {getattr(error, "reason", None) for error in lost} == {Reason.MISSING}
    assert tiles(page)["scored"] == "6"


def test_a_radiograph_that_was_changed_is_not_shown_as_the_one_that_was_scored(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    shutil.copytree(archive, folder)
    run = make_run(folder, tmp_path / "run")
    for uri in run.plan()["uri"].to_pylist():
        with Path(uri).open("ab") as file:
            file.write(b"\0\0")
    assert Page(run_report(run, figures=1)).text.count("source changed since the run") == 3


def test_a_report_is_made_though_the_store_is_down(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def down(one: object) -> bytes:
        asked.append(one)
        raise StoreUnavailable("S3 is down.")

    monkeypatch.setattr(figures, "fetch_listed", down)
    assert Page(run_report(run, figures=1)).text.count("source out of reach") == 3
    assert len(asked) == 1, "the others would wait as long"


@pytest.mark.parametrize("with_paths", [False, True])
def test_failed_files_are_listed_and_named_only_on_request(run: Run, with_paths: bool) -> None:
    page = Page(run_report(run, figures=1, with_paths=with_paths))
    section = page.section("Files that failed")
    failed = [row for row in run.summary().to_pylist() if row["status"] == "failed"]
    plan = {row["image_id"]: row["uri"] for row in run.plan().to_pylist()}
    assert all(row["image_id"] in section for row in failed)
    assert all((plan[row["image_id"]] in page.html) is with_paths for row in failed)
    assert ("File names are left out: they may name patients." in section) is not with_paths
    assert ("/files/" in page.html) is with_paths, "figures keep to it too"


def test_an_evaluation_is_shown_with_its_confusion(run: Run) -> None:
    page = Page(run_report(run, evaluation_of(run), figures=1))
    assert page.row("images")[1] == "6"
    assert page.row("accuracy")[1] == "0.000"
    assert page.row("saliency CC")[1:] == ["0.432 (std 0.100)", "0.311 to 0.522"]
    assert page.row("saliency HS")[1] == "0.346 (std 0.100)"
    assert page.row("saliency KL")[1] == "not known"
    assert "Made-up figures." in page.text
    # rows are true classes, one after the predicted one
    matrix = [page.row(name.replace("_", " "))[1:] for name in CLASSES]
    none, all_of_it = "0<small>0%</small>", "2<small>100%</small>"
    assert matrix == [[none, none, all_of_it], [all_of_it, none, none], [none, all_of_it, none]], "shares of a row"


def test_with_labels_images_are_chosen_by_their_true_class(run: Run) -> None:
    evaluation = evaluation_of(run)
    page = Page(run_report(run, evaluation, figures=1))
    worst = min(evaluation.scores, key=lambda one: one.p_true or 0)
    assert f"<code>{worst.image_id[:8]}</code>" in page.section("Worst: least probability for the true class")
    assert page.section("Best: most probability for the true class").count("<figure>") == 1
    assert "Most certain" not in page.text


def test_without_an_evaluation_there_is_no_metric(page: Page) -> None:
    assert "AUC" not in page.text
    assert "confusion" not in page.html.partition("</style>")[2]


def test_known_gaze_and_labels_stand_beside_the_networks(run: Run, truth: EgdTables) -> None:
    page = Page(run_report(run, evaluation_of(run), truth, figures=1))
    assert page.html.count("<img") == 3 * page.html.count("<figure>") == 9
    assert page.html.count("reader's gaze</em>") == 3
    labels = re.findall(r"read as (normal|heart failure|pneumonia)", page.text)
    assert len(labels) == 3


def test_the_command_writes_the_report_and_fails_if_radiographs_are_lost(
    cxrgaze: Cxrgaze,
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, out = tmp_path / "archive", tmp_path / "report.html"
    shutil.copytree(archive, folder)
    run = make_run(folder, tmp_path / "run")
    command = ["runs", "report", run.store.uri, "--out", out]
    assert cxrgaze(*command, "--json").json == {"report": str(out), "lost": 0}
    folder.rename(tmp_path / "moved")
    gone = cxrgaze(*command)
    assert (gone.code, gone.out) == (2, f"The report is in {out}.\n")
    assert re.search(r"The report lacks 6 radiographs: 6 gone\. Put the files back", gone.err)
    assert "File names are left out: they may name patients. --with-paths shows them." in gone.err
    assert "source not found" in out.read_text()

    def down(_: object) -> bytes:
        raise StoreUnavailable("S3 is down.", "Wait.")

    monkeypatch.setattr(figures, "fetch_listed", down)
    outage = cxrgaze(*command)
    assert outage.code == 4
    assert "The report lacks 6 radiographs. S3 is down. Wait." in outage.err
    assert "source out of reach" in out.read_text()


def test_a_report_of_classes_shows_no_map(archive: Path, tmp_path: Path) -> None:
    page = Page(run_report(make_run(archive, tmp_path, predicts=("classes",)), figures=3))
    assert "classes only" in page.html
    assert "predicted gaze" not in page.text
    section = page.section("Most certain")
    assert (section.count("<figure>"), section.count("<img")) == (3, 3)
    assert "pneumonia <b>" in section


def test_a_report_of_saliency_shows_no_class_and_orders_by_how_concentrated_gaze_is(
    archive: Path, truth: EgdTables, tmp_path: Path
) -> None:
    run = make_run(archive, tmp_path, predicts=("saliency",))
    page = Page(run_report(run, figures=3))
    assert "saliency only" in page.html
    assert not re.search(r"Predicted class|Probability of|pneumonia|nan|None", page.text)
    for title in ("Most concentrated gaze", "Least concentrated gaze", "Drawn at random"):
        assert page.section(title).count("<img") == 6
    known = Page(run_report(run, evaluate_run(run, truth), truth, figures=2))
    assert known.section("Best: predicted gaze most like the true one").count("reader's gaze on") == 2
    assert "AUC macro" not in known.text


def test_grad_cam_stands_beside_the_gaze_and_says_what_it_is(archive: Path, tmp_path: Path, page: Page) -> None:
    asked = Request(archive=str(archive), model="m@champion", engine="auto", options=ScoreOptions(cam=True))
    run = make_run(archive, tmp_path, commit=False)
    run.spec = run.spec.model_copy(update={"request": asked})
    png, _ = saliency.encode(np.eye(HEIGHT, WIDTH, dtype=np.float32))
    rows = [result_row(one, number) for number, one in enumerate(run.plan().to_pylist())]
    cams = {"cam_png": png, "cam_target": "heart_failure"}
    run.commit(0, pa.Table.from_pylist([row | cams if "prediction" in row else row for row in rows], CAM_RESULT))
    found = Page(run_report(run, figures=2))
    assert CAM_MEANING.replace("'", "&#39;") in found.html
    assert found.html.count("Grad-CAM, heart failure: not gaze") == found.html.count("<em>predicted gaze") > 0
    assert "Grad-CAM" not in page.html
