"""What `cxrgaze submit` does once its options are read: sends a job, follows it, and ends as the job did."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import typer

from cxrgaze_ray import __version__
from cxrgaze_ray.cli.cluster_status import status_of, version_warnings
from cxrgaze_ray.cli.console import asks, complain, say, say_detail, show
from cxrgaze_ray.cli.job_settings import FROM_OPTIONS, checked_settings, job_class, job_file, local_paths, waiting_for
from cxrgaze_ray.errors import EXIT_INTERRUPTED, EnvironmentFault, Interrupted, UserError

if TYPE_CHECKING:
    from cxrgaze_ray.cluster.job_server import JobServer, JobState
    from cxrgaze_ray.cluster.joining import Found

_STANDS = "What it committed stands; submitted again, it goes on from there."
_SIGNALS = 128
"""Exit codes from here on are those of a process that a signal ended."""


def submit(
    name: str,
    options: dict[str, Any] | None,
    file: str | None,
    *,
    gpus: int | None,
    no_wait: bool,
    patience: float,
    address: str | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Send a job with a command's options, or a file's settings, and follow it.

    Raises
    ------
    UserError
        If the options or the file are wrong, or the token is not the cluster's.
    EnvironmentFault
        If no cluster answers.
    """
    from cxrgaze_ray.cluster.job_server import JobServer
    from cxrgaze_ray.cluster.joining import find_cluster

    found = find_cluster(address, token_file)
    found.dashboard.version()  # before the seconds that reading the settings takes
    asked = _from_file(name, str(file)) if options is None else FROM_OPTIONS[name](options)
    settings = checked_settings(name, asked if gpus is None else waiting_for(gpus, name, asked))
    _warn(found, settings)
    job, server = f"{name}-{secrets.token_hex(4)}", JobServer(found.dashboard, found.token_file)
    again = _again(job, found)
    with _told_apart() as by_others:
        try:
            _send(server, job, name, settings)
        except KeyboardInterrupt:
            hint = f"See whether the cluster has it: {again}"
            raise Interrupted(f"{job} was being sent.", hint) from None
        if no_wait:
            show({"job": job, "follow": again}, as_json=as_json, lines=[f"{job} is submitted. Follow it: {again}"])
            return
        begun = f"{job} is submitted to {found.dashboard.url}."
        ended = _followed(_Followed(server, job, again, patience, by_others), begun)
    _end(job, *ended, as_json=as_json)


def follow(job: str, *, patience: float, address: str | None, token_file: Path | None, as_json: bool) -> None:
    """Follow a job that was sent before, from its beginning, and end as it does."""
    from cxrgaze_ray.cluster.job_server import JobServer
    from cxrgaze_ray.cluster.joining import find_cluster

    found = find_cluster(address, token_file)
    server = JobServer(found.dashboard, found.token_file)
    with _told_apart() as by_others:
        ended = _followed(_Followed(server, job, _again(job, found), patience, by_others), "")
    _end(job, *ended, as_json=as_json)


def stop(job: str, address: str | None, token_file: Path | None, *, as_json: bool) -> None:
    """Tell a job to end.

    Raises
    ------
    UserError
        If there is no such job, or it has ended.
    """
    from cxrgaze_ray.cluster.job_server import JobServer
    from cxrgaze_ray.cluster.joining import find_cluster

    found = find_cluster(address, token_file)
    server = JobServer(found.dashboard, found.token_file)
    state = server.state(job)
    if state is None or state.ended:
        why = "knows no such job" if state is None else f"has it as {state.status.lower()} already"
        raise UserError(f"{job} can't be cancelled: the cluster {why}.", "See cxrgaze cluster status.")
    server.stop(job)
    line = f"{job} is told to end; what it committed stands. See its end: {_again(job, found)}"
    show({"job": job, "told_to_end": True}, as_json=as_json, lines=[line])


def _from_file(name: str, file: str) -> dict[str, Any]:
    from cxrgaze_ray.storage import read_settings

    return read_settings(job_class(name), file).model_dump(exclude_unset=True)


def _send(server: JobServer, job: str, name: str, settings: dict[str, Any]) -> None:
    entrypoint = shlex.join(["python", f"{name}.py", "--config", f"{name}.yaml"])
    with TemporaryDirectory(prefix="cxrgaze-job-") as folder:
        _pack(Path(folder), name, settings)
        server.submit(job, entrypoint, Path(folder), {"cxrgaze": __version__, "command": name})


def _pack(folder: Path, name: str, settings: dict[str, Any]) -> None:
    """Put into a folder what is sent: the entry point and its settings."""
    import yaml

    shutil.copyfile(job_file(name), folder / f"{name}.py")
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False))


