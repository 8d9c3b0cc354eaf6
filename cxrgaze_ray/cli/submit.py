"""cxrgaze submit: the work of a command as a job on a running cluster."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import copy
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from cxrgaze_ray.cli import ingest, monitor, retrain, score, tables, train
from cxrgaze_ray.cli.options import ClusterUrl, Json, TokenFile
from cxrgaze_ray.errors import ConfigError

JobFile = Annotated[
    str | None,
    typer.Option(
        "--job", metavar="FILE", help="The job's whole YAML, such as jobs/NAME.yaml, instead of options and arguments."
    ),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return once the cluster has it, with the job's name.")]
Patience = Annotated[
    float, typer.Option(min=0, max=86_400, help="Seconds for which a head that does not answer is waited for.")
]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="Name that `submit` gave it; see cxrgaze cluster status.")]

Gpus = Annotated[
    int | None, typer.Option(min=1, help="GPUs to wait for, which an autoscaler is asked for; else what is there.")
]

_OWN = ("job", "gpus", "no_wait", "patience", "address", "token_file", "as_json")
_HERE_ONLY = {"address", "as_json", "strict", "pictures", "serve_metrics", "every", "host", "metrics_port"}
"""Options of commands that are of no use on a cluster; textfiles and dry runs too, but for those that jobs have."""


def _submit(name: str, of: Callable[..., None], without: tuple[str, ...], example: str) -> Callable[..., None]:
    """Return the command that submits a job: with the options of the command whose work it does, and its own."""

    def command(context: typer.Context, **given: Any) -> None:
        from cxrgaze_ray.cli.submitting import submit

        own = {key: given.pop(key) for key in _OWN if key in given}
        file = own.pop("job")
        missing = [key for key in required if given[key] is None]
        if file is None and missing:
            raise typer.BadParameter("Give it, or the job's whole YAML: --job FILE.", param_hint=_spelt(missing[0]))
        typed = [key for key in given if _typed(context, key)]
        if file is not None and typed:
            raise ConfigError(
                f"--job has all settings of the job: leave out {_spelt(typed[0])}.", "Or write that into the file."
            )
        submit(name, given if file is None else None, file, **own)

    offered = _offered(of, {*_HERE_ONLY, *without})
    required = [one.name for one in offered if one.default is inspect.Parameter.empty]
    parameters = [_context(), *map(_not_required, offered), *_own_parameters()]
    command.__doc__ = (
        f"Submit `cxrgaze {name}` as a job to a running cluster, and follow it: its exit code is this command's.\n\n"
        "Ctrl-C asks whether to cancel it. Files stay where they are: nothing but the settings is sent.\n\n"
        f"Example: cxrgaze submit {name} {example}"
    )
    command.__name__ = name
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    vars(command)["__signature__"] = inspect.Signature(parameters)
    return command


def _offered(of: Callable[..., None], without: set[str]) -> list[inspect.Parameter]:
    """Return a command's parameters, with their types in full."""
    types = get_type_hints(of, include_extras=True)
    found = inspect.signature(of).parameters.values()
    return [
        one.replace(annotation=types[one.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for one in found
        if one.name not in without
    ]


def _not_required(one: inspect.Parameter) -> inspect.Parameter:
    """Return a parameter that may be left out: a file may say it."""
    if one.default is not inspect.Parameter.empty:
        return one
    assert get_origin(one.annotation) is Annotated
    kind, info = get_args(one.annotation)
    return one.replace(annotation=Annotated[kind | None, _calm(info)], default=None)


def _calm(info: ArgumentInfo | OptionInfo) -> ArgumentInfo | OptionInfo:
    """Return how a parameter is parsed, where what is not there is not looked at."""
    calm, look = copy(info), info.callback
    if look is not None:
        calm.callback = _look_at(look)
    return calm


def _look_at(look: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else look(value)


def _context() -> inspect.Parameter:
    return inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)


def _own_parameters() -> list[inspect.Parameter]:
    own: dict[str, tuple[Any, Any]] = {
        "job": (JobFile, None),
        "gpus": (Gpus, None),
        "no_wait": (NoWait, False),
        "patience": (Patience, 120.0),
        "address": (ClusterUrl, None),
        "token_file": (TokenFile, None),
        "as_json": (Json, False),
    }
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in own.items()
    ]


def _typed(context: typer.Context, key: str) -> bool:
    source = context.get_parameter_source(key)
    return source is not None and source.name == "COMMANDLINE"


def _spelt(key: str) -> str:
    return key.upper() if key in ("archive", "store") else f"--{key.replace('_', '-')}"


COMMANDS: dict[str, Callable[..., None]] = {
    "score": _submit("score", score.score, ("dry_run",), "s3://hospital/cxr --out s3://results/cxr"),
    "ingest": _submit("ingest", ingest.ingest, (), "s3://hospital/cxr --out s3://stores/cxr"),
    "train": _submit("train", train.train, (), "s3://stores/cxr --registry s3://models/registry"),
    "retrain": _submit("retrain", retrain.retrain, ("dry_run", "textfile"), "--config jobs/retrain.yaml"),
    "tables": _submit("tables", tables.tables, ("dry_run",), "s3://stores/egd --out s3://results/tables"),
    "monitor": _submit("monitor", monitor.monitor, (), "--baseline s3://runs/usual --current s3://runs/new"),
}
"""Commands whose work can be a job."""


def attach(
    job: JobName,
    patience: Patience = 120.0,
    address: ClusterUrl = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Follow a job that was submitted before, from its beginning; its exit code is this command's.

    Example: cxrgaze submit attach score-3f0c5a9d
    """
    from cxrgaze_ray.cli.submitting import follow

    follow(job, patience=patience, address=address, token_file=token_file, as_json=as_json)


def cancel(job: JobName, address: ClusterUrl = None, token_file: TokenFile = None, as_json: Json = False) -> None:
    """Tell a job to end, as Ctrl-C does to its command: what it committed stands.

    Example: cxrgaze submit cancel score-3f0c5a9d
    """
    from cxrgaze_ray.cli.submitting import stop

    stop(job, address, token_file, as_json=as_json)
