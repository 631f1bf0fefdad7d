"""
The model: rows come due, relays ring for them, processes of workers run them, one after the other.

It follows what the package does: a relay takes a batch where its queue has room, looks again at
once while batches are full, and sleeps longer and longer while it finds nothing; each process
takes one message at a time, the oldest first. All times are seconds of the model's clock.

Left out: priorities, several queues, retries, bells that ring twice, what a worker has fetched
ahead, and whatever the database does to all of them when it is the one that is busy.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random

from benchmarks.simulation.services import Service


@dataclass(frozen=True)
class Relays:
    """The relays, and how they look for rows; by default as the package has it."""

    number: int = 1
    batch: int = 500
    max_in_flight: int = 200
    #: Waits after a look that found work, and at most after those that found none.
    shortest: float = 0.01
    longest: float = 0.5
    #: What a look takes, and what it takes longer for each row.
    look: float = 0.005
    row: float = 0.0002


@dataclass(frozen=True)
class Scaler:
    """
    A HorizontalPodAutoscaler on the oldest age, which at most doubles the workers at a time.

    `target`: the age in seconds that it aims at; `every`: how often it may add; `delay`: how old
    the age is that it sees; `start`: until a new worker takes messages; `rest`: for so long a
    recommendation holds against lower ones.
    """

    target: float
    most: int
    every: float = 60
    delay: float = 30
    start: float = 20
    rest: float = 300

    def wanted(self, workers: int, age: float) -> int:
        """Return how many workers the autoscaler's formula asks for, before any bound."""
        ratio = age / self.target
        return workers if abs(ratio - 1) <= TOLERANCE else math.ceil(workers * ratio)


#: Within this share of its target an autoscaler leaves things as they are.
TOLERANCE = 0.1


@dataclass(frozen=True)
class Plant:
    """What there is: workers with their processes, relays, and what a run costs beside itself."""

    workers: int
    processes: int = 1
    relays: Relays = Relays()
    #: Seconds of a process for each run beside the run: claim, commit, hand-over.
    overhead: float = 0
    scaler: Scaler | None = None


@dataclass
class Course:
    """What happened: each run's wait, and queue and workers over time."""

    #: Seconds from due to claim, in the order of the claims.
    waits: list[float] = field(default_factory=list)
    #: When the last run ended.
    end: float = 0
    #: Moments, the age of the oldest due outcome then, and the workers that there were.
    moments: list[float] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    workers: list[int] = field(default_factory=list)

    @property
    def oldest(self) -> float:
        """How old the oldest due outcome ever was: the longest wait."""
        return max(self.waits, default=0.0)


