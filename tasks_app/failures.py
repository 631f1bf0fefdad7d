"""
What an exception means for its outcome, and how it is told.

`judge` turns an exception into a verdict without touching the database; `describe` turns it into
scrubbed texts, whatever its `repr` or `str` do. `presentable` is what Celery, its log and Sentry
get to see.
"""

import sysconfig
import traceback
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, Literal, cast

from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celery import exceptions as celery_exceptions
from celery.utils.time import maybe_iso8601
from django.utils import timezone

from tasks_app.exceptions import Discard, Retry, Snooze, TaskCancelled, TaskFailed
from tasks_app.leases import Failure
from tasks_app.models import Outcome
from tasks_app.options import TaskOptions
from tasks_app.printable import plain
from tasks_app.redaction import is_clean, scrub, secret_texts
from tasks_app.states import Reason

#: Longest stored error line and traceback, in characters.
LONGEST_ERROR, LONGEST_TRACEBACK = 2_000, 16_000

#: Longest text of a short column, such as a reason or a progress message, in characters.
LONGEST_LINE = 255

#: Exit code with which billiard's handler leaves a child that got SIGTERM.
TERMINATED = -(256 - 15)

TIME_LIMITS = (TimeLimitExceeded, SoftTimeLimitExceeded)

#: Folders of installed packages, wherever they are; and Python's own.
INSTALLED = frozenset({"site-packages", "dist-packages"})
PYTHON = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))

#: Packages that run a helper and are no part of it, also where they are not installed but checked
#: out.
RUNNERS = frozenset({"tasks_app", "celery", "kombu", "billiard", "django"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to become of a running outcome."""

    act: Literal["retry", "snooze", "release", "fail", "stop"]
    delay: timedelta = timedelta(0)
    reason: Reason = Reason.RETRIES_EXHAUSTED


def judge(error: BaseException, outcome: Outcome, options: TaskOptions) -> Verdict:
    """Return what an attempt's exception means for its outcome."""
    if is_shutdown(error):
        return Verdict("release")
    if isinstance(error, TaskCancelled):
        return Verdict("stop")
    if isinstance(error, Snooze):
        return Verdict("snooze", error.after or timedelta(0))
    if isinstance(error, Discard | celery_exceptions.Ignore):
        return Verdict("fail", reason=Reason.DISCARDED)
    if isinstance(error, celery_exceptions.Reject):
        return Verdict("snooze" if error.requeue else "fail", reason=Reason.DISCARDED)  # type: ignore[attr-defined]  # left out of its stub
    if isinstance(error, celery_exceptions.Retry):
        return Verdict("retry", _celery_delay(error))
    return _by_policy(error, outcome, options)


def judge_time_limit(outcome: Outcome, options: TaskOptions) -> Verdict:
    """Return what a hard time limit means, as told by the worker's main process."""
    return _by_policy(TimeLimitExceeded(), outcome, options)


def is_shutdown(error: BaseException) -> bool:
    """Tell whether the exception ends the process rather than the helper."""
    if isinstance(error, celery_exceptions.WorkerShutdown | celery_exceptions.WorkerTerminate):
        return True
    return isinstance(error, SystemExit) and error.code == TERMINATED


def describe(error: BaseException, outcome: Outcome) -> Failure:
    """Return the error as texts: bounded, on one line where it is one, free of secrets."""
    secrets = secret_texts(outcome.task_name, outcome.args, outcome.kwargs)
    cause = error.exc if isinstance(error, celery_exceptions.Retry) and error.exc else error
    return Failure(
        error_type=short_line(f"{type(cause).__module__}.{type(cause).__qualname__}"),
        error=one_line(scrub(_text(cause), secrets))[:LONGEST_ERROR],
        traceback=storable(scrub(_traceback(cause), secrets))[-LONGEST_TRACEBACK:],
        place=place_of(cause),
    )


def place_of(error: BaseException) -> str:
    """
    Return module and function of the deepest frame in the project's own code; "" without one.

    Installed packages, Python's own modules and whatever runs helpers are none of it.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    deepest = next(filter(_is_of_project, reversed(frames)), None)
    if deepest is None:
        return ""
    module = deepest.f_globals.get("__name__", "")
    return short_line(f"{module}:{deepest.f_code.co_qualname}")


def presentable(error: BaseException, failure: Failure, outcome: Outcome) -> Exception:
    """
    Return what may leave the helper's frame: the error itself where that is harmless.

    Celery's pool prints and pickles what it gets, re-raises `MemoryError` in the worker's main
    process and takes `SystemExit` for the end of the child.
    """
    if isinstance(error, Exception) and not isinstance(error, MemoryError | TaskCancelled):
        secrets = secret_texts(outcome.task_name, outcome.args, outcome.kwargs)
        if _prints(error) and is_clean(_text(error) + repr(error) + _traceback(error), secrets):
            return error
    return TaskFailed(outcome_id=outcome.id, error_type=failure.error_type, error=failure.error)


def one_line(text: str) -> str:
    """Return the text on one line, without characters that act on a terminal or cannot be seen."""
    return plain(" ".join(storable(text).split()))


def short_line(text: str) -> str:
    """Return the text on one line that fits a short column of any database."""
    return one_line(text)[:LONGEST_LINE]


def storable(text: str) -> str:
    """Return the text without what some database refuses: NUL and lone surrogates."""
    return text.replace("\0", "�").encode("utf-8", "replace").decode()


def _is_of_project(frame: FrameType) -> bool:
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return package not in RUNNERS and _is_file_of_project(frame.f_code.co_filename)


@cache
def _is_file_of_project(name: str) -> bool:
    path = Path(name)
    if name.startswith("<") or INSTALLED.intersection(path.parts):
        return False
    return not any(path.is_relative_to(folder) for folder in PYTHON)


def _by_policy(error: BaseException, outcome: Outcome, options: TaskOptions) -> Verdict:
    failures = outcome.attempt - outcome.crashes
    is_limit = isinstance(error, TIME_LIMITS)
    exhausted = Reason.TIME_LIMIT if is_limit else Reason.RETRIES_EXHAUSTED
    if failures >= outcome.max_attempts:
        return Verdict("fail", reason=exhausted)
    if isinstance(error, Retry) and error.after is not None:
        return Verdict("retry", error.after)
    if isinstance(error, Retry):
        return Verdict("retry", options.policy.delay(failures))
    delay = options.policy.decide(error, failures)
    if delay is None:
        return Verdict("fail", reason=Reason.TIME_LIMIT if is_limit else Reason.NOT_RETRYABLE)
    return Verdict("retry", delay)


def _celery_delay(error: celery_exceptions.Retry) -> timedelta:
    when: Any = error.when  # seconds, a datetime or a datetime's ISO text
    if when is None:
        return timedelta(0)
    if isinstance(when, int | float):
        return timedelta(seconds=when)
    due = cast("datetime", maybe_iso8601(when))
    if timezone.is_naive(due):
        due = timezone.make_aware(due)
    return max(due - timezone.now(), timedelta(0))


def _text(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except BaseException:  # noqa: BLE001 - a helper's exception class may be broken in any way
        return f"{type(error).__name__} (its text could not be read)"


def _prints(error: BaseException) -> bool:
    try:
        repr(error), str(error)
    except BaseException:  # noqa: BLE001 - a helper's exception class may be broken in any way
        return False
    return True


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:  # noqa: BLE001 - a helper's exception class may be broken in any way
        return "".join(traceback.format_tb(error.__traceback__))
