"""Errors and control exceptions: one family each, readable and picklable."""

from __future__ import annotations

import pickle
import uuid
from datetime import timedelta

import pytest

from tasks_app import exceptions
from tasks_app.exceptions import (
    ConfigurationError,
    Control,
    Discard,
    IdempotencyConflict,
    InvalidArgument,
    LeaseLost,
    Retry,
    Snooze,
    TaskCancelled,
    TaskFailed,
    TasksAppError,
)

OUTCOME_ID = uuid.UUID("0193b0a1-5b3c-7c63-8d2e-6a1f8e0f3c11")

EXAMPLES: list[Exception] = [
    TasksAppError(),
    TasksAppError("said otherwise"),
    InvalidArgument("no", path="args[0]", remedy="pass a list"),
    IdempotencyConflict("taken", outcome_id=OUTCOME_ID),
    LeaseLost(OUTCOME_ID, 7),
    LeaseLost(),
    TaskFailed(OUTCOME_ID, "retries_exhausted", "builtins.ValueError", "no seat", "Traceback…"),
    TaskFailed(),
    TaskCancelled(outcome_id=OUTCOME_ID),
    ConfigurationError(),
    Retry(),
    Retry(after=2.5),
    Snooze(after=timedelta(minutes=1)),
    Discard("the order is gone"),
    Discard(),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=repr)
def test_every_exception_comes_back_from_pickle_as_it_was(error: Exception) -> None:
    """Celery's pools pickle exceptions between processes; nothing may get lost."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickle.dumps(error, protocol))
        assert type(back) is type(error)
        assert vars(back) == vars(error)
        assert back.args == error.args
        assert str(back) == str(error)


@pytest.mark.parametrize(
    "name",
    [
        "InvalidArgument",
        "IdempotencyConflict",
        "LeaseLost",
        "TaskFailed",
        "TaskCancelled",
        "ConfigurationError",
    ],
)
def test_every_error_is_a_tasks_app_error_with_a_default_message(name: str) -> None:
    """One except clause catches them all, and none is ever silent."""
    kind = getattr(exceptions, name)
    assert issubclass(kind, TasksAppError)
    assert (kind.__doc__ or "").split(".")[0].split()[0] in str(kind())


def test_an_invalid_argument_is_what_json_dumps_callers_already_catch() -> None:
    """Code that guards json.dumps catches TypeError or ValueError."""
    assert issubclass(InvalidArgument, TypeError)
    assert issubclass(InvalidArgument, ValueError)


@pytest.mark.parametrize("kind", [Retry, Snooze, Discard])
def test_control_is_no_error(kind: type[Exception]) -> None:
    """A helper's `except TasksAppError` must not swallow its own Retry."""
    assert issubclass(kind, Control)
    assert not issubclass(kind, TasksAppError)


def test_waits_are_kept_as_timedelta() -> None:
    """Seconds and timedelta mean the same; no wait means the policy decides."""
    assert Retry().after is None
    assert Retry(2).after == timedelta(seconds=2)
    assert Retry(after=timedelta(days=1)).after == timedelta(days=1)
    assert Snooze(0.5).after == timedelta(milliseconds=500)


@pytest.mark.parametrize("kind", [Retry, Snooze])
def test_a_senseless_wait_is_refused_where_it_is_written(kind: type[Retry | Snooze]) -> None:
    """The traceback points at the helper's line, not at the worker."""
    with pytest.raises(ValueError, match=rf"{kind.__name__}\(after"):
        kind(after=-1)
    with pytest.raises(TypeError, match=rf"{kind.__name__}\(after"):
        kind(after="soon")  # type: ignore[arg-type]


def test_a_snooze_says_for_how_long() -> None:
    """Without a wait there is nothing to snooze."""
    with pytest.raises(TypeError):
        Snooze()  # type: ignore[call-arg]


def test_messages_name_the_outcome_and_the_cause() -> None:
    """Whoever reads only the text can still find the row."""
    lost = str(LeaseLost(OUTCOME_ID, 7))
    assert str(OUTCOME_ID) in lost
    assert "fence 7" in lost
    failed = str(TaskFailed(OUTCOME_ID, "not_retryable", "shop.NoSeat", "row 12", "Traceback x"))
    assert failed == f"shop.NoSeat: row 12 (outcome {OUTCOME_ID}, not_retryable)"
    assert "Traceback x" not in failed
    assert str(Discard("the order is gone")) == "the order is gone"
    assert "0:01:00" in str(Snooze(60))
