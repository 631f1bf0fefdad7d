"""Three real beats, killed and paused at random, without a broker: every slot once, and in time.

`TASKS_TEST_BEATS_SECONDS` says for how long; by itself, about as long as one lease.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.db.models import QuerySet
from django.utils import timezone

from tasks_app.models import Leadership, Outcome, Slot, Timer
from tasks_app.periodic.entries import timetable_of
from tasks_app.periodic.slots import INSTANT
from tasks_app.periodic.timetables import between
from tests.periodic.beats import entry, every, timer_of
from tests.processes import Process, launch
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds under faults, and what anything may take on a busy machine.
SECONDS, PATIENCE = float(os.environ.get("TASKS_TEST_BEATS_SECONDS", "15")), 60

#: Longest time between a slot and its decision: the lease of a dead leader, and some work.
LATEST = timedelta(seconds=15)

#: Nobody listens there.
NO_BROKER = {"TASKS_TEST_BROKER_URL": "redis://127.0.0.1:1/0"}

COMMAND = ["celery", "-A", "tests.project", "beat", "--loglevel", "INFO"]


class Beats:
    """Three beats, of which one at a time is harmed."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.folder = folder
        self.dice = dice
        self.started = 0
        self.counts: Counter[str] = Counter()
        self.diary: list[str] = []
        self.processes = [self.start() for _ in range(3)]
        for process in self.processes:
            process.wait_for_output("beat: Starting", PATIENCE)

    def start(self) -> Process:
        """Start one more."""
        self.started += 1
        return launch(self.folder, f"beat{self.started}", COMMAND, NO_BROKER)

    def leading(self) -> int:
        """Return the place of the beat that leads, or of any where none of them does."""
        holder = Leadership.objects.values_list("holder", flat=True).get(pk="beat")
        pid = int(holder.partition("#")[0].rpartition("/")[2])
        pids = [process.pid for process in self.processes]
        return pids.index(pid) if pid in pids else self.dice.randrange(3)

    def harm(self) -> None:
        """Kill, end or pause one, and let it come back; rather the one that leads."""
        place = self.leading() if self.dice.random() < 0.7 else self.dice.randrange(3)
        fault = self.dice.choice(["kill", "end", "pause"])
        self.counts[fault] += 1
        victim = self.processes[place]
        self.diary.append(f"{timezone.now()} {fault} {victim.name} of {self.leading()}")
        if fault == "pause":
            victim.pause()
            time.sleep(self.dice.uniform(1, 13))
            victim.resume()
            self.diary.append(f"{timezone.now()} resumed")
            return
        if fault == "kill":
            victim.kill()
        else:
            victim.terminate(PATIENCE)
        self.processes[place] = self.start()
        self.processes[place].wait_for_output("beat: Starting", PATIENCE)

    def close(self) -> None:
        """Kill them all."""
        for process in self.processes:
            process.kill()


@contextmanager
def three_beats(folder: Path, dice: random.Random) -> Iterator[Beats]:
    """Run three beats for the length of the block."""
    beats = Beats(folder, dice)
    try:
        yield beats
    finally:
        beats.close()


def is_nothing_due() -> bool:
    """Tell whether every slot that has come up is decided."""
    return not Timer.objects.filter(due_at__lte=timezone.now()).exists()


def slots_of(row) -> list[datetime]:
    """Return the slots of an entry that should have been decided, from its first one on."""
    decided = Slot.objects.filter(entry_id=row.pk).order_by("slot_at")
    first, last = decided.first().slot_at, Timer.objects.get(pk=row.pk).last_at
    return list(between(timetable_of(row), first - INSTANT, last))


def account_of(made: QuerySet[Slot], diary: list[str]) -> list[str]:
    """Return the faults and the latest slots, in the order of time."""
    late = [slot for slot in made if slot.decided_at - slot.slot_at > LATEST]
    return sorted([*diary, *(f"{slot.decided_at} {slot}" for slot in late)])


def test_three_beats_that_are_killed_and_paused_decide_each_slot_once(tmp_path, record_property):
    """None is missing under `all`, none is there twice, and a failover takes 15 s at most."""
    dice = random.Random(os.environ.get("TASKS_TEST_BEATS_SEED", "1"))
    rows = [entry(f"every {span} s", interval=every(seconds=span)) for span in (1, 2, 5)]
    rows.append(entry("every minute"))
    with three_beats(tmp_path, dice) as beats:
        wait_until(Leadership.objects.exists, PATIENCE, "a leader")
        firsts = {row.pk: timer_of(row, missed="all").next_at for row in rows}
        decided = Slot.objects.filter(entry_id=rows[0].pk)
        wait_until(lambda: decided.exists() and is_nothing_due(), PATIENCE, "the first slots")
        began = timezone.now()
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            beats.harm()
            # One failover at a time: the next leader is not harmed before it has made all up.
            later = Slot.objects.filter(slot_at__gt=timezone.now())
            wait_until(later.exists, PATIENCE, "a slot after the fault")
            wait_until(is_nothing_due, PATIENCE, "every slot since the fault")
    for row in rows[:3]:
        found = Slot.objects.filter(entry_id=row.pk).order_by("slot_at")
        assert list(found.values_list("slot_at", flat=True)) == slots_of(row)
        assert found.first().slot_at <= firsts[row.pk]
        assert set(found.values_list("decision", flat=True)) <= {"fired", "made_up"}
    made = Slot.objects.filter(entry_id__in=[row.pk for row in rows])
    assert None not in made.values_list("outcome_id", flat=True)
    keys = Outcome.objects.values_list("idempotency_key", flat=True)
    assert Counter(keys).keys() == {f"{slot.name}@{slot.slot_at.isoformat()}" for slot in made}
    assert Outcome.objects.count() == made.count()
    # Before the first fault beats were starting, which takes what it takes.
    late = [slot.decided_at - slot.slot_at for slot in made if slot.slot_at > began]
    record_property("slots, faults, latest", f"{len(late)}, {dict(beats.counts)}, {max(late)}")
    assert max(late) <= LATEST, "\n".join(account_of(made, beats.diary))
