"""
The guarded statements: the only writers of an outcome's state and of its attempts.

Each act is one conditional UPDATE that names the state, and for a running outcome the fence, that
it expects. Zero rows means that somebody else decided: the caller stops and writes nothing more.
`states.TRANSITIONS` lists the acts; `protocol` in the documentation explains them.

Every function runs in the caller's transaction of `TASKS_APP["DATABASE"]`, or in its own
statement where there is none. A crash between two of them leaves a row that the relay or the
rescuer picks up.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, cast
from uuid import UUID

from django.db.models import DurationField, Exists, F, Field, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce, Greatest

from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.exceptions import LeaseLost
from tasks_app.leases import Failure, Lease
from tasks_app.models import Attempt, Cause, Outcome, PausedQueue, Progress
from tasks_app.statements import Prepared, Slot, StateIs, update_one
from tasks_app.states import AttemptState, Reason, State

NO_FAILURE = Failure()
#: The guard that asks for nothing more than the fence.
ANYHOW = Q()

#: Hexadecimal digits of a hash that names a kind of failure.
FINGERPRINT = 32


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a process wants to claim: see `claim`."""

    outcome_id: UUID
    names: frozenset[str]
    worker: str

    def values(self) -> dict[str, Any]:
        """Return what the statement of a claim is to be told."""
        known = {f"name{place}": name for place, name in enumerate(sorted(self.names))}
        return {"id": self.outcome_id, "worker": self.worker, "lease": conf.LEASE, **known}


def _slot(name: str, field: str = "") -> Slot:
    return Slot(name, cast("Field[Any, Any]", Outcome._meta.get_field(field or name)))


@cache
def _claim(names: int) -> Prepared:
    """
    Return the claim by a task that answers to so many names.

    Whether the queue rests is asked within it, of the rows that are committed when it begins. At
    read committed, which is what every database here is asked for, that read takes no lock, so
    claim and pause neither wait for each other nor deadlock.
    """
    now = DatabaseNow()
    paused = PausedQueue.objects.filter(name=OuterRef("queue"))
    return Prepared(
        Outcome.objects.filter(
            Q(expires_at__isnull=True) | Q(expires_at__gt=now),
            StateIs(State.PENDING),
            ~Exists(paused),
            pk=_slot("id"),
            task_name__in=[_slot(f"name{place}", "task_name") for place in range(names)],
            run_at__lte=now,
            cancel_requested_at__isnull=True,
        ),
        {
            "state": State.RUNNING,
            "attempt": F("attempt") + 1,
            "fence": F("fence") + 1,
            "worker": _slot("worker"),
            "claimed_at": now,
            "lease_until": now + Slot("lease", DurationField()),
            "started_at": Coalesce(F("started_at"), now),
            "progress_done": None,
            "progress_total": None,
            "progress_message": "",
        },
    )


@cache
def _success(*progress: str) -> Prepared:
    """Return the statement that ends a run well and records it, with these progress fields."""
    return Prepared(
        Outcome.objects.filter(StateIs(State.RUNNING), pk=_slot("id"), fence=_slot("fence")),
        {
            "state": State.SUCCEEDED,
            "finished_at": DatabaseNow(),
            "finish_fence": _slot("fence"),
            "lease_until": None,
            "claimed_at": None,
            "result_json": _slot("result_json"),
            "result_omitted": _slot("result_omitted"),
            "error": "",
            **{name: _slot(name) for name in progress},
        },
        follows=Attempt(
            outcome_id=_slot("id"),  # type: ignore[misc]  # a slot stands for any value
            number=_slot("number", "attempt"),
            fence=_slot("fence"),
            state=AttemptState.SUCCEEDED,
            worker=_slot("worker"),
            started_at=_slot("started_at"),
            due_at=_slot("due_at", "run_at"),
            log=Slot("log", cast("Field[Any, Any]", Attempt._meta.get_field("log"))),
        ),
    )


