"""
One reading of "seconds or timedelta", the form of every span a user gives.

Owned here: a span is finite, not negative, and short enough that "now plus span" is a date on
every database. May be called from anywhere; imports nothing of ours.
"""

from __future__ import annotations

from datetime import timedelta

#: Longest span accepted: far beyond any real wait, safely inside every database's dates.
LONGEST = timedelta(days=3650)


def as_timedelta(value: object, name: str) -> timedelta:
    """
    Read ``value`` as a span; ``name`` is what the caller's user calls it.

    >>> as_timedelta(1.5, "after")
    datetime.timedelta(seconds=1, microseconds=500000)

    Raises:
        TypeError: it is neither a number of seconds nor a ``timedelta``.
        ValueError: it is negative, not finite, or longer than `LONGEST`.

    """
    if isinstance(value, timedelta):
        span = value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        span = _from_seconds(value, name)
    else:
        message = (
            f"{name} must be a number of seconds or a timedelta, "
            f"but a value of type {type(value).__name__} was given."
        )
        raise TypeError(message)
    if not timedelta(0) <= span <= LONGEST:
        message = f"{name} must lie between 0 and {LONGEST.days} days, but {span!r} was given."
        raise ValueError(message)
    return span


def _from_seconds(seconds: float, name: str) -> timedelta:
    try:
        return timedelta(seconds=seconds)
    except (OverflowError, ValueError) as error:
        message = f"{name} must be a finite, representable number of seconds: {error}."
        raise ValueError(message) from error
