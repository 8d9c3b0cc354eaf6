"""Follow a job to its end: what it says, whatever becomes of the connection and of the cluster's head meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty, Queue

from cxrgaze_ray.cluster.job_server import JobState, Server
from cxrgaze_ray.errors import EnvironmentFault, ServingUnavailable, UserError

_SILENCE_S = 15.0
"""Silence of a job after which its server is asked whether it is still there: a machine that is gone says nothing."""

_AGAIN_S = 1.0
Heard = Callable[[str], None]


class Follower:
    """Follows one job.

    Parameters
    ----------
    server, job
        Server, and the job's name there.
    hear
        Called with every line that the job says, once, without its line break.
    say
        Called with sentences for the user.
    patience_s
        Seconds for which a head that does not answer is waited for.
    again
        Command that follows the job again.
    sleep, clock
        Replaced by tests.
    """

    def __init__(
        self,
        server: Server,
        job: str,
        hear: Heard,
        say: Heard,
        *,
        patience_s: float,
        again: str,
        silence_s: float = _SILENCE_S,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server, self._job, self._hear, self._say = server, job, hear, say
        self._patience_s, self._again, self._silence_s = patience_s, again, silence_s
        self._sleep, self._clock = sleep, clock
        self._heard = 0

    def follow(self) -> JobState:
        """Return how the job ended, once it has.

        Raises
        ------
        UserError
            If there is no such job.
        ServingUnavailable
            If the head does not come back in time, or came back without the job.
        """
        session, seen = self._server.session(), False
        while True:
            state = self._state()
            if state is None:
                raise self._unknown(seen=seen, restarted=self._server.session() != session)
            seen = True
            self._listen(ended=state.ended)
            if state.ended:
                return state
            self._sleep(_AGAIN_S)

    def _listen(self, *, ended: bool) -> None:
        """Pass on what the job says until it has ended, or the connection has: then half a line may be its last."""
        words: Queue[str | None] = Queue()
        self._server.tail(self._job, words)
        lines = _Lines(self._heard, self._hear)
        try:
            while True:
                try:
                    said = words.get(timeout=self._silence_s)
                except Empty:
                    if not self._there():
                        return
                    continue
                if said is None:
                    break
                lines.take(said)
            if ended:
                lines.end()
        finally:
            self._heard = lines.passed

    def _there(self) -> bool:
        try:
            return self._server.state(self._job) is not None
        except ServingUnavailable:
            return False

    def _state(self) -> JobState | None:
        """Return the job's state, from a head that is waited for."""
        last, told = self._clock() + self._patience_s, False
        while True:
            try:
                found = self._server.state(self._job)
            except ServingUnavailable as error:
                if self._clock() >= last:
                    raise ServingUnavailable(
                        f"The head at {self._server.url} has not answered for {self._patience_s:.0f} s; whether "
                        f"{self._job} goes on can't be told.",
                        f"When it is back: {self._again}",
                    ) from error
                if not told:
                    self._say(f"The head does not answer. Waiting for it, up to {self._patience_s:.0f} s.")
                    told = True
                self._sleep(_AGAIN_S)
            else:
                if told and found is not None:
                    self._say(f"The head is back, and has {self._job} still.")
                return found

    def _unknown(self, *, seen: bool, restarted: bool) -> EnvironmentFault | UserError:
        if not seen:
            return UserError(
                f"The cluster at {self._server.url} knows no job {self._job}.", "See cxrgaze cluster status."
            )
        why = "was started anew" if restarted else "has forgotten it"
        return ServingUnavailable(
            f"{self._job} is lost: the cluster at {self._server.url} {why}, and jobs end with their head.",
            "Submit it again: what it committed stands, and it goes on from there.",
        )


class _Lines:
    """Makes lines of what a job says, and leaves out those of a connection before."""

    def __init__(self, skip: int, hear: Heard) -> None:
        self.passed = skip
        self._skip, self._hear = skip, hear
        self._rest, self._count = "", 0

    def take(self, said: str) -> None:
        """Take the next piece of text."""
        *whole, self._rest = (self._rest + said).split("\n")
        for line in whole:
            self._pass(line)

    def end(self) -> None:
        """Take what stands without a line break as a line, once the job has ended."""
        if self._rest:
            self._pass(self._rest)
            self._rest = ""

    def _pass(self, line: str) -> None:
        self._count += 1
        if self._count > self._skip:
            self.passed = self._count
            self._hear(line)
