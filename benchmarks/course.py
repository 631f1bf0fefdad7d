"""
The course of a comparison: who takes part, with how many calls, and what went wrong.

In each round every contestant takes one turn. The order moves on by one from round to round, so
that nobody always runs first.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.arena import Arena
from benchmarks.figures import Better, Sheet
from benchmarks.lineup import Contestant


class Reading(NamedTuple):
    """What a turn came to in one measure."""

    measure: str
    value: float
    unit: str
    better: Better


@dataclass(frozen=True)
class Sizes:
    """
    How much is measured in one turn.

    Attributes:
        tasks: No-op calls of a drain, at most.
        writing: Calls of a drain that write a row, at most.
        seconds: What a drain of a slow contestant may take, about: it gets fewer calls.
        calls: Calls whose latency is measured.
        singles: Calls that are enqueued one by one.
        bulks: Calls that are enqueued at once; each is a measure of its own.
        loop: Calls of a contestant that has no bulk call, whose speed does not depend on it.
    """

    tasks: int = 5_000
    writing: int = 2_500
    seconds: float = 6
    calls: int = 200
    singles: int = 1_000
    bulks: Sequence[int] = (10_000, 100_000)
    loop: int = 2_000

    def drained_by(self, contestant: Contestant, most: int) -> int:
        """Return how many calls a contestant drains."""
        return min(most, round(contestant.pace * self.seconds))


#: Enough to see that everything runs, and too little to tell how fast.
QUICK = Sizes(tasks=50, writing=50, calls=10, singles=20, bulks=(100,), loop=20)


@dataclass
class Course:
    """One comparison under way."""

    arena: Arena
    contestants: Sequence[Contestant]
    sizes: Sizes = field(default_factory=Sizes)
    failures: list[str] = field(default_factory=list)

    def equip(self) -> None:
        """Make the environments that are not there yet; who cannot have one does not take part."""
        equipped = []
        for contestant in self.contestants:
            try:
                self.arena.python(contestant)
            except (OSError, RuntimeError) as error:
                self._fail(contestant, "environment", error)
            else:
                equipped.append(contestant)
        self.contestants = equipped

    def run(self, sheet: Sheet, rounds: int, kind: str, turn: Turn) -> None:
        """
        Let everybody of whom this kind is measured take such a turn in each round.

        Who fails is named, has no figure of these turns, and takes none of them any more.
        """
        measured: dict[str, set[str]] = {}
        left = [each for each in self.contestants if kind in each.measures]
        for number in range(rounds):
            began = time.monotonic()
            for contestant in _moved_on(left, number):
                try:
                    readings = turn(self, contestant)
                except Exception as error:  # noqa: BLE001 - each peer has its own ways to fail
                    self._fail(contestant, turn.__name__, error)
                    left.remove(contestant)
                    for measure in measured.get(contestant.name, ()):
                        sheet.drop(measure, contestant.name)
                    continue
                for measure, value, unit, better in readings:
                    sheet.add(measure, contestant.name, value, unit=unit, better=better)
                measured[contestant.name] = {reading.measure for reading in readings}
            taken = time.monotonic() - began
            print(f"{turn.__name__}, round {number + 1}: {taken:.0f} s", flush=True)

    def _fail(self, contestant: Contestant, turn: str, error: Exception) -> None:
        self.failures.append(f"{turn}: {contestant.name}")
        print(f"{self.failures[-1]} FAILED and is left out: {error}", file=sys.stderr, flush=True)


#: Lets a contestant take one turn, and returns what it came to.
Turn = Callable[[Course, Contestant], Sequence[Reading]]


def _moved_on(contestants: Sequence[Contestant], places: int) -> list[Contestant]:
    first = places % len(contestants) if contestants else 0
    return [*contestants[first:], *contestants[:first]]
