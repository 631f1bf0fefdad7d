"""
Rescue: runs whose lease is dead go back to pending, or end.

`run_once` looks for orphans of any worker; `take_back` ends a run of this worker at once, when
its main process saw the child die. Both are guarded: a run that was renewed or settled meanwhile
is left alone.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from uuid import UUID

from celery import Celery
from django.db import connections, transaction
from django.db.models import QuerySet

from tasks_app import canvas, outbox, outcomes, signals
from tasks_app.conf import conf
from tasks_app.crash_points import crash_point
from tasks_app.exceptions import LeaseLost
from tasks_app.failures import judge_time_limit
from tasks_app.forks import database_section
from tasks_app.leases import Failure, Lease, process_of, worker_name, worker_prefix
from tasks_app.models import Outcome
from tasks_app.options import TaskOptions, declared
from tasks_app.retry import RetryPolicy
from tasks_app.states import State
from tasks_app.transience import pessimistic

#: Orphans per look.
BATCH = 100

#: Waits before a rescued outcome runs again, by how many runs of it were lost before.
BACKOFF = RetryPolicy(initial=1, maximum=60, jitter=False)

_is_telling_celery: ContextVar[bool] = ContextVar("tasks_app_is_telling_celery", default=False)


def run_once() -> int:
    """
    Rescue orphans, oldest lease first; return how many.

    Each is ended in a transaction of its own. Rows that another rescuer holds are skipped.
    """
    orphans = Outcome.objects.orphaned().order_by("lease_until").values_list("pk", flat=True)
    return sum(_rescue(pk) for pk in list(orphans[:BATCH]))


def take_back(outcome_id: UUID, pid: int | None, error: str, *, is_time_limit: bool) -> bool:
    """
    End the run of a child of this worker that is dead or about to be killed.

    Runs in the worker's main process. False if the outcome is not running in that child.
    """
    with pessimistic(), transaction.atomic(using=conf.DATABASE):
        rows = Outcome.objects.filter(pk=outcome_id, state=State.RUNNING, worker=worker_name(pid))
        outcome = _locked(rows).first()
        if outcome is None:
            return False
        failure = Failure(error_type="celery.exceptions.WorkerLostError", error=error)
        if is_time_limit and outcome.cancel_requested_at is None:
            state = _time_limit(outcome, error)
        else:
            state = outcomes.rescue(outcome, _wait(outcome), failure, is_known_dead=True)
        _follow_up(outcome, state, failure)
    _tell(outcome)
    return True


@contextmanager
def telling_celery() -> Iterator[None]:
    """Mark the block in which Celery learns, and logs, what was told of an outcome already."""
    token = _is_telling_celery.set(True)
    try:
        yield
    finally:
        _is_telling_celery.reset(token)


def is_telling_celery() -> bool:
    """Tell whether this code runs in such a block."""
    return _is_telling_celery.get()


def release_all() -> int:
    """Give back every outcome that this worker still runs, when it stops; return how many."""
    count = 0
    for outcome in _of_this_worker():
        try:
            with transaction.atomic(using=conf.DATABASE):
                outcomes.release(Lease.of(outcome))
        except LeaseLost:
            continue
        crash_point("release.after")
        count += 1
    return count


def running_processes() -> set[int]:
    """Return the ids of this worker's processes that run an outcome."""
    return {process_of(name) for name in _of_this_worker().values_list("worker", flat=True)}


def expire_paused() -> int:
    """Expire what waits in paused queues and may not run any more; return how many."""
    expired = outbox.expire_paused()
    for outcome in expired:
        outcome.refresh()
        signals.expired.send_robust(Outcome, outcome=outcome)
    return len(expired)


class Housekeeper:
    """Calls the rescuer every `RESCUE_INTERVAL` from whichever loop asks."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self._next = 0.0

    def run_if_due(self) -> None:
        """Rescue orphans, and expire rows of paused queues, every `RESCUE_INTERVAL`."""
        if time.monotonic() < self._next:
            return
        with database_section(conf.DATABASE, keep=True):
            run_once()
            expire_paused()
        self._next = time.monotonic() + conf.RESCUE_INTERVAL.total_seconds()


def _of_this_worker() -> QuerySet[Outcome]:
    return Outcome.objects.filter(state=State.RUNNING, worker__startswith=worker_prefix())


def _rescue(outcome_id: UUID) -> bool:
    failure = Failure(
        error_type="celery.exceptions.WorkerLostError",
        error="The worker was lost: its lease ran out.",
    )
    try:
        with pessimistic(), transaction.atomic(using=conf.DATABASE):
            outcome = _locked(Outcome.objects.orphaned().filter(pk=outcome_id)).first()
            if outcome is None:
                return False
            state = outcomes.rescue(outcome, _wait(outcome), failure)
            _follow_up(outcome, state, failure)
            crash_point("rescue.before_commit")
    except LeaseLost:
        return False
    crash_point("rescue.after_commit")
    _tell(outcome)
    return True


def _locked(rows: QuerySet[Outcome]) -> QuerySet[Outcome]:
    features = connections[conf.DATABASE].features
    if not features.has_select_for_update:
        return rows
    return rows.select_for_update(skip_locked=features.has_select_for_update_skip_locked)


def _time_limit(outcome: Outcome, error: str) -> State:
    failure = Failure(error_type="celery.exceptions.TimeLimitExceeded", error=error)
    verdict = judge_time_limit(outcome, declared.get(outcome.task_name, TaskOptions()))
    if verdict.act == "retry":
        return outcomes.retry(Lease.of(outcome), verdict.delay, failure)
    outcomes.fail(Lease.of(outcome), verdict.reason, failure)
    return State.FAILED


def _follow_up(outcome: Outcome, state: State, failure: Failure) -> None:
    if state == State.FAILED:
        canvas.on_failure(outcome, failure.error)


def _wait(outcome: Outcome) -> timedelta:
    return BACKOFF.delay(outcome.crashes + 1)


def _tell(outcome: Outcome) -> None:
    outcome.refresh()
    signals.rescued.send_robust(Outcome, outcome=outcome)
    if outcome.state == State.FAILED:
        signals.failed.send_robust(Outcome, outcome=outcome, error=None)
    elif outcome.state == State.CANCELLED:
        signals.cancelled.send_robust(Outcome, outcome=outcome)