def claim(outcome_id: UUID, names: frozenset[str], worker: str) -> Outcome | None:
    """
    Take the right to run a due outcome: pending → running.

    Its commit does not wait for the disk: a claim that a crash forgets is made again.

    Args:
        outcome_id: The row that a message spoke of.
        names: Names that the claiming task answers to; another task's row is not touched.
        worker: Name of the claiming process.

    Returns:
        The running outcome, or None if it is not this task's, not due, no longer pending, or its
        queue is paused.
    """
    wanted = Wanted(outcome_id, names, worker)
    return _claim(len(names)).run_returning(**wanted.values())


def renew(lease: Lease, progress: Progress | None = None) -> bool:
    """Extend the lease by `LEASE` from now, and store the helper's last progress with it."""
    values = _progress_values(progress)
    return update_one(_held(lease), lease_until=DatabaseNow() + conf.LEASE, **values)


def cancel_requests(leases: list[Lease]) -> dict[UUID, bool]:
    """
    Tell for each lease that is still held whether its cancellation was asked for.

    A lease that is missing from the answer is lost.
    """
    fences = {lease.outcome_id: lease.fence for lease in leases}
    rows = Outcome.objects.filter(StateIs(State.RUNNING), pk__in=fences).values_list(
        "pk", "fence", "cancel_requested_at"
    )
    return {pk: asked is not None for pk, fence, asked in rows if fences[pk] == fence}


def succeed(  # noqa: PLR0913 - what a run leaves behind
    lease: Lease,
    result_json: str | None,
    omitted: str = "",
    progress: Progress | None = None,
    log: str = "",
    *,
    then: Wanted | None = None,
) -> Outcome | None:
    """
    Running → succeeded; in the helper's own transaction when that is atomic.

    Args:
        lease: The run that ends.
        result_json: The stored result; None where there is none.
        omitted: Why there is none; empty where there is one.
        progress: What the helper reported and nobody has stored yet.
        log: The last lines of the run's log.
        then: What to claim with it, in the same statement on PostgreSQL. Both hold once the
            transaction is committed, or neither: a crash before leaves this outcome running and
            the other pending, a crash after leaves the other one running.

    Returns:
        What the claim returned, if there was one to make.

    Raises:
        LeaseLost: somebody else ended this run, and nothing was claimed; the transaction must be
            rolled back.
    """
    reported = _progress_values(progress)
    values = {
        "id": lease.outcome_id,
        "fence": lease.fence,
        "number": lease.number,
        "worker": lease.worker,
        "started_at": lease.started_at,
        "due_at": lease.due_at,
        "result_json": result_json,
        "result_omitted": omitted,
        "log": log,
        **reported,
    }
    statement, claimed = _success(*reported), None
    if then is None:
        ended = statement.run(**values)
    else:
        following = _claim(len(then.names))
        ended, claimed = statement.run_and_then(values, following, then.values())
    if not ended:
        raise LeaseLost(lease.outcome_id, lease.fence)
    return claimed


def fail(lease: Lease, reason: Reason, failure: Failure = NO_FAILURE) -> None:
    """Running → failed, with its cause; raises LeaseLost like `succeed`."""
    _end(lease, State.FAILED, reason=reason, error=failure.error)
    _record(lease, lease.number, AttemptState.FAILED, failure)
    _tell_cause(lease.outcome_id, lease.task_name, reason, failure)


def stop(lease: Lease, failure: Failure = NO_FAILURE) -> None:
    """Running → cancelled, because its cancellation was asked for; raises LeaseLost."""
    _end(lease, State.CANCELLED, error=failure.error)
    _record(lease, lease.number, AttemptState.CANCELLED, failure)


def retry(lease: Lease, delay: timedelta, failure: Failure = NO_FAILURE) -> State:
    """
    Running → pending after an exception, to run again in `delay`.

    Returns:
        The state it went to: cancelled, if that was asked for meanwhile.

    Raises:
        LeaseLost: somebody else ended this run.
    """
    return _give_back(lease, AttemptState.RETRIED, delay, failure, error=failure.error)


def snooze(
    lease: Lease,
    delay: timedelta,
    failure: Failure = NO_FAILURE,
    progress: Progress | None = None,
) -> State:
    """
    Running → pending without costing the attempt, or telling of an error; see `retry`.

    `progress` is what the helper reported and nobody has stored yet: it is not at an end, and those
    who wait see meanwhile how far it is.
    """
    left = _without_error(failure)
    values = _progress_values(progress)
    return _give_back(lease, AttemptState.SNOOZED, delay, left, attempt=lease.number - 1, **values)


