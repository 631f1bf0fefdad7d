"""
What the dashboard's charts and their tables show: points of the rollups over a range of time.

Both are made of the same points; a table has fewer and longer spans than its chart, for those who
read or hear it row by row.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tasks_app import rollups
from tasks_app.admin.texts import NOTHING, span
from tasks_app.histograms import quantile
from tasks_app.rollups import DAY, HOUR, MINUTE, TEN_MINUTES, Point, Points, moment
from tasks_app.states import State

#: Ends that are neither good nor bad.
OTHERS = (State.CANCELLED, State.EXPIRED)

#: Digits of a number that a chart draws.
DIGITS = 5

#: Seconds that a span counts for at least: a rate of its first instants says nothing.
SHORTEST = 10


@dataclass(frozen=True, slots=True)
class Range:
    """A range of time that ends now; lengths in seconds."""

    name: str
    title: str
    length: int
    #: Step of the rollups that are read.
    stored: int
    #: Between two points of a chart, and between two rows of a table.
    shown: int
    row: int
    #: Step of the rollups of single tasks that are read.
    by_task: int

    def begin(self, now: datetime, step: int) -> datetime:
        """Return where the range begins, in whole steps."""
        return moment((now.timestamp() - self.length) // step * step)


RANGES: Mapping[str, Range] = {
    each.name: each
    for each in (
        Range("1h", "hour", HOUR, MINUTE, MINUTE, 5 * MINUTE, TEN_MINUTES),
        Range("6h", "6 hours", 6 * HOUR, MINUTE, 5 * MINUTE, 30 * MINUTE, HOUR),
        Range("24h", "24 hours", DAY, TEN_MINUTES, TEN_MINUTES, 2 * HOUR, HOUR),
        Range("7d", "7 days", 7 * DAY, HOUR, HOUR, DAY // 2, DAY),
        Range("30d", "30 days", 30 * DAY, HOUR, 6 * HOUR, DAY, DAY),
    )
}

DEFAULT = "1h"


@dataclass(frozen=True, slots=True)
class Span:
    """What ended in one span of time; the last one of a range may not be over."""

    start: datetime
    #: Seconds of it that have passed.
    seconds: float
    point: Point

    @property
    def ended(self) -> int:
        return sum(self.point["ended"].values())

    @property
    def runs(self) -> int:
        return sum(self.point["attempts"].values())

    @property
    def others(self) -> int:
        return sum(self.count(state) for state in OTHERS)

    @property
    def failed(self) -> int:
        return self.count(State.FAILED)

    @property
    def succeeded(self) -> int:
        return self.count(State.SUCCEEDED)

    @property
    def judged(self) -> int:
        return self.failed + self.succeeded

    @property
    def failure_rate(self) -> float | None:
        """Percent of what ended well or badly that ended badly; None if nothing did."""
        return 100 * self.failed / self.judged if self.judged else None

    def count(self, state: State) -> int:
        return self.point["ended"][state]

    def per_minute(self, number: float) -> float:
        return number * 60 / self.seconds

    def quantile(self, kind: str, q: float) -> float | None:
        return quantile(q, {int(name): count for name, count in self.point[kind].items()})


def spans(points: Points, begin: datetime, end: datetime, step: int) -> list[Span]:
    """Return every span from one time to another, also those in which nothing ended."""
    coarse = rollups.coarser(points, step)
    return [
        Span(
            moment(start),
            max(min(step, end.timestamp() - start), SHORTEST),
            coarse.get((start, ""), rollups.empty()),
        )
        for start in range(int(begin.timestamp()), int(end.timestamp()) + 1, step)
    ]


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart: what it is called, what it draws and what its table says."""

    name: str
    title: str
    #: What its numbers mean.
    note: str
    unit: str
    lines: Mapping[str, Callable[[Span], float | None]]
    columns: Mapping[str, Callable[[Span], str]]

    def data(self, shown: list[Span]) -> dict[str, Any]:
        """Return what is drawn, as JSON."""
        return {
            "unit": self.unit,
            "lines": [
                {"title": title, "values": [_rounded(value(each)) for each in shown]}
                for title, value in self.lines.items()
            ],
        }

    def rows(self, cells: list[Span]) -> Iterator[tuple[datetime, list[str]]]:
        """Yield the rows of the table, newest first."""
        for each in reversed(cells):
            yield each.start, [text(each) for text in self.columns.values()]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def number(value: float) -> str:
    """Return a number to read."""
    return f"{value:,.0f}" if value == round(value) or value >= 100 else f"{value:,.3g}"  # noqa: PLR2004


def percent(value: float | None) -> str:
    """Return a share to read."""
    return NOTHING if value is None else f"{value:.3g} %"


def length(seconds: float | None) -> str:
    """Return a length of time to read."""
    return NOTHING if seconds is None else span(timedelta(seconds=seconds))


def _quantiles(kind: str) -> dict[str, Callable[[Span], float | None]]:
    return {
        "p50": lambda each: each.quantile(kind, 0.5),
        "p95": lambda each: each.quantile(kind, 0.95),
    }


def _lengths(kind: str) -> dict[str, Callable[[Span], str]]:
    read = _quantiles(kind)
    return {
        "Runs": lambda each: number(each.runs),
        "p50": lambda each: length(read["p50"](each)),
        "p95": lambda each: length(read["p95"](each)),
    }


CHARTS = (
    Chart(
        "throughput",
        "Throughput",
        "Outcomes that ended, per minute.",
        "/min",
        {
            "succeeded": lambda each: each.per_minute(each.succeeded),
            "failed": lambda each: each.per_minute(each.failed),
            "cancelled or expired": lambda each: each.per_minute(each.others),
        },
        {
            "Ended": lambda each: number(each.ended),
            "Per minute": lambda each: number(each.per_minute(each.ended)),
            "Succeeded": lambda each: number(each.succeeded),
            "Failed": lambda each: number(each.failed),
            "Cancelled or expired": lambda each: number(each.others),
        },
    ),
    Chart(
        "failures",
        "Failure rate",
        "Failed outcomes among those that succeeded or failed.",
        "%",
        {"failure rate": lambda each: each.failure_rate},
        {
            "Failed": lambda each: number(each.failed),
            "Of": lambda each: number(each.judged),
            "Rate": lambda each: percent(each.failure_rate),
        },
    ),
    Chart(
        "wait",
        "Wait",
        "From when a run could begin to when it did: half of the runs waited no longer than p50, "
        "95 % no longer than p95.",
        "s",
        _quantiles("wait"),
        _lengths("wait"),
    ),
    Chart(
        "run",
        "Run time",
        "From a run's start to its end, whichever way it ended.",
        "s",
        _quantiles("run"),
        _lengths("run"),
    ),
)
