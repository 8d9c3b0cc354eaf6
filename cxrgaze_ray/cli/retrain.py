"""cxrgaze retrain."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cxrgaze_ray.cli.console import bar, print_table, say, show
from cxrgaze_ray.cli.options import Address, Json, TrackingUri, WorkMetricsPort

if TYPE_CHECKING:
    from cxrgaze_ray.lifecycle.retraining import Result, RetrainSettings


def retrain(
    config: Annotated[str, typer.Option(help="YAML: registry, stores, policy; see jobs/retrain.yaml.")],
    reason: Annotated[Literal["drift", "schedule", "manual"], typer.Option(help="Why to consider it.")] = "manual",
    auto_promote: Annotated[
        bool | None,
        typer.Option("--auto-promote/--no-auto-promote", help="Promote an accepted candidate; overrides the file."),
    ] = None,
    phases: Annotated[
        str | None, typer.Option(help="Only these, by comma: classifier trains only the fusion head, in minutes.")
    ] = None,
    page: Annotated[str | None, typer.Option("--out", help="Write the HTML page here too.")] = None,
    textfile: Annotated[str | None, typer.Option(help="Gauges to write for node_exporter; ends in .prom.")] = None,
    tracking: TrackingUri = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show the plan, and the decision unless data has to be ingested; change nothing."
        ),
    ] = False,
    metrics_port: WorkMetricsPort = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Decide, train a candidate from the champion, and have the gate judge it. The same command continues.

    Exit codes: 0 accepted, or nothing to do; 10 rejected; 11 cannot tell; 2 a person has to look first.

    Example: cxrgaze retrain --config jobs/retrain.yaml --reason schedule --auto-promote
    """
    from cxrgaze_ray.cluster.connection import ClusterSettings, connect
    from cxrgaze_ray.lifecycle.retraining import Hooks, Textfile, plan_retraining, run_retraining

    settings = settings_of(config, auto_promote, phases, page, tracking)
    if dry_run:
        _show_plan(plan_retraining(settings, reason), as_json)
        return
    with Textfile(textfile) as told, bar("Retraining", quiet=as_json) as progress:
        hooks = Hooks(
            on_begin=told.begin,
            say=(lambda _: None) if as_json else say,
            on_progress=lambda part, done, total: progress.update(done, total, part),
        )
        result = run_retraining(
            settings, reason, partial(connect, ClusterSettings(address=address, metrics_port=metrics_port)), hooks
        )
        told.end(result)
    _show(settings, result, as_json)
    raise typer.Exit(result.exit_code)


def settings_of(
    config: str, auto_promote: bool | None, phases: str | None, page: str | None, tracking: str | None
) -> RetrainSettings:
    """Return a file's settings with a command's options over them; ConfigError if one is wrong."""
    from cxrgaze_ray.lifecycle.retraining import read_retraining

    chosen = [phase.strip() for phase in phases.split(",")] if phases else None
    return read_retraining(config, auto_promote=auto_promote, phases=chosen, page=page, tracking=tracking)


def _show_plan(plan: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show(plan, as_json=True)
        return
    said = ("reasons", "warnings")
    print_table(["", ""], [[name.replace("_", " "), _words(value)] for name, value in plan.items() if name not in said])
    for sentence in (*plan["warnings"], *plan.get("reasons", ())):
        say(sentence)
    if pending := plan["to_ingest"]:
        verb = "is" if len(pending) == 1 else "are"
        say(f"What it decides depends on {_words(pending)}, which {verb} not ingested yet.")
    say("Nothing was changed.")


def _words(value: object) -> str:
    """Return a plan's value as plain words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        value = [f"{name} {one}" for name, one in value.items()]
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return "none" if value in (None, "") else str(value)


def _show(settings: RetrainSettings, result: Result, as_json: bool) -> None:
    from cxrgaze_ray.evaluation.gate import COLUMNS, gate_rows, left_out

    if as_json:
        show(result.summary(), as_json=True)
        return
    ended, gate = result.conclusion, result.gate
    if ended is None or gate is None:
        say(f"Decision: {result.decision.action}.")
        for why in result.decision.reasons:
            say(why)
        return
    if result.already:
        say(f"Retraining {ended.retraining_id} had already ended; nothing was done.")
    print_table(COLUMNS, [row.cells() for row in gate_rows(gate.judged)])
    show({}, as_json=False, lines=[
        *filter(None, [left_out(gate.criteria)]),
        f"{settings.name}@{ended.version}: {ended.outcome.replace('_', ' ')}. {ended.why}",
        f"In service: {'yes' if ended.promoted else 'no'}. Page: {result.page}",
    ])  # fmt: skip
