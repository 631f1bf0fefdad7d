"""
The server side of Celery: a doorbell becomes a run.

`answer` is what a registered task does when Celery calls it: claim → helper → settle → signals.
Each step is guarded by `outcomes.py`, so a doorbell that is late, doubled or forged ends as a
dropped message. Celery's own states, events and log lines follow from what `answer` raises.
"""

import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from asgiref.sync import async_to_sync, iscoroutinefunction
from celery import exceptions as celery_exceptions
from django.db import Error as DatabaseFailure
from django.db import InterfaceError, OperationalError, connections, transaction

from tasks_app import adoption, arguments, canvas, context, outcomes, signals
from tasks_app.conf import conf
from tasks_app.context import Lineage
from tasks_app.crash_points import crash_point, is_armed
from tasks_app.exceptions import LeaseLost
from tasks_app.failures import (
    Verdict,
    describe,
    is_shutdown,
    judge,
    one_line,
    presentable,
    short_line,
)
from tasks_app.keeper import keeper
from tasks_app.leases import Failure, worker_name
from tasks_app.models import Outcome, Progress, outcome_uuid
from tasks_app.options import TaskOptions
from tasks_app.outcomes import Wanted
from tasks_app.redaction import presentable_result, scrub
from tasks_app.retry import RetryPolicy
from tasks_app.runs import Run, entered
from tasks_app.statements import commit_alone
from tasks_app.states import Reason, State
from tasks_app.transience import is_lost_connection, is_transient, pessimistic
from tasks_app.turns import TURNS, Turns

logger = logging.getLogger(__name__)

#: Runs of an atomic helper that a deadlock or a busy database may cost within one attempt.
REPETITIONS = 5

#: Waits for a database that is busy, and for one that is away.
BUSY, AWAY = RetryPolicy(initial=0.05, maximum=1), RetryPolicy(initial=1, maximum=5)

Helper = Callable[..., Any]
T = TypeVar("T")


def answer(name: str, options: TaskOptions, helper: Helper, request: Any) -> Any:
    """
    Run the outcome that a message speaks of, if it may run now.

    Returns:
        What the helper returned, without the call's secrets.

    Raises:
        celery.exceptions.Ignore: nothing was to be done: the message is dropped.
        celery.exceptions.Retry: the outcome waits for its next attempt.
        Exception: the outcome failed; the helper's exception where that is safe to show.
    """
    turns: Turns | None = getattr(request, TURNS, None)
    outcome = turns.take(request.id) if turns else None
    if outcome is None:
        crash_point("claim.before")
        outcome = _take(name, options, request)
    if outcome is None:
        raise celery_exceptions.Ignore
    crash_point("claim.after")
    # The row has the canvas; what the message brought would be sent by Celery, past it.
    request.callbacks = request.errbacks = request.chain = request.chord = None
    value = execute(outcome, options, helper, turns=turns)
    if value is None:
        # Nothing to look through for the call's secrets, which costs more than a short run.
        return None
    return presentable_result(name, outcome.args, outcome.kwargs, value)


def execute(
    outcome: Outcome,
    options: TaskOptions,
    helper: Helper,
    *,
    durable: bool = True,
    turns: Turns | None = None,
) -> Any:
    """
    Run a claimed outcome's helper and settle it; see `answer` for what it raises.

    The helper's transaction has to be the outermost one where it is to be `durable`. Within
    `turns`, a success claims the outcome whose turn is next.
    """
    run = Run(outcome)
    if turns is not None:
        run.draw_next = turns.draw
    parent = Lineage(outcome.id, outcome.root_id, outcome.owner_id)
    with context.working_for(outcome.request_id, parent), entered(run), keeper.watching(run):
        _tell(signals.started, run)
        try:
            value = _perform(run, options, helper, durable=durable)
        except LeaseLost as error:
            signals.lease_lost.send_robust(Outcome, lease=run.lease)
            raise celery_exceptions.Ignore from error
        except BaseException as error:  # noqa: BLE001 - SystemExit and the like are the helper's failures
            raise _settle_failure(run, options, error) from None
        if turns is not None:
            turns.keep(run.claimed_next)
        crash_point("success.after_commit")
        run.outcome.state, run.outcome.error = State.SUCCEEDED, ""
        _tell(signals.succeeded, run)
        return value


