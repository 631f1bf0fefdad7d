"""
Whether a failed attempt is followed by another, and after how long.

A `RetryPolicy` is a value: it decides, it never waits and touches no row. How the wait grows and
is spread is Celery's own backoff. What a helper raises on purpose (`Retry`, `Snooze`,
`Discard`) is decided elsewhere, before a policy is asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from celery.utils.time import get_exponential_backoff_interval

from tasks_app.durations import as_timedelta
from tasks_app.exceptions import ConfigurationError

ExceptionTypes = type[BaseException] | Sequence[type[BaseException]]

_MILLISECOND: Final = timedelta(milliseconds=1)

#: A millisecond doubled this often exceeds the longest span, so doubling on changes nothing
#: except for the float that would overflow.
_MOST_DOUBLINGS: Final = 64


@dataclass(frozen=True)
class RetryPolicy:
    """
    How often a task is tried, and how long it waits between.

    The n-th wait lies between nothing and ``initial * factor ** (n - 1)``, at most ``maximum``,
    drawn evenly ("full jitter"), so that calls that failed together do not return together.

    >>> policy = RetryPolicy(max_attempts=4, initial=10, jitter=False)
    >>> [policy.delay(failures).seconds for failures in (1, 2, 3)]
    [10, 20, 40]
    >>> policy.decide(ValueError("no seat"), failures=4) is None
    True

    Args:
        max_attempts: runs in all, the first included.
        initial: seconds or `timedelta`, the (longest) wait after the first failure.
        factor: what each further failure multiplies the wait with, 1 or more.
        maximum: seconds or `timedelta` that no wait exceeds.
        jitter: draw each wait between nothing and its full length; without it, wait that length.
        retry_on: an exception type, or several, worth another attempt.
        give_up_on: types that are not, even though ``retry_on`` covers them.

    Raises:
        ConfigurationError: an option makes no sense; the message names it.

    """

    max_attempts: int = 5
    initial: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    maximum: timedelta = timedelta(minutes=10)
    jitter: bool = True
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()

    # Written out so that type checkers know what is accepted: seconds, and a single type.
    def __init__(  # noqa: PLR0913 - one argument per option
        self,
        *,
        max_attempts: int = 5,
        initial: float | timedelta = timedelta(seconds=1),
        factor: float = 2.0,
        maximum: float | timedelta = timedelta(minutes=10),
        jitter: bool = True,
        retry_on: ExceptionTypes = (Exception,),
        give_up_on: ExceptionTypes = (),
    ) -> None:
        vars(self).update(
            max_attempts=_attempts(max_attempts),
            initial=_span("initial", initial),
            factor=_factor(factor),
            maximum=_span("maximum", maximum),
            jitter=_flag("jitter", jitter),
            retry_on=_types("retry_on", retry_on),
            give_up_on=_types("give_up_on", give_up_on),
        )

    def delay(self, failures: int) -> timedelta:
        """Return how long to wait after so many failed attempts, the first being 1."""
        doublings = min((failures - 1) * math.log2(self.factor), _MOST_DOUBLINGS)
        longest = get_exponential_backoff_interval(
            factor=round(self.initial / _MILLISECOND),
            retries=doublings,  # type: ignore[arg-type] # a tripling is 1.58 doublings
            maximum=round(self.maximum / _MILLISECOND),
        )
        # Celery draws among whole numbers only, hence milliseconds, rounded before the draw.
        drawn = get_exponential_backoff_interval(
            factor=round(longest), retries=0, maximum=round(longest), full_jitter=self.jitter
        )
        return drawn * _MILLISECOND

    def is_retryable(self, error: BaseException) -> bool:
        """Tell whether this kind of error is worth another attempt, if there were one left."""
        return isinstance(error, self.retry_on) and not isinstance(error, self.give_up_on)

    def decide(self, error: BaseException, failures: int) -> timedelta | None:
        """Return the wait before the next attempt, or None to give up."""
        if failures >= self.max_attempts or not self.is_retryable(error):
            return None
        return self.delay(failures)


def _attempts(value: int) -> int:
    if type(value) is not int or value < 1:
        message = f"max_attempts must be an integer of 1 or more, but {value!r} was given."
        raise ConfigurationError(message)
    return value


def _factor(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < math.inf:
        message = f"factor must be a finite number of 1 or more, but {value!r} was given."
        raise ConfigurationError(message)
    return float(value)


def _span(name: str, value: float | timedelta) -> timedelta:
    try:
        return as_timedelta(value, name)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(str(error)) from error


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        message = f"{name} must be True or False, but {value!r} was given."
        raise ConfigurationError(message)
    return value


def _types(name: str, value: ExceptionTypes) -> tuple[type[BaseException], ...]:
    kinds = tuple(value) if isinstance(value, list | tuple) else (value,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            message = f"{name} must hold exception types, but {kind!r} was given."
            raise ConfigurationError(message)
    return kinds


#: One attempt, and no other whatever happens.
NO_RETRY: Final = RetryPolicy(max_attempts=1)
