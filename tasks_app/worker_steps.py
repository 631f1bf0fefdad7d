"""
What a Celery worker does for this app besides running tasks.

A bootstep runs the relay (with the rescuer) in a thread of the main process; signal receivers
name the worker before it forks, keep database connections between outcomes, and give back what
is still running when the worker stops.
"""

import logging
import threading
from typing import Any

from celery import Celery, bootsteps, signals
from celery.fixups.django import DjangoWorkerFixup
from django.db import DatabaseError, connections

from tasks_app import leases, rescue
from tasks_app.conf import conf
from tasks_app.declare import OutcomeTask
from tasks_app.forks import database_section
from tasks_app.keeper import keeper
from tasks_app.relay import Relay

logger = logging.getLogger(__name__)

#: Seconds that a stopping worker waits for its relay's last look.
LAST_LOOK = 10


class RelayStep(bootsteps.StartStopStep):
    """Starts the relay once the pool has forked, stops it before the pool stops."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self.enabled = conf.RELAY_IN_WORKER
        self.relay: Relay | None = None
        self.thread: threading.Thread | None = None

    def start(self, parent: Any) -> None:
        self.relay = Relay(parent.app)
        self.thread = threading.Thread(target=self.relay.run, name="tasks_app-relay", daemon=True)
        self.thread.start()

    def stop(self, parent: Any) -> None:
        if self.relay is not None and self.thread is not None:
            self.relay.stop()
            self.thread.join(LAST_LOOK)

    def terminate(self, parent: Any) -> None:
        self.stop(parent)


def prepare(app: Celery) -> None:
    """Make the app's workers serve outcomes; called once per app."""
    app.steps["worker"].add(RelayStep)
    signals.worker_init.connect(_name_worker, dispatch_uid="tasks_app")
    signals.worker_shutdown.connect(_give_back, dispatch_uid="tasks_app")
    signals.celeryd_init.connect(_keep_connections, dispatch_uid="tasks_app")


def _name_worker(sender: Any = None, instance: Any = None, **kwargs: Any) -> None:
    leases.identify(str(sender))
    keeper.has_own_process = "prefork" in str(getattr(instance, "pool_cls", ""))


def _give_back(**kwargs: Any) -> None:
    try:
        with database_section(conf.DATABASE, keep=False):
            released = rescue.release_all()
    except DatabaseError:
        logger.warning("Running outcomes are left to the rescuer", exc_info=True)
    else:
        if released:
            logger.info("Gave back %d running outcomes", released)


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
