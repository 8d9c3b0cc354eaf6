"""The command tree, and the handling of errors."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup, TyperOption

from cxrgaze_ray.cli import (
    archive,
    bench,
    bench_learning,
    bench_model,
    bench_serve,
    bench_soak,
    bench_streams,
    bench_train,
    cluster,
    compare,
    config,
    evaluate,
    examples,
    export,
    ingest,
    look,
    model_audit,
    model_export,
    model_import,
    models,
    monitor,
    operate,
    predict,
    query,
    retrain,
    runs,
    score,
    submit,
    tables,
    train,
    webhook,
)
from cxrgaze_ray.cli.command import Command
from cxrgaze_ray.cli.console import complain, set_volume, tell_bug, tell_error, terminal
from cxrgaze_ray.cli.defaults import Defaults
from cxrgaze_ray.cli.version import version_line
from cxrgaze_ray.cluster.address_space import SHORTAGES, address_space_fault
from cxrgaze_ray.cluster.connection import set_ray_environment
from cxrgaze_ray.cluster.interrupts import answer_as_ctrl_c
from cxrgaze_ray.errors import EXIT_INTERRUPTED, GOES_ON, CxrgazeError
from cxrgaze_ray.telemetry.logs import check_format, start_logging
from cxrgaze_ray.telemetry.traces import check_traces


class _Commands(TyperGroup):
    """The tree of commands."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run a command line, with the defaults that files and variables give."""
        set_volume(0)
        return super().main(*arguments, default_map=Defaults(self).tree(), **options)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; Typer's sentence on a wrong option comes without the exception that pydantic names in it."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ") + _origin(error)
            raise


def _origin(error: typer.BadParameter) -> str:
    """Say where a wrong value comes from, if it was not typed."""
    option, ctx = error.param, error.ctx
    if ctx is None or not isinstance(option, TyperOption) or any(name in sys.argv for name in option.opts):
        return ""
    words: list[str] = []
    here = ctx
    while here.parent is not None:
        words, here = [str(here.info_name), *words], here.parent
    given = Defaults(here.command).given(tuple(words), option)
    return f" It comes from {given.source}." if given else ""


class _Tree(typer.Typer):
    """A tree, or a branch of it, whose commands are all `Command`s."""

    def command(self, *arguments: Any, **options: Any) -> Any:
        """Return what registers a function as a command."""
        return super().command(*arguments, cls=Command, **options)


app = _Tree(
    name="cxrgaze",
    cls=_Commands,
    help="Score chest X-ray archives, and retrain the model that scores them. Research only, not for clinical use.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
archive_app = _Tree(help="Look at archives, or make one of phantoms.", no_args_is_help=True, rich_markup_mode=None)
models_app = _Tree(help="The model registry.", no_args_is_help=True, rich_markup_mode=None)
bench_app = _Tree(help="Measure this machine.", no_args_is_help=True, rich_markup_mode=None)
runs_app = _Tree(help="Scoring runs.", no_args_is_help=True, rich_markup_mode=None)

cluster_app = _Tree(help="A Ray cluster of one's own.", no_args_is_help=True, rich_markup_mode=None)
submit_app = _Tree(help="Jobs on a running cluster.", no_args_is_help=True, rich_markup_mode=None)
examples_app = _Tree(help="Files to begin with.", no_args_is_help=True, rich_markup_mode=None)
config_app = _Tree(help="Defaults of options.", no_args_is_help=True, rich_markup_mode=None)

app.command()(operate.demo)
app.add_typer(archive_app, name="archive")
archive_app.command("make")(archive.make)
archive_app.command("list")(archive.list_)
archive_app.command("look")(look.look)
app.command()(ingest.ingest)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(tables.tables)
app.command()(predict.predict)
app.command()(score.score)
app.command()(operate.serve)
app.command()(retrain.retrain)
app.command()(monitor.monitor)
app.command()(webhook.webhook)
app.add_typer(runs_app, name="runs")
runs_app.command("list")(runs.list_)
runs_app.command("show")(runs.show_)
runs_app.command("report")(runs.report)
runs_app.command("compare")(compare.runs)
runs_app.command("verify")(runs.verify)
runs_app.command("export")(export.export)
runs_app.command("query")(query.query)
app.add_typer(models_app, name="models")
models_app.command("init")(models.init)
models_app.command("import")(model_import.import_)
models_app.command("list")(models.list_)
models_app.command("show")(models.show_)
models_app.command("promote")(models.promote)
models_app.command("rollback")(models.rollback)
models_app.command("verify")(model_audit.verify)
models_app.command("card")(model_audit.card)
models_app.command("compare")(compare.models)
models_app.command("export")(model_export.export)
app.add_typer(bench_app, name="bench")
bench_app.command("listing")(bench.listing)
bench_app.command("decode")(bench.decode)
bench_app.command("model")(bench_model.model)
bench_app.command("train")(bench_train.train)
bench_app.command("learning")(bench_learning.learning)
bench_app.command("streams")(bench_streams.streams)
bench_app.command("serve")(bench_serve.serve)
bench_app.command("soak")(bench_soak.soak)
bench_app.command("pipeline")(bench.pipeline)
bench_app.command("memory")(bench.memory)
bench_app.command("planning")(bench.planning)
app.add_typer(config_app, name="config")
config_app.command("show")(config.show_)
config_app.command("env")(config.env)
app.add_typer(examples_app, name="examples")
examples_app.command("copy")(examples.copy)
app.add_typer(cluster_app, name="cluster")
cluster_app.command("up")(cluster.up)
cluster_app.command("status")(cluster.status)
cluster_app.command("down")(cluster.down)
app.add_typer(submit_app, name="submit")
for _name, _submits in submit.COMMANDS.items():
    submit_app.command(_name)(_submits)
submit_app.command("attach")(submit.attach)
submit_app.command("cancel")(submit.cancel)
app.command()(operate.doctor)


def _version(value: bool) -> None:
    if value:
        typer.echo(version_line())
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Accept the options of the command itself; everything else is in the subcommands."""


def main() -> None:
    """Run the command line: one clear line for expected errors, a traceback for bugs."""
    ours = set_ray_environment()
    answer_as_ctrl_c(terminal().file)  # copied now, before Ray's noise is diverted from it
    try:
        check_format()
        check_traces()
        start_logging(terminal().file)
        app(obj=ours)
    except CxrgazeError as error:
        _end(error)
    except SystemExit as leaving:  # Typer ends a command with 130 on KeyboardInterrupt
        if leaving.code == EXIT_INTERRUPTED:
            complain(f"cxrgaze: stopped. {GOES_ON}")
        raise
    except Exception as error:
        if isinstance(error, SHORTAGES) and (fault := address_space_fault()):
            _end(fault)
        sys.excepthook = tell_bug  # not earlier: Typer puts its own in place
        raise


def _end(error: CxrgazeError) -> NoReturn:
    tell_error(error)
    sys.exit(error.exit_code)
