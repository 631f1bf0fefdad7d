"""
One trace from the request that enqueued a call through every attempt of it.

Where the call stood in its trace lies in the outcome's row, so it outlives broker, retries and
rescues. Each run is a transaction of that trace. The SDK's own for Celery knows nothing of the row
and is dropped for this one. The keys of other tracers are left alone.
"""

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import sentry_sdk

from tasks_app import context, runs, signals
from tasks_app.integrations.sentry import events
from tasks_app.models import Outcome
from tasks_app.runs import Run

OP, PROCESS = "queue.task.celery", "queue.process"

ORIGIN = "auto.queue.tasks_app"


def connect() -> None:
    """Give rows the trace they were enqueued in, and runs the trace of their row."""
    context.injectors.append(_inject)
    runs.surroundings.append(_surround)
    signals.settling.connect(_set_status, dispatch_uid=__name__)


def _inject(headers: MutableMapping[str, str]) -> None:
    if not sentry_sdk.is_initialized():
        return
    for name, value in (
        (events.TRACE, sentry_sdk.get_traceparent()),
        (events.BAGGAGE, sentry_sdk.get_baggage()),
    ):
        if value:
            headers[name] = value


@contextmanager
def _surround(run: Run) -> Iterator[None]:
    if not sentry_sdk.is_initialized():
        yield
        return
    with sentry_sdk.isolation_scope() as scope:
        events.describe_all(scope, run)
        if _is_streaming():
            yield
            return
        with _continued(run.outcome):
            yield


@contextmanager
def _continued(outcome: Outcome) -> Iterator[None]:
    _drop_other(outcome)
    transaction = sentry_sdk.continue_trace(
        events.trace_of(outcome),
        op=OP,
        name=outcome.task_name,
        source="task",
        origin=ORIGIN,
    )
    transaction.set_status("ok")
    with (
        sentry_sdk.start_transaction(
            transaction, custom_sampling_context=_told_to_sampler(outcome)
        ),
        sentry_sdk.start_span(op=PROCESS, name=outcome.task_name, origin=ORIGIN) as span,
    ):
        span.set_data("messaging.message.id", str(outcome.id))
        span.set_data("messaging.destination.name", outcome.queue)
        span.set_data("messaging.message.retry.count", outcome.attempt - 1)
        yield


def _told_to_sampler(outcome: Outcome) -> dict[str, Any]:
    """Return what the project's `traces_sampler` is told of any Celery task."""
    if sentry_sdk.get_client().options.get("traces_sampler") is None:
        return {}
    return {"celery_job": {"task": outcome.task_name, **events.masked_arguments(outcome)}}


def _drop_other(outcome: Outcome) -> None:
    """Leave the SDK's own transaction of this run unsent."""
    other = sentry_sdk.get_current_scope().transaction
    if other is not None and (other.op, other.name) == (OP, outcome.task_name):
        other.sampled = False


def _set_status(run: Run, is_final: bool, **kwargs: Any) -> None:  # noqa: FBT001 - a signal's value
    transaction = sentry_sdk.get_current_scope().transaction
    if transaction is not None and transaction.origin == ORIGIN:
        transaction.set_status("internal_error" if is_final else "aborted")


def _is_streaming() -> bool:
    """Tell whether the SDK sends spans one by one: it takes no transactions then."""
    options = sentry_sdk.get_client().options
    chosen = options.get("trace_lifecycle") or (options.get("_experiments") or {}).get(
        "trace_lifecycle"
    )
    return bool(chosen == "stream")
