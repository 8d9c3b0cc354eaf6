"""The service under load while things fail, from its start to what is told of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cxrgaze_ray.benchmark.latency import core_count, host
from cxrgaze_ray.benchmark.processes import run_apart
from cxrgaze_ray.benchmark.samples import jpeg_phantom
from cxrgaze_ray.benchmark.soak.cluster import REPLICAS, nodes, serve_file
from cxrgaze_ray.benchmark.soak.faults import KILLS, Burst, Event, Stage
from cxrgaze_ray.benchmark.soak.memory import Held, MemoryLog, held_by_role
from cxrgaze_ray.benchmark.soak.promises import Promise, Tally, during, judge, tally
from cxrgaze_ray.benchmark.soak.requests import malformed, sound
from cxrgaze_ray.benchmark.soak.traffic import Traffic

_IMAGES = 12
_FOLLOW_EVERY_S = 2.0
_CALM_S = 15.0
_VERSIONS = ("v0001", "v0002")


@dataclass(frozen=True)
class SoakFigures:
    """What was measured, on what.

    Attributes
    ----------
    preset, cores, clients, minutes, replicas
        The network, the machine's cores, clients that always ask, the length of the steady part, and replicas of each
        deployment.
    ready_seconds
        From the start of the service on a cluster that runs to its first readiness.
    tallies
        What clients got, event by event.
    held
        Memory of the processes that serve, in the steady part.
    promises
        What the service promises, and whether it kept it.
    """

    preset: str
    cores: int
    clients: int
    minutes: float
    replicas: int
    ready_seconds: float
    tallies: tuple[Tally, ...] = ()
    held: tuple[Held, ...] = ()
    promises: tuple[Promise, ...] = field(default=())

    @property
    def kept(self) -> bool:
        """Whether every promise was."""
        return all(one.kept for one in self.promises)


def bench_soak(
    preset: str = "tiny",
    clients: int = 4,
    minutes: float = 1.0,
    burst: int = 600,
    patience_s: float = 20.0,
    say: Callable[[str], None] = lambda _: None,
) -> SoakFigures:
    """Load a service on a head and two nodes of this machine, have things fail, and judge it.

    Parameters
    ----------
    preset
        The untrained network.
    clients
        Clients that always ask; each asks again once it is answered, or when Retry-After says.
    minutes
        Length of the steady part at the end.
    burst, patience_s
        Clients that ask at once, and the seconds after which each hangs up.
    say
        Called with what happens.
    """
    with tempfile.TemporaryDirectory(prefix="cxrgaze-soak-") as name, nodes() as beside:
        folder = Path(name)
        hosted = host(folder, preset, _IMAGES, partial(serve_file, follow_every_s=_FOLLOW_EVERY_S))
        say(f"Ready after {hosted.ready_seconds:.1f} s.")
        another = ("--preset", preset, "--seed", "6", "--no-promote", "--registry", str(folder / "registry"))
        run_apart("-m", "cxrgaze_ray", "models", "init", *another)
        jpeg = jpeg_phantom()
        kinds = sound(hosted.dicom, jpeg)
        with Traffic(hosted.port, kinds, malformed(hosted.dicom, jpeg), clients) as traffic, MemoryLog() as memory:
            stage = Stage(traffic, beside, folder / "registry", _VERSIONS, _FOLLOW_EVERY_S, say)
            crowd = _play(stage, minutes, lambda: stage.burst(kinds[0], burst, patience_s))
    steady = [one for one in memory.looks if stage.windows[-1].began <= one.when <= stage.windows[-1].ended]
    held = held_by_role(steady)
    promises = judge(traffic.answers, stage.windows, crowd, held, steady)
    tallies = map(tally, stage.windows, during(traffic.answers, stage.windows))
    setting = (preset, core_count(), clients, minutes, REPLICAS, hosted.ready_seconds)
    return SoakFigures(*setting, tuple(tallies), tuple(held), tuple(promises))


def _play(stage: Stage, minutes: float, burst: Callable[[], Burst]) -> Burst:
    stage.calm(_CALM_S)
    crowd = burst()
    stage.move_champion()
    stage.lose_store()
    for event in Event:
        if event in KILLS:
            stage.kill(event)
    stage.calm(60 * minutes, Event.STEADY)
    return crowd
