"""
Every error of tasks_app, and the three ways a helper ends its own attempt.

Errors derive from `TasksAppError`; a class's docstring is its default message. What a helper
raises to steer its attempt derives from `Control` and is no error: ``except TasksAppError`` does
not catch it. All of them survive pickling, since Celery's pools send exceptions between processes.
"""

from __future__ import annotations

import inspect
from datetime import timedelta
from uuid import UUID

from tasks_app.durations import as_timedelta


def _default_message(kind: type[BaseException]) -> str:
    # python -OO drops docstrings; the class name still says something then.
    paragraph = inspect.cleandoc(kind.__doc__ or kind.__name__).split("\n\n")[0]
    return " ".join(paragraph.split())


class TasksAppError(Exception):
    """tasks_app could not do what was asked."""

    def __str__(self) -> str:
        return super().__str__() or _default_message(type(self))


class InvalidArgument(TasksAppError, TypeError, ValueError):
    """
    A task was called with a value that would not come back identical.

    It is both a `TypeError` and a `ValueError`, because ``json.dumps`` raises the one or the
    other for the same mistakes and existing callers guard against either. The message never
    contains the value, only where it is, its type and what to pass instead.

    Attributes:
        path: where the value is, such as ``args[0].items[3]``; empty when not known.
        remedy: what to pass instead; empty when not known.

    """

    def __init__(self, *args: object, path: str = "", remedy: str = "") -> None:
        super().__init__(*args)
        self.path = path
        self.remedy = remedy


class IdempotencyConflict(TasksAppError):
    """
    The idempotency key is in use for a call of the same task with other arguments.

    Attributes:
        outcome_id: the outcome that holds the key, when known.

    """

    def __init__(self, *args: object, outcome_id: UUID | None = None) -> None:
        super().__init__(*args)
        self.outcome_id = outcome_id


class LeaseLost(TasksAppError):
    """
    The run no longer owns its outcome: somebody else rescued, ended or took it.

    Whatever the run wrote in the outcome's transaction is rolled back.

    Attributes:
        outcome_id: the outcome the run worked on.
        fence: the number that named the run, and names it no longer.

    """

    def __init__(self, outcome_id: UUID | None = None, fence: int | None = None) -> None:
        super().__init__(outcome_id, fence)
        self.outcome_id = outcome_id
        self.fence = fence

    def __str__(self) -> str:
        message = _default_message(type(self))
        if self.outcome_id is None:
            return message
        return f"{message} (outcome {self.outcome_id}, fence {self.fence})"


class TaskFailed(TasksAppError):
    """
    The task failed for good.

    Raised by ``outcome.get()``; the error happened in a worker and is told here in words.

    Attributes:
        outcome_id: the failed outcome.
        reason: why it was given up, such as ``retries_exhausted``.
        error_type: the dotted name of the helper's exception.
        error: its text, one line, redacted.
        traceback: the last attempt's traceback as text, redacted; empty when none was kept.

    """

    def __init__(
        self,
        outcome_id: UUID | None = None,
        reason: str = "",
        error_type: str = "",
        error: str = "",
        traceback: str = "",
    ) -> None:
        super().__init__(outcome_id, reason, error_type, error, traceback)
        self.outcome_id = outcome_id
        self.reason = reason
        self.error_type = error_type
        self.error = error
        self.traceback = traceback

    def __str__(self) -> str:
        told = ": ".join(part for part in (self.error_type, self.error) if part)
        text = told or _default_message(type(self))
        where = ", ".join(
            part for part in (self.outcome_id and f"outcome {self.outcome_id}", self.reason) if part
        )
        return f"{text} ({where})" if where else text


class TaskCancelled(TasksAppError):
    """
    The task was cancelled before it could finish.

    Raised by ``outcome.get()`` for a cancelled outcome and by ``current.raise_if_cancelled()``.

    Attributes:
        outcome_id: the cancelled outcome, when known.

    """

    def __init__(self, *args: object, outcome_id: UUID | None = None) -> None:
        super().__init__(*args)
        self.outcome_id = outcome_id


class ConfigurationError(TasksAppError):
    """A setting or task option of tasks_app is wrong."""


class Control(Exception):
    """How a running helper ends its attempt on purpose."""

    def __str__(self) -> str:
        return super().__str__() or _default_message(type(self))


class _Later(Control):
    after: timedelta | None

    def __str__(self) -> str:
        message = _default_message(type(self))
        return message if self.after is None else f"{message} (after {self.after})"


class Retry(_Later):
    """
    The helper asks to be tried again.

    It costs an attempt, as an error does: after the last one the outcome fails. The task's
    ``give_up_on`` has no say.

    Args:
        after: seconds or ``timedelta`` to wait; None leaves the wait to the retry policy.

    Attributes:
        after: the wait as ``timedelta``, or None.

    """

    def __init__(self, after: float | timedelta | None = None) -> None:
        self.after = None if after is None else as_timedelta(after, "Retry(after=…)")
        super().__init__(self.after)


class Snooze(_Later):
    """
    The helper asks to come back later, without costing an attempt.

    Args:
        after: seconds or ``timedelta`` to wait.

    Attributes:
        after: the wait as ``timedelta``.

    """

    after: timedelta

    def __init__(self, after: float | timedelta) -> None:
        self.after = as_timedelta(after, "Snooze(after=…)")
        super().__init__(self.after)


class Discard(Control):
    """
    The helper gave up: trying again would not help.

    The outcome fails with the reason ``discarded``.

    Args:
        reason: one line for the people who read the outcome.

    Attributes:
        reason: that line.

    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
