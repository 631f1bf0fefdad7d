"""
What a Celery worker does for this app besides running tasks.

A bootstep runs the relay (with the rescuer) in a thread of the main process; signal receivers
name the worker before it forks, keep database connections between outcomes, and see to it that
what still runs when the worker stops is given back.
"""

import logging
import os
import socket
import threading
import time
from functools import partial
from typing import Any

from celery import Celery, bootsteps, current_app, signals
from celery.concurrency import prefork, solo
from celery.fixups.django import DjangoWorkerFixup  # type: ignore[attr-defined]  # left out of its stub
from django.db import DatabaseError, connections
from kombu.exceptions import OperationalError
from kombu.transport import TRANSPORT_ALIASES

from tasks_app import leases, turns, vitals
from tasks_app.conf import conf
from tasks_app.declare import OutcomeTask
from tasks_app.forks import database_section
from tasks_app.keeper import keeper
from tasks_app.poison import PoisonStep
from tasks_app.pulse import BEAT, Pulse, beat
from tasks_app.relay import Relay
from tasks_app.soft_shutdown import SoftShutdown, give_back
from tasks_app.trouble import missing_tables

logger = logging.getLogger(__name__)

#: Seconds that a stopping worker waits for its relay's last look.
LAST_LOOK = 10

#: Seconds between two looks of a worker for a broker that is away, at most.
LONGEST_ABSENCE = 5

#: Seconds between two notes that the worker's loop turns, and after which it hangs.
LOOP, LONGEST_TURN = 2.0, 30.0

#: Seconds for which task events gather; Celery's dispatcher sends them earlier when there are 24.
GATHERING = 0.2

#: Where the prefork pool keeps the descriptor that tells of a child's end.
SENTINEL = "_sentinel_poll"

#: Named rather than imported: they need a client library that is not always there.
TOLERANT_TRANSPORTS = {
    "redis": "tasks_app.redis_transport:Transport",
    "rediss": "tasks_app.redis_transport:Transport",
    "sentinel": "tasks_app.redis_transport:SentinelTransport",
}

_soft_shutdown = SoftShutdown()


class RelayStep(bootsteps.StartStopStep):
    """Starts the relay once the pool has forked, stops it before the pool stops."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        keeper.has_own_process = issubclass(parent.pool_cls, prefork.TaskPool)
        turns.this_worker.start(counts_messages=bool(parent.max_tasks_per_child))
        self.enabled = conf.RELAY_IN_WORKER
        parent.relay = None
        self.relay: Relay | None = None
        self.thread: threading.Thread | None = None

    def start(self, parent: Any) -> None:
        _tell_missing_tables()
        self.relay = parent.relay = Relay(parent.app)
        self.thread = threading.Thread(target=self.relay.run, name="tasks_app-relay", daemon=True)
        self.thread.start()

    def stop(self, parent: Any) -> None:
        # A shutdown by remote control sends no signal.
        _begin_soft_shutdown()
        if self.relay is not None and self.thread is not None:
            self.relay.stop()
            self.thread.join(LAST_LOOK)

    def terminate(self, parent: Any) -> None:
        self.stop(parent)


class PulseStep(bootsteps.StartStopStep):
    """Beats, touches the liveness file and counts, beside the worker's own loop."""

    requires = ("celery.worker.components:Pool", RelayStep)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        # A solo pool's tasks run in the loop, which stands still meanwhile.
        self.has_free_loop = not issubclass(parent.pool_cls, solo.TaskPool)
        # Before the pool forks: its children write into the pipe of this one.
        self.pulse = Pulse("", "worker", self.is_working, partial(about_worker, parent))
        self.looped_at = time.monotonic()

    def start(self, parent: Any) -> None:
        self.pulse.name = leases.worker_name()
        self.relay: Relay | None = parent.relay
        self.note_loop()
        parent.timer.call_repeatedly(LOOP, self.note_loop)
        self.pulse.start()

    def stop(self, parent: Any) -> None:
        self.pulse.stop()

    def terminate(self, parent: Any) -> None:
        self.stop(parent)

    def note_loop(self) -> None:
        """Remember that the worker's loop turns."""
        self.looped_at = time.monotonic()

    def is_working(self) -> bool:
        """Tell whether the loop and the relay have turned lately."""
        oldest = time.monotonic() - LONGEST_TURN
        does_loop = self.looped_at > oldest or not self.has_free_loop
        return does_loop and (self.relay is None or self.relay.turned_at > oldest)


def about_worker(parent: Any) -> vitals.About:
    """Return what a worker says of itself: its pool, and the queues that it consumes just now."""
    return vitals.about(
        pool=parent.pool_cls.__module__.rpartition(".")[2],
        concurrency=parent.pool.num_processes,
        queues=sorted(parent.app.amqp.queues.consume_from),
    )


