"""
One event for each outcome that fails, with all that leads from it to the outcome and back.

A helper's final exception is captured where it was raised, before its attempt is written, so that
the attempt names the event. Ends that no helper saw (a lost worker, a hard time limit, a task that
nobody knows) are told by the process that writes them. What the SDK's integrations and log lines
tell of the same failure is dropped. Attempts that are followed by another are breadcrumbs.
"""

import weakref
from collections.abc import Callable
from contextvars import ContextVar
from hashlib import blake2b
from logging import LogRecord
from typing import Any

import sentry_sdk
from celery import current_app
from celery import exceptions as celery_exceptions
from django.urls import NoReverseMatch
from sentry_sdk.scope import add_global_event_processor

from tasks_app import addresses, context, outcomes, rescue, signals
from tasks_app.conf import conf
from tasks_app.exceptions import Retry, Snooze, TaskCancelled
from tasks_app.failures import TIME_LIMITS, is_shutdown
from tasks_app.models import Attempt, Outcome
from tasks_app.redaction import mask_arguments
from tasks_app.runs import Run, running
from tasks_app.states import AttemptState, Reason, State

#: Ends that have no place in the project's code: Sentry would put all tasks' into one heap.
GROUPED = frozenset({Reason.WORKER_LOST, Reason.TIME_LIMIT, Reason.UNREGISTERED})

#: How a helper, or Celery's own means, end an attempt on purpose.
CONTROL = (Snooze, TaskCancelled, celery_exceptions.Ignore, celery_exceptions.Reject)

#: How an attempt asks for the next one; as its last word it is a failure like any other.
AGAIN = (Retry, celery_exceptions.Retry)

#: Whose log lines tell in a worker's main process of what the outcome's own event tells.
REQUEST = "celery.worker.request"

#: The line about a child's end, which comes before anybody knows what it ran.
POOL, CHILD_ENDED = "multiprocessing", "Process %r pid:%r exited with"

#: The module, below `tasks_app.logs`, that writes a line about each outcome.
LINES = "lifecycle"

MECHANISM = "tasks_app"

#: Where a row keeps its trace; `baggage` itself belongs to whoever else traces.
TRACE, BAGGAGE = "sentry-trace", "sentry-baggage"

Hint = dict[str, Any]
Reference = Callable[[], BaseException | None]

#: Runs whose last error has been captured, or was judged to be no event.
_settled: "weakref.WeakSet[Run]" = weakref.WeakSet()
#: The exception that ended this context's last run: others may see and send it too.
_told: ContextVar[Reference | None] = ContextVar("tasks_app_told", default=None)


def connect() -> None:
    """Tell of failures from now on."""
    add_global_event_processor(_complete)
    context.on_request.append(_mark_request)
    signals.settling.connect(_tell_error, dispatch_uid=__name__)
    signals.failed.connect(_tell_failed, dispatch_uid=__name__)
    signals.rescued.connect(_tell_rescued, dispatch_uid=__name__)


def _mark_request(request_id: str) -> None:
    """Mark what the SDK sends when our middleware has ended: the request's transaction."""
    if sentry_sdk.get_client().get_integration("django") is not None:
        # Its scope is the request's own, and ends with it.
        sentry_sdk.get_isolation_scope().set_tag("request_id", request_id)


def describe_all(scope: sentry_sdk.Scope, run: Run) -> None:
    """Let every event of a scope say which run it belongs to, in any thread."""
    _told.set(None)
    scope.add_event_processor(lambda event, hint: describe(event, run.outcome, run.lease.number))


def describe(event: Any, outcome: Outcome, attempt: int) -> Any:
    """Return an event with the tags of an outcome and the address of its page."""
    if event.get("type") == "check_in":
        return event
    tags = {
        "request_id": outcome.request_id,
        "outcome_id": str(outcome.id),
        "task": outcome.task_name,
        "attempt": str(attempt),
        "queue": outcome.queue,
        "idempotency_key": hashed(outcome.idempotency_key),
    }
    event.setdefault("tags", {}).update({name: text for name, text in tags.items() if text})
    contexts = event.setdefault("contexts", {})
    contexts["outcome"] = {"id": str(outcome.id), "url": outcome_url(outcome)}
    return event


def hashed(key: str | None) -> str:
    """Return what stands for an idempotency key: the same for the same key, and not the key."""
    return blake2b(key.encode(), digest_size=8).hexdigest() if key else ""


def outcome_url(outcome: Outcome) -> str:
    """Return the address of the outcome's admin page; "" where there is none."""
    try:
        return addresses.admin_page(outcome.pk)
    except NoReverseMatch:
        return ""


def trace_of(outcome: Outcome) -> dict[str, str]:
    """Return the headers, as the SDK spells them, of the trace in which a call was enqueued."""
    headers = context.trace_headers(outcome.trace_context)
    known = {"sentry-trace": headers.get(TRACE), "baggage": headers.get(BAGGAGE)}
    return {name: value for name, value in known.items() if value}


def masked_arguments(outcome: Outcome) -> dict[str, Any]:
    """Return a call's arguments without its secrets."""
    args, kwargs = mask_arguments(outcome.task_name, outcome.args, outcome.kwargs)
    return {"args": args, "kwargs": kwargs}


def _complete(event: Any, hint: Hint) -> Any:
    """Drop what tells of a failure once more; give the rest the id of its request."""
    if _is_again(event, hint):
        return None
    request_id = context.request_id()
    if request_id is not None and event.get("type") != "check_in":
        event.setdefault("tags", {}).setdefault("request_id", request_id)
    return event


