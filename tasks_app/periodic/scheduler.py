"""
Beat's scheduler: any number of beats run, one leads and decides the slots that are due.

On django-celery-beat's tables, in place of what decides there. A tick reads the timers that are
due, however many there are. It needs no broker; without its database it waits and goes on where it
was. Two beats that both believe they lead decide nothing twice: slots are guarded by themselves.
"""

import logging
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

from django.db import Error, InterfaceError, OperationalError, connections
from django_celery_beat.schedulers import DatabaseScheduler

from tasks_app.exceptions import ConfigurationError
from tasks_app.models import Outcome, Timer
from tasks_app.periodic import slots, timers
from tasks_app.periodic.entries import KINDS, is_readable, timetable_of
from tasks_app.periodic.leadership import Leader
from tasks_app.periodic.policies import Missed, Overlap, Policy, plan
from tasks_app.periodic.sync import sync
from tasks_app.periodic.upkeep import Upkeep
from tasks_app.retry import RetryPolicy
from tasks_app.transience import is_transient, pessimistic

logger = logging.getLogger(__name__)

#: Longest time between two looks, in seconds.
LOOK = 2.0

#: Seconds after which every entry is read anew, for changes that nobody told.
REREAD = 300.0

#: Timers per look, and slots of one timer.
BATCH = 100

#: Seconds of deciding after which a leader renews its lease first.
LONGEST_TURN = 3.0

#: Wait before an entry whose slot cannot be enqueued is tried again.
STUMBLED = timedelta(seconds=30)

#: Waits for a database that is away.
BACKOFF = RetryPolicy(initial=0.5, maximum=5)

#: Seconds that a beat which ends gives its word that another may lead.
LAST_WORD = 2.0


class Sending:
    """A slot's firing in the form of beat's own entries, and what has become of it."""

    def __init__(self, firing: slots.Firing) -> None:
        self.firing = firing
        self.name = firing.entry.name
        self.task = firing.call.task
        self.args = firing.call.args
        self.kwargs = firing.call.kwargs
        self.options: dict[str, Any] = {"headers": dict(firing.call.headers)}
        self.outcome: Outcome | None = None
        self.error: Exception | None = None

    @property
    def schedule(self) -> Any:
        return self.firing.entry.schedule