def release(lease: Lease, delay: timedelta = timedelta(0), failure: Failure = NO_FAILURE) -> State:
    """Running → pending because the worker stops; costs no attempt; see `retry`."""
    left = _without_error(failure)
    return _give_back(lease, AttemptState.RELEASED, delay, left, attempt=lease.number - 1)


def rescue(
    outcome: Outcome, delay: timedelta, failure: Failure, *, is_known_dead: bool = False
) -> State:
    """
    End a run whose worker is lost: running → pending, failed or cancelled.

    Args:
        outcome: The running row, as read before.
        delay: Wait before the next attempt.
        failure: What to tell about the loss.
        is_known_dead: The caller saw the worker die; without it the lease must have run out.

    Raises:
        LeaseLost: it was renewed or ended since `outcome` was read.
    """
    lease = Lease.of(outcome)
    guard = ANYHOW if is_known_dead else Q(lease_until__lt=DatabaseNow())
    if outcome.cancel_requested_at is not None:
        _end(lease, State.CANCELLED, guard, crashes=F("crashes") + 1)
        _record(lease, lease.number, AttemptState.LOST, failure)
        return State.CANCELLED
    if outcome.crashes + 1 >= conf.MAX_CRASHES:
        _end(
            lease,
            State.FAILED,
            guard,
            reason=Reason.WORKER_LOST,
            error=failure.error,
            crashes=F("crashes") + 1,
        )
        _record(lease, lease.number, AttemptState.LOST, failure)
        _tell_cause(lease.outcome_id, lease.task_name, Reason.WORKER_LOST, failure)
        return State.FAILED
    return _give_back(
        lease,
        AttemptState.LOST,
        delay,
        failure,
        guard,
        error=failure.error,
        crashes=F("crashes") + 1,
    )


def cancel(outcome_id: UUID, reason: str = "") -> bool:
    """Pending → cancelled; False if it is not pending."""
    now = DatabaseNow()
    return update_one(
        Outcome.objects.filter(StateIs(State.PENDING), pk=outcome_id),
        state=State.CANCELLED,
        finished_at=now,
        cancel_requested_at=now,
        cancel_reason=reason,
        fence=F("fence") + 1,
    )


def request_cancel(outcome_id: UUID, reason: str = "") -> bool:
    """Ask a running outcome to stop; False if it is not running or was asked before."""
    rows = Outcome.objects.filter(
        StateIs(State.RUNNING), pk=outcome_id, cancel_requested_at__isnull=True
    )
    return update_one(rows, cancel_requested_at=DatabaseNow(), cancel_reason=reason)


def expire(outcome_id: UUID) -> bool:
    """Pending → expired, once its time has passed."""
    now = DatabaseNow()
    rows = Outcome.objects.filter(StateIs(State.PENDING), pk=outcome_id, expires_at__lte=now)
    return update_one(rows, state=State.EXPIRED, finished_at=now, fence=F("fence") + 1)


def give_up(outcome_id: UUID, reason: Reason, error: str) -> bool:
    """Pending → failed without a run, with its cause, such as for a task that no worker knows."""
    ended = update_one(
        Outcome.objects.filter(StateIs(State.PENDING), pk=outcome_id),
        state=State.FAILED,
        reason=reason,
        error=error,
        finished_at=DatabaseNow(),
        fence=F("fence") + 1,
    )
    if ended:
        row = Outcome.objects.only("task_name").get(pk=outcome_id)
        _tell_cause(outcome_id, row.task_name, reason)
    return ended


def discard(outcome_id: UUID, error: str) -> bool:
    """Pending → failed, because somebody gave it up; False if it is not pending."""
    return give_up(outcome_id, Reason.DISCARDED, error)