def _take(name: str, options: TaskOptions, request: Any) -> Outcome | None:
    outcome_id = outcome_uuid(request.id)
    names = _names(options)
    if outcome_id is None:
        _drop(name, request.id, "its id names no outcome")
        return None
    outcome = _reconnecting(lambda: outcomes.claim(outcome_id, names, worker_name()))
    if outcome is not None:
        return outcome
    row = Outcome.objects.filter(pk=outcome_id).first()
    if row is None and adoption.is_foreign(request):
        adoption.adopt(name, options, request)
        return outcomes.claim(outcome_id, names, worker_name())
    if row is None:
        _drop(name, request.id, "no such outcome")
        return None
    if row.task_name not in names:
        _drop(name, request.id, "it names another task")
        return None
    if outcomes.expire(row.id):
        row.refresh()
        signals.expired.send_robust(Outcome, outcome=row)
        return None
    _drop(name, request.id, f"the outcome is {row.state}")
    return None


def _names(options: TaskOptions) -> frozenset[str]:
    return frozenset((str(options.name), *options.aliases))


def _drop(name: str, outcome_id: Any, why: str) -> None:
    signals.dropped.send_robust(Outcome, task_name=name, outcome_id=str(outcome_id), why=why)


def _reconnecting(act: Callable[[], T]) -> T:
    """Run an act once more if the kept connection turns out to be dead."""
    try:
        return act()
    except (InterfaceError, OperationalError):
        connection = connections[conf.DATABASE]
        # Without a connection there is none to ask, and MariaDB's would try to.
        is_open = connection.connection is not None
        if connection.in_atomic_block or (is_open and connection.is_usable()):
            raise
        connection.close()
        return act()


def _perform(run: Run, options: TaskOptions, helper: Helper, *, durable: bool) -> Any:
    if not options.is_atomic:
        value = _call(run, options, helper)
        _persist(run, lambda: _in_transaction(lambda: _succeed(run, options, value)))
        return value
    for repetition in range(REPETITIONS):
        try:
            return _perform_atomically(run, options, helper, durable=durable, again=repetition > 0)
        except DatabaseFailure as error:
            if run.is_committing and _has_committed(run, error):
                return run.value
            if repetition + 1 == REPETITIONS or not is_transient(error) or not durable:
                raise
            logger.info("%s runs again: %s", run.outcome, _told(run, error))
            time.sleep(BUSY.delay(repetition + 1).total_seconds())
    raise AssertionError


def _perform_atomically(
    run: Run, options: TaskOptions, helper: Helper, *, durable: bool, again: bool
) -> Any:
    run.is_committing = False
    with pessimistic(wanted=again), transaction.atomic(using=conf.DATABASE, durable=durable):
        run.value = _call(run, options, helper)
        run.is_committing = True
        _succeed(run, options, run.value)
    return run.value


def _call(run: Run, options: TaskOptions, helper: Helper) -> Any:
    outcome = run.outcome
    args, kwargs = arguments.decode(outcome.args_json), arguments.decode(outcome.kwargs_json)
    _bind(options, args, kwargs)
    run.connection = connections[conf.DATABASE].connection
    with run.interruptible():
        crash_point("run.before_helper")
        if iscoroutinefunction(helper):
            value = async_to_sync(helper)(*args, **kwargs)
        else:
            value = helper(*args, **kwargs)
        crash_point("run.after_helper")
        return value


class _Unbindable(TypeError):
    """The stored arguments do not fit the helper any more."""


def _bind(options: TaskOptions, args: Any, kwargs: Any) -> None:
    try:
        options.signature.bind(*args, **kwargs)
    except TypeError as error:
        raise _Unbindable(str(error)) from None


def _succeed(run: Run, options: TaskOptions, value: Any) -> None:
    limit = options.max_result_bytes or conf.MAX_RESULT_BYTES
    result_json, why = arguments.encode_result(value, max_bytes=limit)
    omitted = short_line(why or "")
    # Where that crash point is armed, there has to be a moment before the commit.
    if not run.outcome.options_json and not is_armed("success.before_commit"):
        commit_alone()
    next_id = run.draw_next()
    then = None if next_id is None else Wanted(next_id, _names(options), worker_name())
    run.claimed_next = outcomes.succeed(
        run.lease, result_json, omitted, run.take_progress(), run.read_log(), then=then
    )
    if run.outcome.options_json:
        result = None if result_json is None else arguments.decode(result_json)
        canvas.on_success(run.outcome, result, omitted)
    crash_point("success.before_commit")


def _has_committed(run: Run, error: DatabaseFailure) -> bool:
    """Ask a fresh connection whether a COMMIT whose answer was lost has happened."""
    if not is_lost_connection(error, conf.DATABASE, run.connection):
        return False
    connections[conf.DATABASE].close()
    return bool(
        _persist(
            run,
            lambda: Outcome.objects.filter(
                pk=run.outcome.id, state=State.SUCCEEDED, finish_fence=run.lease.fence
            ).exists(),
        )
    )