class Scheduler(DatabaseScheduler):  # type: ignore[misc]  # ships no types
    """Decides slots as a leader, and waits for its turn otherwise."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.leader = Leader("beat")
        self.upkeep = Upkeep()
        self._entries: dict[str, Any] = {}
        self._is_ready = False
        self._is_leading = False
        self._failures = 0
        self._last_change: Any = None
        self._noticed_at = self._read_at = float("-inf")
        super().__init__(*args, **kwargs)

    @property
    def schedule(self) -> dict[str, Any]:
        """The entries that settings have brought in; those of the database are never all held."""
        return self._entries

    def setup_schedule(self) -> None:
        """Leave everything to the first tick, which may have to wait for the database."""

    def sync(self) -> None:
        """Do nothing: what a tick has decided is written."""

    def close(self) -> None:
        """Let another beat lead at once, and release what Celery's scheduler holds."""
        self._resign()
        super().close()

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Decide what is due, if this beat leads; return the seconds until the next look."""
        try:
            wait = self._turn()
        except Error as error:
            _end_if_asked(error)
            wait = self._stumble(error)
        else:
            if self._failures:
                logger.info("beat has its database back")
            self._failures = 0
        return min(wait, float(self.max_interval))

    def apply_async(
        self,
        entry: Any,
        producer: Any = None,
        advance: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
        **kwargs: Any,
    ) -> Outcome | None:
        """Enqueue what a slot asks for, with the headers that integrations have given it."""
        call = replace(entry.firing.call, headers=entry.options["headers"])
        try:
            entry.outcome = slots.enqueue(replace(entry.firing, call=call))
        except Exception as error:  # noqa: BLE001 - raised again by who decides the slot
            entry.error = error
        return cast("Outcome | None", entry.outcome)

    def _turn(self) -> float:
        if not self._is_ready:
            self._make_ready()
        is_leading = self.leader.lead()
        if is_leading != self._is_leading:
            logger.info("beat %s", "leads" if is_leading else "does not lead any more")
            self._read_at = float("-inf")
        self._is_leading = is_leading
        self.upkeep.run_if_due()
        if not is_leading:
            return min(LOOK, self.leader.vacant_in)
        self._notice_changes()
        return self._serve()

    def _make_ready(self) -> None:
        try:
            sync()
        except ConfigurationError as error:
            logger.error("beat goes on with the schedules as they are: %s", error)  # noqa: TRY400 - it says what and where
        # They read before they write, and tell of what another writer did between as an error.
        with pessimistic():
            self.install_default_entries(self.schedule)
            self.update_from_dict(self.app.conf.beat_schedule)
        self._is_ready = True

    def _notice_changes(self) -> None:
        """Bring timers in line with entries that have changed since the last look."""
        moment = time.monotonic()
        if moment - self._noticed_at < LOOK:
            return
        self._noticed_at = moment
        # Read before the entries are: a change that comes between is noticed next time.
        changed = self.Changes.last_change()
        if changed == self._last_change and moment - self._read_at < REREAD:
            return
        timers.attune_all(_with_schedules(self.Model.objects.all()))
        self._last_change, self._read_at = changed, moment

    def _serve(self) -> float:
        due = timers.due(BATCH)
        rows = self.Model.objects.filter(pk__in=[timer.pk for timer in due])
        entries = {entry.pk: entry for entry in _with_schedules(rows)} if due else {}
        began = time.monotonic()
        for timer in due:
            self._serve_one(timer, entries.get(timer.pk))
            if time.monotonic() - began > LONGEST_TURN:
                break
        if due:
            return 0.0
        wait = timers.wait()
        return LOOK if wait is None else min(wait, LOOK)

    def _serve_one(self, timer: Any, entry: Any) -> None:
        """Decide one entry's slots; what is wrong with it never stops the others."""
        try:
            if entry is None:
                timers.forget([timer.pk])
            elif timers.is_stale(timer, entry) or not is_readable(entry):
                timers.attune(entry)
            else:
                self._serve_timer(timer, entry)
        except (InterfaceError, OperationalError) as error:
            _end_if_asked(error)
            if not is_transient(error):
                raise
            logger.info("The slot of %s is decided again: %s", timer, error)
        except Exception as error:
            _end_if_asked(error)
            logger.exception("The schedule %s stumbled; the others go on", timer)
            timers.put_off(timers.fresh(timer), STUMBLED)

    def _serve_timer(self, timer: Any, entry: Any) -> None:
        if timer.waiting_at is not None:
            slots.release(timer, entry, self._send)
        if timer.next_at is not None and timer.next_at <= timer.is_at:
            self._decide(timer, entry)

    def _decide(self, timer: Any, entry: Any) -> None:
        planned = plan(
            timetable_of(entry),
            timer.next_at - slots.INSTANT,
            timer.is_at,
            policy_of(timer),
            BATCH,
            entry_id=timer.pk,
        )
        if not planned:
            timers.wait_again(timer)
        for each in planned:
            if slots.decide(timer, each, entry, self._send) is None:
                return

    def _send(self, firing: slots.Firing) -> Outcome:
        sending = Sending(firing)
        # Celery's own, which integrations stand around; it tells of errors and goes on.
        self.apply_entry(sending)
        if sending.error is not None:
            raise sending.error
        return cast("Outcome", sending.outcome)

    def _stumble(self, error: Error) -> float:
        if not self._failures:
            logger.warning("beat lost its database; waiting: %s", error)
        self._failures += 1
        for connection in connections.all(initialized_only=True):
            with suppress(Error):
                connection.close()
        return max(BACKOFF.delay(self._failures).total_seconds(), 0.1)

    def _resign(self) -> None:
        """
        Resign on a connection of its own, within `LAST_WORD`.

        A signal may have come in the middle of a statement, whose connection is not to be used.
        """

        def resign() -> None:
            with suppress(Error):
                self.leader.resign()
            connections.close_all()

        thread = threading.Thread(target=resign, name="tasks_app-resign", daemon=True)
        thread.start()
        thread.join(LAST_WORD)


def _end_if_asked(error: BaseException | None) -> None:
    """
    Raise the request to end that an error has come from.

    A signal raises it in the middle of a statement; undoing that statement's transaction may then
    fail in its turn, and hide it.
    """
    while error is not None:
        if isinstance(error, SystemExit):
            raise error
        error = error.__context__


def policy_of(timer: Timer) -> Policy:
    """Return how an entry treats late and overlapping slots."""
    return Policy(
        missed=Missed(timer.missed),
        missed_max=timer.missed_max,
        overlap=Overlap(timer.overlap),
        jitter=timer.jitter_seconds,
    )


def _with_schedules(rows: Any) -> Any:
    return rows.select_related(*KINDS)
