"""Errors carry their exit code, their hint and, across processes, themselves."""

from __future__ import annotations

import pickle

import pytest

from cxrgaze_ray import errors
from cxrgaze_ray.errors import CxrgazeError, EnvironmentFault, RadiographError, UserError
from cxrgaze_ray.schemas import Reason

EVERY = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CxrgazeError)),
    key=lambda kind: kind.__name__,
)
PLAIN = [kind for kind in EVERY if kind is not RadiographError]


@pytest.mark.parametrize("kind", PLAIN)
def test_exit_codes(kind: type[CxrgazeError]) -> None:
    if issubclass(kind, UserError):
        expected = 2
    elif issubclass(kind, EnvironmentFault):
        expected = 4
    else:
        expected = {errors.Interrupted: 130, errors.NothingNew: 0}.get(kind, 1)
    assert kind.exit_code == expected


@pytest.mark.parametrize("kind", PLAIN)
def test_pickling_keeps_message_and_hint(kind: type[CxrgazeError]) -> None:
    error = kind("It broke.", "Mend it.")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is kind
    assert (copy.message, copy.hint, str(copy)) == ("It broke.", "Mend it.", "It broke. Mend it.")


def test_pickling_keeps_the_reason() -> None:
    error = RadiographError(Reason.TRUNCATED, "The file ends early.")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is RadiographError
    assert (copy.reason, copy.message, copy.hint) == (Reason.TRUNCATED, "The file ends early.", "")
    assert str(copy) == "The file ends early."


def test_no_hint_leaves_no_space() -> None:
    assert str(UserError("It broke.")) == "It broke."