def _is_again(event: Any, hint: Hint) -> bool:
    record = hint.get("log_record")
    if record is not None and _is_line_of_an_outcome(record):
        return True
    reference, error = _told.get(), (hint.get("exc_info") or (None, None))[1]
    return error is not None and reference is not None and reference() is error


def _is_line_of_an_outcome(record: LogRecord) -> bool:
    """Tell whether a line is about an outcome's life: its event says more."""
    if record.name == REQUEST:
        return rescue.is_telling_celery()
    if record.name == POOL:
        return str(record.msg).startswith(CHILD_ENDED)
    return record.module == LINES and record.name == "tasks_app"


def _tell_error(run: Run, error: BaseException, is_final: bool, **kwargs: Any) -> None:  # noqa: FBT001 - a signal's value
    if not sentry_sdk.is_initialized():
        return
    if is_final:
        _settled.add(run)
    if not _is_event(run.outcome, error, is_final=is_final):
        return
    with sentry_sdk.new_scope() as scope:
        if isinstance(error, TIME_LIMITS):
            scope.fingerprint = _fingerprint(Reason.TIME_LIMIT, run.outcome)
        if is_final:
            _leave_breadcrumbs(scope, run.outcome)
        else:
            scope.set_level("warning")
        run.sentry_event_id = sentry_sdk.capture_exception(_cause(error)) or ""


def _is_event(outcome: Outcome, error: BaseException, *, is_final: bool) -> bool:
    if isinstance(error, CONTROL) or is_shutdown(error):
        return False
    if not is_final and (not conf.SENTRY_RETRIES or isinstance(_cause(error), AGAIN)):
        return False
    expected = getattr(current_app.tasks.get(outcome.task_name), "throws", ())
    return not isinstance(error, tuple(expected))


def _cause(error: BaseException) -> BaseException:
    """Return the error for which Celery's `retry` was called, where it was told one."""
    cause = getattr(error, "exc", None) if isinstance(error, celery_exceptions.Retry) else None
    return cause if isinstance(cause, BaseException) else error


def _leave_breadcrumbs(scope: sentry_sdk.Scope, outcome: Outcome) -> None:
    """Tell of the attempts before the last one; a first attempt asks no database."""
    if outcome.fence <= 1:
        return
    for attempt in outcome.attempts.filter(fence__lt=outcome.fence):
        scope.add_breadcrumb(
            type="error",
            category="tasks_app.attempt",
            level="warning",
            message=f"attempt {attempt.number} {attempt.state}: {attempt.error}",
            data={"error_type": attempt.error_type, "event_id": attempt.sentry_event_id},
            timestamp=attempt.finished_at,
        )


def _tell_failed(outcome: Outcome, error: BaseException | None = None, **kwargs: Any) -> None:
    if not sentry_sdk.is_initialized():
        return
    run = running()
    if run is None or run.outcome is not outcome:
        # What somebody discarded before it ran is no error.
        if outcome.finish_fence is not None or outcome.reason != Reason.DISCARDED:
            _capture(outcome, outcome.finish_fence)
        return
    _told.set(_reference(error))
    if run not in _settled:
        _capture(outcome, run.lease.fence)


def _tell_rescued(outcome: Outcome, **kwargs: Any) -> None:
    """Tell of a lost run that another follows, where that is wanted."""
    if conf.SENTRY_RETRIES and outcome.state == State.PENDING and sentry_sdk.is_initialized():
        _capture(outcome, outcome.fence - 1, level="warning")


def _reference(error: BaseException | None) -> Reference | None:
    if error is None:
        return None
    try:
        return weakref.ref(error)
    except TypeError:
        return lambda: error


def _capture(outcome: Outcome, fence: int | None, level: str = "error") -> None:
    """Send an event about an end that left no exception; write its id to the attempt, if any."""
    attempt = None
    if fence is not None:
        attempt = outcome.attempts.filter(fence=fence).first()
    with sentry_sdk.isolation_scope() as scope:
        scope.clear_breadcrumbs()
        scope.generate_propagation_context(trace_of(outcome))
        _leave_breadcrumbs(scope, outcome)
        event_id = sentry_sdk.capture_event(_event(outcome, attempt, level))
    if attempt is not None and event_id is not None:
        outcomes.note_event(attempt, event_id)


def _event(outcome: Outcome, attempt: Attempt | None, level: str) -> Any:
    number = outcome.attempt if attempt is None else attempt.number
    event: dict[str, Any] = {
        "level": level,
        "transaction": outcome.task_name,
        "exception": {"values": [_exception(outcome, attempt)]},
    }
    reason = outcome.reason
    if attempt is not None and attempt.state == AttemptState.LOST:
        reason = Reason.WORKER_LOST
    if reason in GROUPED:
        event["fingerprint"] = _fingerprint(reason, outcome)
    return describe(event, outcome, number)


def _exception(outcome: Outcome, attempt: Attempt | None) -> dict[str, Any]:
    path = attempt.error_type if attempt is not None else ""
    module, _, name = path.rpartition(".")
    return {
        "module": module or None,
        "type": name or outcome.reason or "failed",
        "value": outcome.error,
        "mechanism": {"type": MECHANISM, "handled": False},
    }


def _fingerprint(reason: str, outcome: Outcome) -> list[str]:
    return [MECHANISM, str(reason), outcome.task_name]
