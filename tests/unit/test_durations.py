"""Spans given by users: seconds or timedelta, finite, not negative, storable."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from tasks_app.durations import LONGEST, as_timedelta


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0, timedelta(0)),
        (90, timedelta(seconds=90)),
        (0.25, timedelta(milliseconds=250)),
        (timedelta(hours=2), timedelta(hours=2)),
        (LONGEST, LONGEST),
    ],
)
def test_seconds_and_timedeltas_are_read_alike(given: object, expected: timedelta) -> None:
    """A number means seconds."""
    assert as_timedelta(given, "after") == expected


@pytest.mark.parametrize(
    "given",
    [-1, -0.001, math.nan, math.inf, 1e300, 10**400, timedelta.max, timedelta(seconds=-1)],
)
def test_spans_no_database_could_add_to_now_are_refused_by_name(given: object) -> None:
    """Negative, endless and unstorable spans raise ValueError naming the option."""
    with pytest.raises(ValueError, match="after"):
        as_timedelta(given, "after")


@pytest.mark.parametrize("given", [True, "5", None, b"5", [5]])
def test_other_types_are_refused_by_name(given: object) -> None:
    """A bool or a string is a mistake, not a span."""
    with pytest.raises(TypeError, match="after must be a number of seconds or a timedelta"):
        as_timedelta(given, "after")
