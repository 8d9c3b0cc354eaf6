"""Every error cxrgaze raises on purpose, named by who must act.

::

    CxrgazeError
    ├── UserError                 exit 2: change the command, the file or the settings
    │   ├── ConfigError           a settings file or option has a wrong key or value
    │   ├── StoreNotFound         no such bucket, folder or object
    │   ├── BundleError           a bundle is malformed, or its hash does not match its weights
    │   ├── TrainingDiverged      a loss, gradient or weight is not finite: the training's settings must change
    │   ├── RegistryError         no such model, version or alias, or the ledger is broken
    │   │   └── PromotionConflict   somebody else moved the alias meanwhile
    │   └── RunConflict           the run is held by another driver, or is not what the command asks for
    ├── EnvironmentFault          exit 4: nothing is wrong with the input; run the same command again
    │   ├── StoreUnavailable      endpoint unreachable, timeout, 5xx, disk full
    │   ├── StoreDenied           credentials missing, wrong, expired or not allowed
    │   │   └── ObjectDenied        one object the store says is unreadable; a row if it is an input
    │   └── ServingUnavailable    the Serve application is not there, or lost its replicas for good
    ├── NothingNew                exit 0: every input has its row in another run already
    ├── Interrupted               exit 130: the user asked to stop; what was committed stands
    └── RadiographError           one input cannot be used: becomes a row, never ends a job

A message is one sentence that says what happened; ``hint`` says what to do next. Neither holds patient data.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

EXIT_DONE = 0
EXIT_BUG = 1
EXIT_USER = 2
EXIT_STRICT = 3
EXIT_ENVIRONMENT = 4
EXIT_REJECTED = 10
"""The gate found the candidate worse: not a failure of the command, and nothing to retry."""

EXIT_CANNOT_TELL = 11
"""The gate had too little to go on."""

EXIT_INTERRUPTED = 130


class CxrgazeError(Exception):
    """Root of the tree.

    Parameters
    ----------
    message
        One sentence: what happened.
    hint
        One sentence: the next step, or empty.
    """

    exit_code = EXIT_BUG

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UserError(CxrgazeError):
    """The user must change something before trying again."""

    exit_code = EXIT_USER


class ConfigError(UserError):
    """A settings file or option has a wrong key or value."""


class StoreNotFound(UserError):
    """No such bucket, folder or object."""


class BundleError(UserError):
    """A bundle is malformed, or its hash does not match its weights."""


class TrainingDiverged(UserError):
    """A loss, gradient or weight is not finite: the same training would end there again."""


class RegistryError(UserError):
    """No such model, version or alias, or the ledger is broken."""


class PromotionConflict(RegistryError):
    """Somebody else moved the alias meanwhile: nothing was written, and the user should look again."""


class RunConflict(UserError):
    """The run is held by another driver, or is not what the command asks for."""


class EnvironmentFault(CxrgazeError):
    """Nothing is wrong with the input: the same command works once the environment does."""

    exit_code = EXIT_ENVIRONMENT


class StoreUnavailable(EnvironmentFault):
    """Endpoint unreachable, timeout, 5xx or full disk."""


class StoreDenied(EnvironmentFault):
    """Credentials are missing, wrong, expired or not allowed to do this."""


class ObjectDenied(StoreDenied):
    """This one object can't be read, as facts about the object itself show: no outage looks like that."""


class ServingUnavailable(EnvironmentFault):
    """The Serve application is not there, or lost its replicas for good."""


class NothingNew(CxrgazeError):
    """Every input has its row in another run already: there is nothing to do."""

    exit_code = EXIT_DONE


GOES_ON = "Given again, the command goes on from what it had committed, or begins anew where nothing was."
"""What is true of every command that was stopped."""


class Interrupted(CxrgazeError):
    """The user asked to stop; what was committed stands."""

    exit_code = EXIT_INTERRUPTED


class RadiographError(CxrgazeError):
    """One input cannot be used: it becomes a row with a reason, and never ends a job.

    Parameters
    ----------
    reason
        A `cxrgaze_ray.schemas.Reason`.
    message
        One sentence for the person who looks the row up; no patient data.

    Attributes
    ----------
    facts
        What the tags said before the input was refused, keyed by the names in `schemas.FACT_FIELDS`; often empty.
    patient, study
        The file's own identifiers, for the row's keyed hashes; never part of the message.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.args = (reason, message)
        self.reason = reason
        self.facts: dict[str, Any] = {}
        self.patient: str | None = None
        self.study: str | None = None


def place_of(error: BaseException) -> str:
    """Return an error's type and where it was raised, for logs: never its message, which may quote a patient's file."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
