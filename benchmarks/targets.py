"""
Targets: what this project wants to reach beside its peers, and what a run says of each.

Each is a ratio of two figures of one measure. A run that has not measured it says nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks import lineup
from benchmarks.draining import CHILD_MEMORY, NOOP
from benchmarks.enqueueing import BULK, SINGLE
from benchmarks.figures import Ratio, Sheet
from benchmarks.lineup import Contestant
from benchmarks.responding import FROM_COMMIT

FEW, MANY = "1,000 rows", "1,000,000 rows"


@dataclass(frozen=True)
class Target:
    """
    One number to reach.

    Attributes:
        measure: The measure of both figures.
        own: Whose figure is divided.
        other: By whose figure.
        limit: What the ratio has to be.
        at_most: Whether it may be no more than that, rather than no less.
    """

    measure: str
    own: str
    other: str
    limit: float
    at_most: bool = False

    def is_reached_by(self, ratio: Ratio) -> bool:
        """Return whether a ratio's median is good enough."""
        return ratio.median <= self.limit if self.at_most else ratio.median >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.limit:g}"


@dataclass(frozen=True)
class Verdict:
    """What a run says of a target; without one of the two figures there is no ratio."""

    target: Target
    ratio: Ratio | None
    loads: Sequence[float]

    @property
    def is_reached(self) -> bool:
        return self.ratio is not None and self.target.is_reached_by(self.ratio)


def _against(other: Contestant, measure: str, limit: float, *, at_most: bool = False) -> Target:
    return Target(measure, lineup.OWN.name, other.name, limit, at_most)


TARGETS = (
    _against(lineup.CELERY, NOOP, 1.0),
    _against(lineup.RESULTS, NOOP, 8),
    _against(lineup.RESULTS_KEPT, NOOP, 3),
    _against(lineup.PROCRASTINATE, NOOP, 2),
    Target(NOOP, lineup.OWN_RABBITMQ.name, lineup.CELERY_RABBITMQ.name, 0.6),
    _against(lineup.CELERY, BULK.format(10_000), 30),
    _against(lineup.PROCRASTINATE, BULK.format(10_000), 3),
    _against(lineup.CELERY, BULK.format(100_000), 30),
    _against(lineup.PROCRASTINATE, BULK.format(100_000), 3),
    _against(lineup.PROCRASTINATE, SINGLE, 1.5),
    Target("relay on Redis", "with_outcomes", "django-celery-outbox", 5),
    Target("relay on RabbitMQ", "with_outcomes", "django-celery-outbox", 5),
    _against(lineup.CELERY, FROM_COMMIT.format("p50"), 2, at_most=True),
    _against(lineup.CELERY, FROM_COMMIT.format("p99"), 3, at_most=True),
    Target("embedded drain", "with_files", "with_celery_files", 3),
    Target("embedded latency p50", "with_files", "with_celery_files", 0.1, at_most=True),
    _against(lineup.RESULTS, CHILD_MEMORY, 1.15, at_most=True),
)

#: How much slower anything may be with a million rows in the table.
LONGER = 1.25


def verdicts(sheet: Sheet) -> list[Verdict]:
    """Return what a sheet says of each target whose measure it holds."""
    measured = {figure.measure for figure in sheet}
    wanted = (*TARGETS, *_of_sizes(sheet))
    return [_verdict(sheet, target) for target in wanted if target.measure in measured]


def _of_sizes(sheet: Sheet) -> Iterator[Target]:
    """Yield a target for each measure that was taken with few rows and with many."""
    for figure in sheet:
        if figure.contestant == FEW:
            if figure.better == "lower":
                yield Target(figure.measure, MANY, FEW, LONGER, at_most=True)
            else:
                yield Target(figure.measure, MANY, FEW, 1 / LONGER)


def _verdict(sheet: Sheet, target: Target) -> Verdict:
    figures = {figure.contestant: figure for figure in sheet.of(target.measure)}
    own, other = figures.get(target.own), figures.get(target.other)
    if own is None or other is None:
        return Verdict(target, None, ())
    ratio = sheet.ratio(target.measure, target.own, target.other)
    return Verdict(target, ratio, [*own.loads, *other.loads])
