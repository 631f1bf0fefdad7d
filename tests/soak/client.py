"""A client of the soak: a process that enqueues without end and logs what it was told.

    python -m tests.soak.client NAME SEED FOLDER

It pauses while much is waiting, so that the backlog stays what the machine can do. SIGTERM ends
it after the call in progress; it may be killed at any time.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import django

django.setup()

from django.db import DatabaseError, connection, transaction  # noqa: E402 - Django is set up now

from tasks_app.models import Outcome  # noqa: E402
from tests.history.client import ClientLog  # noqa: E402
from tests.soak import tasks  # noqa: E402
from tests.soak.members import START  # noqa: E402
from tests.soak.verdict import BULK  # noqa: E402

#: Calls per second of one client, on average.
RATE = 9

#: Outcomes that may wait before the clients pause, and seconds between two looks at them.
BACKLOG, LOOK = 60, 1.0

#: Delay of what is to be cancelled before it runs, in seconds.
LATER = 4


class Client:
    """One client: a log and dice."""

    def __init__(self, name: str, seed: str, folder: Path) -> None:
        self.dice = random.Random(f"{seed}/{name}/{os.environ.get(START)}")
        self.log = ClientLog(folder / f"{name}.calls")
        self.stopping = threading.Event()
        self.next_look = 0.0
        self.kinds: dict[Callable[[str], None], float] = {
            self.effect: 48,
            self.in_transaction: 8,
            self.rolled_back: 3,
            self.bulk: 2,
            self.keyed: 10,
            self.external: 10,
            self.slow: 3,
            self.flaky: 4,
            self.asking: 2,
            self.snoozing: 2,
            self.parent: 4,
            self.cancel_waiting: 2,
            self.cancel_running: 0.6,
            self.fatal_once: 0.6,
            self.poison: 0.15,
        }

    def run(self) -> None:
        """Call until asked to stop."""
        while not self.stopping.is_set():
            call = self.dice.choices(list(self.kinds), list(self.kinds.values()))[0]
            try:
                self.keep_backlog_short()
                call(uuid4().hex)
            except DatabaseError:
                connection.close()
                self.stopping.wait(0.2)
            self.stopping.wait(self.dice.expovariate(RATE))

    def keep_backlog_short(self) -> None:
        """Pause while more waits than the workers get done."""
        if time.monotonic() < self.next_look:
            return
        unfinished = Outcome.objects.filter(state__in=("pending", "running"))
        while unfinished.count() > BACKLOG and not self.stopping.wait(LOOK):
            pass
        self.next_look = time.monotonic() + LOOK

    def enqueue(self, task: object, key: str, *args: object, **options: object) -> Outcome:
        """Make one logged call of `enqueue`."""
        name = getattr(task, "name", "")
        with self.log.invoked("enqueue", key=self.scope(name, key), arguments=[name, key]) as call:
            target = task.using(**options) if options else task  # type: ignore[attr-defined]
            outcome: Outcome = target.enqueue(key, *args)
            call.ok(outcome.pk, created=outcome.created)
        return outcome

    def scope(self, name: str, key: str) -> str | None:
        """Return the idempotency key of a call, where its task has one."""
        return f"soak:{key}" if name == tasks.keyed.name else None

    # -- the kinds of call --------------------------------------------------------------------

    def effect(self, key: str) -> None:
        self.enqueue(tasks.effect, key)

    def in_transaction(self, key: str) -> None:
        """Stay in the transaction for a while, so that a kill often meets it."""
        with self.log.invoked("enqueue", arguments=[tasks.effect.name, key]) as call:
            with transaction.atomic():
                outcome = tasks.effect.enqueue(key)
                time.sleep(self.dice.uniform(0, 0.1))
            call.ok(outcome.pk, created=True)

    def rolled_back(self, key: str) -> None:
        """Enqueue what nobody must ever see."""
        with self.log.invoked("roll back", arguments=[tasks.effect.name, key]) as call:
            with transaction.atomic():
                tasks.effect.enqueue(key)
                transaction.set_rollback(True)
            call.ok()

    def bulk(self, key: str) -> None:
        keys = [f"{key}-{number}" for number in range(BULK)]
        with self.log.invoked("enqueue_many", arguments=[tasks.effect.name, *keys]) as call:
            ids = tasks.effect.enqueue_many([(each,) for each in keys])
            call.ok(ids=[str(each) for each in ids])

    def keyed(self, key: str) -> None:
        """Call several times, as a client does that never heard the answer."""
        for _ in range(self.dice.choice((1, 2, 3))):
            try:
                self.enqueue(tasks.keyed, key)
            except DatabaseError:
                connection.close()

    def external(self, key: str) -> None:
        self.enqueue(tasks.external, key)

    def slow(self, key: str) -> None:
        self.enqueue(tasks.slow, key, round(self.dice.uniform(1, 6), 1))

    def flaky(self, key: str) -> None:
        self.enqueue(tasks.flaky, key)

    def asking(self, key: str) -> None:
        self.enqueue(tasks.asking, key)

    def snoozing(self, key: str) -> None:
        self.enqueue(tasks.snoozing, key)

    def parent(self, key: str) -> None:
        self.enqueue(tasks.parent, key)

    def fatal_once(self, key: str) -> None:
        self.enqueue(tasks.fatal_once, key)

    def poison(self, key: str) -> None:
        self.enqueue(tasks.poison, key)

    def cancel_waiting(self, key: str) -> None:
        self.cancel(self.enqueue(tasks.effect, key, run_after=LATER))

    def cancel_running(self, key: str) -> None:
        outcome = self.enqueue(tasks.watching, key, 6)
        self.stopping.wait(self.dice.uniform(0, 2))
        self.cancel(outcome)

    def cancel(self, outcome: Outcome) -> None:
        with self.log.invoked("cancel", outcome_id=outcome.pk) as call:
            cancelled = outcome.cancel(by="soak")
            call.ok(outcome.pk, cancelled=cancelled, state=str(outcome.state))


def main(name: str, seed: str, folder: str) -> None:
    """Run one client until SIGTERM."""
    client = Client(name, seed, Path(folder))
    signal.signal(signal.SIGTERM, lambda number, frame: client.stopping.set())
    sys.stdout.write(f"{name} calls.\n")
    sys.stdout.flush()
    client.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