class Simulation:
    """One course of events, the same for the same arguments."""

    def __init__(self, plant: Plant, due: Iterable[float], service: Service, seed: int = 1) -> None:
        self.plant = plant
        self.service = service
        self.dice = Random(seed)
        self.course = Course()
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._coming = iter(due)
        self._next_due = next(self._coming, None)
        #: Due times: not announced yet, at the broker, and of all that nobody has claimed.
        self._rows: deque[float] = deque()
        self._messages: deque[float] = deque()
        self._ringing = 0
        self._unclaimed: deque[float] = deque()
        self._relays = [_Relay(self, plant.relays) for _ in range(plant.relays.number)]
        self._workers = plant.workers
        self._idle = plant.workers * plant.processes
        self._busy = 0
        self._seen: deque[tuple[float, float]] = deque()
        self._wanted: deque[tuple[float, int]] = deque()
        self._await_next()

    def run(self, sample: float | None = None) -> Course:
        """
        Run until everything has run; note age and workers every `sample` seconds on request.

        An autoscaler needs samples, and sees what they saw.
        """
        if sample is not None:
            self._sample(sample)
        if self.plant.scaler is not None:
            self.at(self.plant.scaler.every, self._scale)
        while self._events:
            self.step()
        return self.course

    def step(self) -> None:
        """Let the next event happen."""
        self.now, _, act = heapq.heappop(self._events)
        act()

    def at(self, moment: float, act: Callable[[], None]) -> None:
        """Do something at a moment; of two at the same moment the first told goes first."""
        heapq.heappush(self._events, (moment, next(self._order), act))

    def age(self) -> float:
        """Return how long the oldest due outcome has waited to run."""
        return self.now - self._unclaimed[0] if self._unclaimed else 0.0

    # -- rows and relays ----------------------------------------------------------------------

    def _await_next(self) -> None:
        if self._next_due is not None:
            self.at(self._next_due, self._become_due)

    def _become_due(self) -> None:
        # What is enqueued together is seen together.
        while self._next_due == self.now:
            self._rows.append(self.now)
            self._unclaimed.append(self.now)
            self._next_due = next(self._coming, None)
        for relay in self._relays:
            relay.wake()
        self._await_next()

    def take(self, relays: Relays) -> list[float]:
        """Return the rows that a look takes: a batch, where the queue has room for enough."""
        room = relays.max_in_flight - len(self._messages) - self._ringing
        if room < min(relays.batch, max(relays.max_in_flight // 2, 1)):
            return []
        taken = [self._rows.popleft() for _ in range(min(relays.batch, room, len(self._rows)))]
        self._ringing += len(taken)
        return taken

    def ring(self, rows: list[float]) -> None:
        """Bring messages to the broker, and to processes that wait for one."""
        self._ringing -= len(rows)
        self._messages.extend(rows)
        self._hand_out()

    @property
    def has_rows(self) -> bool:
        return bool(self._rows)

    @property
    def at_the_broker(self) -> int:
        """How many messages wait there."""
        return len(self._messages)

    # -- processes ----------------------------------------------------------------------------

    def _hand_out(self) -> None:
        while self._messages and self._idle > 0:
            self._idle -= 1
            self._busy += 1
            self._messages.popleft()
            self.course.waits.append(self.now - self._unclaimed.popleft())
            length = self.service(self.dice) + self.plant.overhead
            self.at(self.now + length, self._finish)

    def _finish(self) -> None:
        self._busy -= 1
        self._idle += 1
        self.course.end = self.now
        self._hand_out()

    # -- time series and autoscaling ----------------------------------------------------------

    def _sample(self, every: float) -> None:
        self.course.moments.append(self.now)
        self.course.ages.append(self.age())
        self.course.workers.append(self._workers)
        self._seen.append((self.now, self.age()))
        if self._is_going_on():
            self.at(self.now + every, lambda: self._sample(every))

    def _is_going_on(self) -> bool:
        return bool(self._unclaimed or self._busy or self._next_due is not None)

    def _scale(self) -> None:
        scaler = self.plant.scaler
        if scaler is None or not self._is_going_on():
            return
        while len(self._seen) > 1 and self._seen[1][0] <= self.now - scaler.delay:
            self._seen.popleft()
        wanted = scaler.wanted(self._workers, self._seen[0][1])
        self._wanted.append((self.now, max(self.plant.workers, min(wanted, scaler.most))))
        while self._wanted[0][0] < self.now - scaler.rest:
            self._wanted.popleft()
        held = max(number for _, number in self._wanted)
        self._become(min(held, 2 * self._workers), scaler)
        self.at(self.now + scaler.every, self._scale)

    def _become(self, workers: int, scaler: Scaler) -> None:
        change = (workers - self._workers) * self.plant.processes
        self._workers = workers
        if change < 0:
            # Fewer than none are idle until busy ones have ended their runs.
            self._idle += change
        elif change > 0:
            self.at(self.now + scaler.start, lambda: self._add(change))

    def _add(self, processes: int) -> None:
        self._idle += processes
        self._hand_out()


class _Relay:
    """One relay's turns: look, ring, wait."""

    def __init__(self, simulation: Simulation, relays: Relays) -> None:
        self.simulation = simulation
        self.relays = relays
        self.wait = relays.shortest
        #: When it would look next, while there is nothing that it could find.
        self.dozing_until: float | None = 0.0

    def wake(self) -> None:
        """Look at the first of the turns that would have come by themselves, now there is a row."""
        if self.dozing_until is None:
            return
        turn, self.dozing_until = self.dozing_until, None
        while turn < self.simulation.now and self.wait < self.relays.longest:
            self._slow_down()
            turn += self.relays.look + self.wait
        cycle = self.relays.look + self.relays.longest
        if turn < self.simulation.now and cycle:
            turn += math.ceil((self.simulation.now - turn) / cycle) * cycle
        self.simulation.at(max(turn, self.simulation.now), self._look)

    def _look(self) -> None:
        rows = self.simulation.take(self.relays)
        done = self.simulation.now + self.relays.look + self.relays.row * len(rows)
        if rows:
            self.wait = self.relays.shortest
            self.simulation.at(done, lambda: self.simulation.ring(rows))
        else:
            self._slow_down()
        turn = done if len(rows) >= self.relays.batch else done + self.wait
        if rows or self.simulation.has_rows:
            self.simulation.at(turn, self._look)
        else:
            self.dozing_until = turn

    def _slow_down(self) -> None:
        self.wait = min(self.wait * 2, self.relays.longest)


def arrivals(rate: float, seconds: float, dice: Random) -> Iterator[float]:
    """Yield moments at which calls come one by one, independently, so many per second."""
    moment = dice.expovariate(rate) if rate else math.inf
    while moment < seconds:
        yield moment
        moment += dice.expovariate(rate)


def with_burst(calls: Iterable[float], at: float, size: int) -> Iterator[float]:
    """Yield those moments and a burst: so many calls at one moment."""
    return heapq.merge(calls, [at] * size)


def workers_needed(
    plant: Plant, course_of: Callable[[Plant], Course], target: float, most: int = 4096
) -> int:
    """
    Return how many workers keep the oldest age at or below a target, in seconds.

    Args:
        plant: All but the number of its workers.
        course_of: Simulates the load on a plant.
        target: The age.
        most: Where the search ends.

    Raises:
        ValueError: not even the most do; relay or runs are too slow.
    """

    def is_enough(workers: int) -> bool:
        return course_of(replace(plant, workers=workers)).oldest <= target

    if not is_enough(most):
        raise ValueError(f"Not even {most} workers keep the oldest age below {target:g} s.")
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