def _settle_failure(run: Run, options: TaskOptions, error: BaseException) -> BaseException:
    """Write what an exception means for the outcome; return what Celery is to be told."""
    outcome = run.outcome
    failure = describe(error, outcome)
    if isinstance(error, MemoryError):
        # What the helper's frames still hold is needed to write this down.
        traceback.clear_frames(error.__traceback__)
    is_loss = _is_loss(run, error)
    if is_loss:
        connections[conf.DATABASE].close()
        verdict = Verdict("retry", timedelta(seconds=1))
    else:
        verdict = _verdict(error, outcome, options)
    is_final = verdict.act in {"fail", "stop"}
    signals.settling.send_robust(Outcome, outcome=outcome, run=run, error=error, is_final=is_final)
    failure = replace(
        failure,
        sentry_event_id=run.sentry_event_id,
        log=run.read_log(),
        trace_context=run.trace_context,
    )

    progress = run.take_progress()

    def act() -> State:
        if is_loss:
            return outcomes.rescue(outcome, verdict.delay, failure, is_known_dead=True)
        return _apply(run, verdict, failure, progress)

    try:
        state = _persist(run, lambda: _in_transaction(lambda: _settle(act)))
    except LeaseLost:
        signals.lease_lost.send_robust(Outcome, lease=run.lease)
        # A process that is being ended has to end: living on, it would wait for its next task
        # with the pool's lock in its hand, and the kill that follows would lock out the others.
        return error if is_shutdown(error) else celery_exceptions.Ignore()
    crash_point("failure.after_commit")
    return _tell_failure(run, state, verdict, failure, error)


def _is_loss(run: Run, error: BaseException) -> bool:
    """Tell whether a run ended because its connection did, which is no failure of the helper."""
    return isinstance(error, DatabaseFailure) and is_lost_connection(
        error, conf.DATABASE, run.connection
    )


def _settle(act: Callable[[], State]) -> State:
    state = act()
    crash_point("failure.before_commit")
    return state


def _verdict(error: BaseException, outcome: Outcome, options: TaskOptions) -> Verdict:
    if isinstance(error, _Unbindable):
        return Verdict("fail", reason=Reason.NOT_RETRYABLE)
    return judge(error, outcome, options)


def _in_transaction(act: Callable[[], Any]) -> Any:
    with transaction.atomic(using=conf.DATABASE):
        return act()


def _apply(run: Run, verdict: Verdict, failure: Failure, progress: Progress | None) -> State:
    lease = run.lease
    match verdict.act:
        case "retry":
            return outcomes.retry(lease, verdict.delay, failure)
        case "snooze":
            return outcomes.snooze(lease, verdict.delay, failure, progress)
        case "release":
            return outcomes.release(lease, failure=failure)
        case "stop":
            outcomes.stop(lease, failure)
            return State.CANCELLED
        case "fail":
            outcomes.fail(lease, verdict.reason, failure)
            canvas.on_failure(run.outcome, failure.error)
            return State.FAILED


def _persist(run: Run, act: Callable[[], Any]) -> Any:
    """Repeat an act while the database is away, as long as the lease may still be ours."""
    deadline = conf.LEASE.total_seconds()
    began, tries = time.monotonic(), 0
    while True:
        try:
            return act()
        except (InterfaceError, OperationalError) as error:
            connection = connections[conf.DATABASE]
            if connection.in_atomic_block or time.monotonic() - began > deadline:
                raise
            connection.close()
            logger.warning("%s waits for the database: %s", run.outcome, _told(run, error))
            tries += 1
            time.sleep(AWAY.delay(tries).total_seconds())


def _told(run: Run, error: BaseException) -> str:
    """Return a database's complaint without the values that it quotes."""
    return one_line(scrub(str(error), run.secrets))


def _tell_failure(
    run: Run, state: State, verdict: Verdict, failure: Failure, error: BaseException
) -> BaseException:
    outcome = run.outcome
    outcome.state, outcome.error = state, failure.error
    if is_shutdown(error):
        return error
    shown = presentable(error, failure, outcome)
    if state == State.PENDING:
        _tell(signals.retrying, run, delay=verdict.delay, error=shown)
        return celery_exceptions.Retry(exc=shown, when=verdict.delay.total_seconds())  # type: ignore[arg-type]  # a float is real
    if state == State.CANCELLED:
        _tell(signals.cancelled, run)
        return celery_exceptions.Ignore()
    outcome.reason = verdict.reason
    _tell(signals.failed, run, error=shown)
    return shown


def _tell(signal: Any, run: Run, **values: Any) -> None:
    if signal.has_listeners():
        signal.send_robust(Outcome, outcome=run.outcome, **values)
