"""cxrgaze runs compare and models compare: what changed, as tables and as a page."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cxrgaze_ray.cli.console import bar, print_table, say, show
from cxrgaze_ray.cli.options import DEFAULT_REGISTRY, Address, Json, RegistryUri
from cxrgaze_ray.cli.sources import PATHS_KEPT

if TYPE_CHECKING:
    from cxrgaze_ray.evaluation.comparison import Comparison, Section
    from cxrgaze_ray.evaluation.table import EvaluationTable
    from cxrgaze_ray.models.bundle import BundleInfo
    from cxrgaze_ray.registry.pin import ModelPin
    from cxrgaze_ray.registry.versions import Registry

Page = Annotated[str | None, typer.Option(help="HTML page to write too.")]


def runs(
    first: Annotated[str, typer.Argument(metavar="A", help="URI of a run.")],
    second: Annotated[str, typer.Argument(metavar="B", help="URI of another.")],
    truth: Annotated[str | None, typer.Option(help="EGD-CXR tables: which run is closer to labels and gaze?")] = None,
    out: Page = None,
    with_paths: Annotated[
        bool, typer.Option("--with-paths", help="Show the paths of files, which may name patients.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare two runs: other settings, files that ended otherwise, answers that moved.

    Example: cxrgaze runs compare ./results/3f0c5a9d1b2e4f67 ./results/9a1b2c3d4e5f6071 --out changes.html
    """
    from cxrgaze_ray.evaluation.run_changes import compare_runs
    from cxrgaze_ray.gaze.egd import read_egd
    from cxrgaze_ray.scoring.runs import Run
    from cxrgaze_ray.storage import open_output, open_store

    if out is not None:
        open_output(out)
    one, two = (Run.open(open_store(uri)) for uri in (first, second))
    unfinished = [run.spec.run_id for run in (one, two) if run.success() is None]
    warning = f"Not finished: {', '.join(unfinished)}; only committed rows are compared." if unfinished else ""
    tables = read_egd(open_store(truth)) if truth else None
    _tell(compare_runs(one, two, tables, with_paths=with_paths), out, warning, as_json)
    if with_paths and not as_json:
        say(PATHS_KEPT)


def models(
    first: Annotated[str, typer.Argument(metavar="A", help="Such as cxrgaze@v1.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Such as cxrgaze@champion.")],
    store: Annotated[
        str | None,
        typer.Option(help="Have both answer this shard store's test split, and test their differences; a look at it."),
    ] = None,
    out: Page = None,
    registry: RegistryUri = DEFAULT_REGISTRY,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Compare two models: network, training, and figures; with a store, by paired tests on the same images.

    Example: cxrgaze models compare cxrgaze@v1 cxrgaze@v2 --store ./store --out changes.html
    """
    from cxrgaze_ray.evaluation.model_changes import compare_models
    from cxrgaze_ray.models.bundle import read_info
    from cxrgaze_ray.registry.versions import Registry
    from cxrgaze_ray.storage import open_output, open_store

    if out is not None:
        open_output(out)
    ledger = Registry(open_store(registry))
    pins = (ledger.resolve(first), ledger.resolve(second))
    infos = (read_info(open_store(pins[0].uri)), read_info(open_store(pins[1].uri)))
    names = (f"{pins[0].name}@{pins[0].version}", f"{pins[1].name}@{pins[1].version}")
    answers = _answers(ledger, pins, store, address, as_json) if store else None
    untrained = [name for name, pin in zip(names, pins, strict=True) if not pin.trained]
    warning = f"Untrained, so that its answers mean nothing: {', '.join(untrained)}." if untrained else ""
    _tell(compare_models(*infos, names, answers, _judged(ledger, pins, infos)), out, warning, as_json)


def _judged(
    registry: Registry, pins: tuple[ModelPin, ModelPin], infos: tuple[BundleInfo, BundleInfo]
) -> Section | None:
    """Return what the gate recorded of these two, if one of them was a candidate beside the other as its champion."""
    from cxrgaze_ray.evaluation.model_changes import gate_section
    from cxrgaze_ray.reports.model_card.gates import read_judgement

    for place in (0, 1):
        champion, candidate = pins[1 - place], pins[place]
        name = f"{champion.name}@{champion.version}"
        # a retraining starts from the champion that its gate compares the candidate with
        entry = registry.ledger(candidate.name).read().gate(candidate.version)
        if infos[place].lineage.parent != name or entry is None:
            continue
        if (report := read_judgement(registry.store.child(candidate.name), entry).report) is not None:
            return gate_section(report, name, f"{candidate.name}@{candidate.version}")
    return None


def _answers(
    registry: Registry, pins: tuple[ModelPin, ModelPin], store: str, address: str | None, as_json: bool
) -> tuple[EvaluationTable, EvaluationTable]:
    """Have both models answer a store's test split; their looks at it are entered first."""
    from cxrgaze_ray.cluster.connection import ClusterSettings, connect, kept
    from cxrgaze_ray.evaluation.answers import table_of_bundle
    from cxrgaze_ray.models.bundle import read_bundle
    from cxrgaze_ray.registry.looks import enter_look
    from cxrgaze_ray.shards import ShardStore
    from cxrgaze_ray.storage import open_store

    opened = ShardStore.open(store)
    bundles = [read_bundle(open_store(pin.uri)) for pin in pins]
    for bundle in bundles:
        bundle.info.check_profile(opened.info.profile, opened.info.profile_sha256)
    for pin in pins:
        enter_look(registry, pin, opened.parts, "cxrgaze models compare")
    tables: list[EvaluationTable] = []
    with kept(partial(connect, ClusterSettings(address=address))) as join, bar("Comparing", quiet=as_json) as progress:
        for bundle in bundles:
            tables.append(table_of_bundle(bundle, opened, "test", connect=join, on_progress=progress.update))
    return tables[0], tables[1]


def _tell(comparison: Comparison, out: str | None, warning: str, as_json: bool) -> None:
    """Show a comparison, and write its page."""
    from cxrgaze_ray.reports.comparison_page import comparison_page
    from cxrgaze_ray.storage import open_output

    if out is not None:
        place, key = open_output(out)
        place.put(key, comparison_page(comparison, warning=warning).encode())
    if as_json:
        told: dict[str, Any] = {**comparison.summary(), "warning": warning, "page": out}
        show(told, as_json=True)
        return
    for sentence in filter(None, (warning, comparison.conclusion)):
        say(sentence)
    for section in comparison.sections:
        if section.rows:
            # with its table, wherever that goes
            show({}, as_json=False, lines=["", section.title])
            print_table(list(section.columns), [list(row) for row in section.rows])
        else:
            say("")
            say(section.title)
        if section.note:
            say(section.note)
    if out is not None:
        say(f"The page is in {out}.")
