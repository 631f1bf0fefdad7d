"""The nemesis: throws seeded dice for the next fault, and lets several last at the same time."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tests.soak.faults import Fault, all_faults
from tests.soak.stage import Stage

#: Shortest and longest time between two beginnings, in seconds.
PAUSE = (0.6, 1.7)

#: Faults that may last at the same time.
AT_A_TIME = 6


class Nemesis:
    """
    Begins a fault every second or two; `step` is called often and returns at once.

    Every decision is drawn in the same order whatever happens: which fault, which of its
    targets, how long, and the wait for the next.
    """

    def __init__(self, stage: Stage, seed: str, pace: float = 1.0) -> None:
        self.stage = stage
        self.dice = random.Random(seed)
        self.pace = pace
        self.faults = list(all_faults(stage))
        self.counts: Counter[str] = Counter()
        self.kills = 0
        self.busy: set[int] = set()
        self.healing = threading.Event()
        self.next_at = time.monotonic()
        # A server's process dies with the thread that started it: these threads stay.
        self.threads = ThreadPoolExecutor(AT_A_TIME, "nemesis")
        self.lasting: list[Future[None]] = []

    def step(self) -> None:
        """Begin the next fault if it is time."""
        if time.monotonic() < self.next_at:
            return
        weights = [fault.weight for fault in self.faults]
        fault = self.dice.choices(self.faults, weights)[0]
        place, hold, seed = self.dice.random(), self.dice.uniform(*fault.hold), self.dice.random()
        self.next_at = time.monotonic() + self.dice.uniform(*PAUSE) / self.pace
        free = [each for each in fault.targets(self.stage) if id(each) not in self.busy]
        self.lasting = [each for each in self.lasting if not each.done()]
        if not free or len(self.lasting) >= AT_A_TIME:
            return
        target = free[int(place * len(free))]
        self.busy.add(id(target))
        self.counts[fault.name] += 1
        self.kills += fault.is_kill
        self.lasting.append(self.threads.submit(self.last, fault, target, hold, seed))

    def last(self, fault: Fault, target: Any, hold: float, seed: float) -> None:
        """Live through one fault, from its beginning to its end."""
        try:
            begun = fault.begin(self.stage, target, random.Random(seed))
            try:
                self.healing.wait(hold)
            finally:
                fault.end(self.stage, target, begun)
            self.stage.ended_faults.put(fault.name)
        except Exception as error:  # noqa: BLE001 - a broken harness is a finding too
            self.stage.findings.append(f"the fault {fault.name!r} went wrong: {error!r}")
        finally:
            self.busy.discard(id(target))

    def heal(self) -> None:
        """End every fault, and wait for the ends."""
        self.healing.set()
        for each in self.lasting:
            each.result()
