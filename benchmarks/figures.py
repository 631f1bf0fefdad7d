"""
Figures: what the benchmarks measured, round by round, in the form that is kept and compared.

A sheet holds one run's figures. It is written as JSON, from which tables and charts are made.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

Better = Literal["higher", "lower"]


@dataclass
class Figure:
    """
    One contestant's value of one measure.

    Attributes:
        measure: What was measured, such as `drain of no-op tasks`.
        contestant: Whose it is.
        unit: Of every value, such as `tasks/s` or `ms`.
        better: Which values are better.
        values: One per round, in the rounds' order.
        loads: The machine's load average over one minute when each value was taken.
    """

    measure: str
    contestant: str
    unit: str
    better: Better
    values: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        """Note the value of one more round, and how busy the machine is."""
        self.values.append(value)
        self.loads.append(round(os.getloadavg()[0], 2))

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True)
class Ratio:
    """How much better one contestant is than another: within the rounds, and their median."""

    median: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lowest:.2f} to {self.highest:.2f})"


class Sheet:
    """The figures of one run, by measure and contestant."""

    def __init__(self) -> None:
        self._figures: dict[tuple[str, str], Figure] = {}

    def add(
        self, measure: str, contestant: str, value: float, *, unit: str, better: Better
    ) -> None:
        """Note one round's value."""
        key = measure, contestant
        if key not in self._figures:
            self._figures[key] = Figure(measure, contestant, unit, better)
        self._figures[key].add(value)

    def drop(self, measure: str, contestant: str) -> None:
        """Forget a figure, if there is one: a contestant that failed has no value to compare."""
        self._figures.pop((measure, contestant), None)

    def replace(self, newer: Sheet) -> None:
        """Take over another run's figures; what it has measured is kept of that run alone."""
        measured = {figure.measure for figure in newer}
        kept = {key: value for key, value in self._figures.items() if key[0] not in measured}
        self._figures = kept | newer._figures

    def __iter__(self) -> Iterator[Figure]:
        return iter(self._figures.values())

    def of(self, measure: str) -> Sequence[Figure]:
        """Return the figures of one measure, in the order in which contestants came up."""
        return [figure for figure in self if figure.measure == measure]

    def ratio(self, measure: str, own: str, other: str) -> Ratio:
        """
        Return the first contestant's value divided by the second's, within each round.

        Neighbours of a round share the machine's mood, so its noise cancels out.
        """
        pairs = zip(
            self._figures[measure, own].values, self._figures[measure, other].values, strict=True
        )
        ratios = [mine / theirs for mine, theirs in pairs]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios))

    def write(self, path: Path) -> None:
        """Write all figures as JSON."""
        path.write_text(json.dumps([asdict(figure) for figure in self], indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Sheet:
        """Return the figures that were written to a file."""
        sheet = cls()
        for each in json.loads(path.read_text()):
            figure = Figure(**each)
            sheet._figures[figure.measure, figure.contestant] = figure
        return sheet