def move(outcome_id: UUID, queue: str | None = None, priority: int | None = None) -> bool:
    """
    Give a pending outcome another queue, another priority, or both; False if it is not pending.

    It is announced anew once it is due: the bells that rang for it are in the old queue.
    """
    given = {"queue": queue, "priority": priority}
    return update_one(
        Outcome.objects.filter(StateIs(State.PENDING), pk=outcome_id),
        announce_at=Greatest(F("run_at"), DatabaseNow()),
        announced=0,
        **{name: value for name, value in given.items() if value is not None},
    )


def run_now(outcome_id: UUID) -> bool:
    """Make a pending outcome due at once; False if it is not pending."""
    now = DatabaseNow()
    rows = Outcome.objects.filter(StateIs(State.PENDING), pk=outcome_id)
    return update_one(rows, run_at=now, announce_at=now, announced=0)


def postpone(outcome_id: UUID, announce_at: datetime) -> bool:
    """Move the next announcement of a pending outcome."""
    rows = Outcome.objects.filter(StateIs(State.PENDING), pk=outcome_id)
    return update_one(rows, announce_at=announce_at)


def note_event(attempt: Attempt, event_id: str) -> None:
    """Keep the event that tells of an attempt which was written before it was sent."""
    Attempt.objects.filter(pk=attempt.pk).update(sentry_event_id=event_id)


def _held(lease: Lease) -> QuerySet[Outcome]:
    return Outcome.objects.filter(StateIs(State.RUNNING), pk=lease.outcome_id, fence=lease.fence)


def _end(lease: Lease, state: State, guard: Q = ANYHOW, **values: Any) -> None:
    ended = update_one(
        _held(lease).filter(guard),
        state=state,
        finished_at=DatabaseNow(),
        finish_fence=lease.fence,
        lease_until=None,
        claimed_at=None,
        **values,
    )
    if not ended:
        raise LeaseLost(lease.outcome_id, lease.fence)


def _give_back(
    lease: Lease,
    ending: AttemptState,
    delay: timedelta,
    failure: Failure = NO_FAILURE,
    guard: Q = ANYHOW,
    **values: Any,
) -> State:
    """Leave running for pending, or for cancelled where that was asked for."""
    due = DatabaseNow() + delay if delay else DatabaseNow()
    if failure.trace_context is not None:
        values["trace_context"] = failure.trace_context
    back = update_one(
        _held(lease).filter(guard, cancel_requested_at__isnull=True),
        state=State.PENDING,
        run_at=due,
        announce_at=due,
        announced=0,
        fence=lease.fence + 1,
        lease_until=None,
        claimed_at=None,
        **values,
    )
    if not back:
        _end(lease, State.CANCELLED, guard, **values)
    _record(lease, lease.number, ending, failure)
    return State.PENDING if back else State.CANCELLED


def _without_error(failure: Failure) -> Failure:
    return Failure(log=failure.log, trace_context=failure.trace_context)


def _record(lease: Lease, number: int, ending: AttemptState, failure: Failure = NO_FAILURE) -> None:
    Attempt.objects.create(
        outcome_id=lease.outcome_id,
        number=number,
        fence=lease.fence,
        state=ending,
        worker=lease.worker,
        started_at=lease.started_at,
        due_at=lease.due_at,
        error_type=failure.error_type,
        error=failure.error,
        traceback=failure.traceback,
        sentry_event_id=failure.sentry_event_id,
        log=failure.log,
    )


def _tell_cause(
    outcome_id: UUID, task_name: str, reason: Reason, failure: Failure = NO_FAILURE
) -> None:
    """Record why an outcome failed; what nobody raised is told apart by its task."""
    was_raised = failure.place is not None
    error_type, place = (failure.error_type, failure.place or "") if was_raised else (reason, "")
    kind = (error_type, place) if was_raised else (reason, task_name)
    Cause.objects.create(
        outcome_id=outcome_id,
        fingerprint=hashlib.sha256("\n".join(kind).encode()).hexdigest()[:FINGERPRINT],
        task_name=task_name,
        error_type=error_type,
        place=place,
        failed_at=DatabaseNow(),
    )


def _progress_values(progress: Progress | None) -> dict[str, Any]:
    if progress is None:
        return {}
    return {
        "progress_done": progress.done,
        "progress_total": progress.total,
        "progress_message": progress.message,
    }