def _note_ticks(sender: Any, **kwargs: Any) -> None:
    """Let beat's heart beat as its scheduler ticks."""
    tick, name = sender.scheduler.tick, f"beat@{socket.gethostname()}/{os.getpid()}"
    due = 0.0

    def tick_and_beat(*args: Any, **options: Any) -> Any:
        nonlocal due
        wait = tick(*args, **options)
        if time.monotonic() >= due:
            due = time.monotonic() + BEAT
            beat(name, "beat", vitals.about())
        return wait

    sender.scheduler.tick = tick_and_beat


class ReconnectStep(bootsteps.Step):
    """
    Lets a worker look for its broker often, and whatever it was doing when that went away.

    kombu would wait longer each time, up to 30 s. It also has an error of its own for a broker that
    leaves while a producer connects, which would end the worker (Celery 5.7).
    """

    def create(self, parent: Any) -> None:
        parent.connection_errors = (*parent.connection_errors, OperationalError)
        ensure = parent.ensure_connected

        def ensure_soon(connection: Any) -> Any:
            connection.ensure_connection = partial(
                connection.ensure_connection, interval_start=1, interval_max=LONGEST_ABSENCE
            )
            return ensure(connection)

        parent.ensure_connected = ensure_soon


class ChildrenStep(bootsteps.StartStopStep):
    """Lets a worker that reconnects live on when one of its children has just ended."""

    requires = ("celery.worker.consumer.events:Events",)

    def start(self, parent: Any) -> None:
        watch_again(getattr(parent.pool, "_pool", None))


def watch_again(pool: Any) -> None:
    """
    Make the prefork pool watch children that have ended and are not buried yet.

    It forgets a child's descriptor once that has told of the end. Asked to watch the same child
    for a new connection, it ends the worker: "file descriptor is None" (Celery 5.7).
    """
    for process in getattr(pool, "_pool", ()):
        if getattr(process, SENTINEL, 0) is None:
            delattr(process, SENTINEL)


class EventsStep(bootsteps.StartStopStep):
    """Lets task events gather for a moment: Celery would send each run's one by one."""

    requires = ("celery.worker.consumer.events:Events",)

    def start(self, parent: Any) -> None:
        if parent.hub is not None:
            gathering = GatheredEvents(parent.hub, parent.event_dispatcher)
            parent.event_dispatcher.on_send_buffered = gathering.flush_soon


class GatheredEvents:
    """The events that a dispatcher has not sent yet."""

    def __init__(self, hub: Any, dispatcher: Any) -> None:
        self.hub = hub
        self.dispatcher = dispatcher
        self.is_awaited = False

    def flush_soon(self) -> None:
        """Send them in a moment, with those that have come until then."""
        if not self.is_awaited:
            self.is_awaited = True
            self.hub.call_later(GATHERING, self.flush)

    def flush(self) -> None:
        """Send them now."""
        self.is_awaited = False
        self.dispatcher.flush()


def prepare(app: Celery) -> None:
    """Make the app's workers serve outcomes; called once per app."""
    app.steps["worker"].update((RelayStep, PulseStep))
    app.steps["consumer"].add(PoisonStep)
    app.steps["consumer"].add(ReconnectStep)
    app.steps["consumer"].add(ChildrenStep)
    TRANSPORT_ALIASES.update(TOLERANT_TRANSPORTS)
    app.steps["consumer"].add(EventsStep)
    signals.beat_init.connect(_note_ticks, dispatch_uid="tasks_app")
    signals.worker_init.connect(_name_worker, dispatch_uid="tasks_app")
    signals.worker_shutting_down.connect(_begin_soft_shutdown, dispatch_uid="tasks_app")
    signals.worker_shutdown.connect(_give_back, dispatch_uid="tasks_app")
    signals.celeryd_init.connect(_keep_connections, dispatch_uid="tasks_app")


def _name_worker(sender: Any = None, **kwargs: Any) -> None:
    leases.identify(str(sender))


def _begin_soft_shutdown(**kwargs: Any) -> None:
    _soft_shutdown.begin(current_app.conf.worker_soft_shutdown_timeout)


def _tell_missing_tables() -> None:
    """Say once what to do about tables that are missing; a database that is away is waited for."""
    try:
        with database_section(conf.DATABASE, keep=False):
            missing = missing_tables()
    except DatabaseError:
        return
    if missing:
        logger.error("%s", missing)


def _give_back(**kwargs: Any) -> None:
    give_back()


def _keep_connections(**kwargs: Any) -> None:
    """Stop Celery's Django fixup from closing the connection around every outcome."""
    for name in ("on_task_prerun", "on_task_postrun"):
        setattr(DjangoWorkerFixup, name, _unless_outcome(getattr(DjangoWorkerFixup, name)))


def _unless_outcome(close: Any) -> Any:
    def close_unless_outcome(self: DjangoWorkerFixup, sender: Any, **kwargs: Any) -> None:
        if isinstance(sender, OutcomeTask):
            drop_broken_connections()
        else:
            close(self, sender=sender, **kwargs)

    return close_unless_outcome


def drop_broken_connections() -> None:
    """Close connections on which an error occurred and that no longer answer."""
    for connection in connections.all(initialized_only=True):
        if connection.errors_occurred and not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