def _warn(found: Found, settings: dict[str, Any]) -> None:
    """Say what may go wrong on a cluster of several machines."""
    status = status_of(found)
    for sentence in version_warnings(status):
        say(sentence)
    paths, nodes = local_paths(settings), len({one["node"] for one in status["nodes"] if one["state"] == "ALIVE"})
    if paths and (nodes > 1 or found.standing is None):
        say(f"Warning: {paths[0]} is a path: every node of the cluster must see the same files there.")


def _again(job: str, found: Found) -> str:
    words = ["cxrgaze", "submit", "attach", job]
    if found.standing is None:
        words += ["--address", found.dashboard.url]
        words += ["--token-file", str(found.token_file)] if found.token_file else []
    return shlex.join(words)


_OF_RAY = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\s*(\t|\\t)"
    r"|\[\d{4}-\d\d-\d\d [^]]*\] \w+\.cc:\d+: "
    r"|\([\w.: ]+ pid=\d+[^)]*\) "
)
"""Lines that Ray's own loggers and processes write among a job's."""


class _Followed(NamedTuple):
    """A job, how it is followed again, and the signals of those who asked to stop and are at no terminal."""

    server: JobServer
    job: str
    again: str
    patience_s: float
    by_others: list[int]


def _followed(it: _Followed, begun: str) -> tuple[JobState, dict[str, Any], bool]:
    """Return how a job ended, its result, and whether it was cancelled; whoever stops this is told how to go on."""
    follower, heard, cancelled = None, _Heard(), False
    while True:
        try:
            if follower is None:
                from cxrgaze_ray.cluster.following import Follower

                follower = Follower(it.server, it.job, heard.hear, say, patience_s=it.patience_s, again=it.again)
                if begun:
                    say(begun)
            return follower.follow(), heard.result, cancelled
        except KeyboardInterrupt:
            if cancelled or it.by_others or not asks(f"Cancel {it.job}? Otherwise it goes on without this terminal."):
                how = "is being cancelled" if cancelled else "goes on"
                raise Interrupted(f"{it.job} {how}.", f"Follow it again: {it.again}") from None
            it.server.stop(it.job)
            cancelled = True
            say(f"{it.job} is told to end, and has a minute for it. Ctrl-C again leaves it to that.")


def _end(job: str, state: JobState, result: dict[str, Any], cancelled: bool, *, as_json: bool) -> None:
    """Show how a job ended, and end likewise."""
    told = {"job": job, "status": state.status, "exit_code": state.exit_code, "result": result}
    if as_json:
        show(told, as_json=True)
    if state.status == "STOPPED":
        _stopped(job, cancelled=cancelled)
    if state.exit_code is None or state.exit_code < 0 or state.exit_code > _SIGNALS + signal.SIGINT:
        raise EnvironmentFault(
            f"{job} was killed before its end, by lack of memory, the loss of its node or somebody.",
            "Submit it again: what it committed stands, and it goes on from there.",
        )
    if state.exit_code == EXIT_INTERRUPTED:
        raise Interrupted(f"{job} was told to stop.", _STANDS)
    if state.exit_code == 0:
        if not as_json:
            show(result, as_json=False, lines=_run_lines(result))
        return
    complain(f"cxrgaze: {job} ended with exit code {state.exit_code}: {result.get('message') or 'see what it said.'}")
    raise typer.Exit(state.exit_code)


def _run_lines(result: dict[str, Any]) -> list[str] | None:
    """Return what `cxrgaze score` says at its end; None for another job's result, which is shown as it is."""
    from cxrgaze_ray.cli.score import run_lines
    from cxrgaze_ray.scoring.runs import Success

    if not {"run", "counts", "closed_folders"} <= result.keys():
        return None
    success = {name: result[name] for name in Success.model_fields if name in result}
    return run_lines(result["run"], Success.model_validate(success | {"shards": []}), result["closed_folders"])


def _stopped(job: str, *, cancelled: bool) -> NoReturn:
    if cancelled:
        raise Interrupted(f"{job} is cancelled.", _STANDS)
    raise EnvironmentFault(f"Somebody else stopped {job}.", _STANDS)


class _Heard:
    """Passes on what a job says, and keeps its result: the last line that is JSON."""

    def __init__(self) -> None:
        self.result: dict[str, Any] = {}

    def hear(self, line: str) -> None:
        """Take a line."""
        try:
            found = json.loads(line) if line.startswith("{") else None
        except ValueError:
            found = None
        if isinstance(found, dict):
            self.result = found
        elif _OF_RAY.match(line):
            say_detail(line)
        else:
            say(line)


@contextmanager
def _told_apart() -> Iterator[list[int]]:
    """Yield a list that gets the number of a signal which nobody at the terminal sent: nobody is there to be asked."""
    by_others: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def answer(number: int, frame: FrameType | None) -> None:
        by_others.append(number)
        known = before[signal.Signals(number)]
        if callable(known):
            known(number, frame)

    for number, known in before.items():
        if callable(known):
            signal.signal(number, answer)
    try:
        yield by_others
    finally:
        for number, known in before.items():
            signal.signal(number, known)
