"""
OpenTelemetry: one trace from whoever enqueues to the last attempt, across the outbox.

Enqueueing is a `PRODUCER` span, whose headers the row keeps; each attempt is a `CONSUMER` span, its
child and linked to it, and linked to the attempt before. The messaging conventions make the link a
rule and let a consumer of single messages use the creation context as parent besides
(https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/): as a child, an attempt is
found in the trace of the request that caused it. Where a span of that trace is current already, as
with opentelemetry-instrumentation-celery, that one is the parent. Names carry the task where the
conventions have the queue, since one queue serves many tasks.

Spans are made where the project has configured a tracer provider. They never hold arguments, and
errors only as the outcome's row has them.
"""

import sys
from collections.abc import Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry import context as contexts
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode

from tasks_app import broker, context, enqueue, runs, signals
from tasks_app.exceptions import Snooze, TaskCancelled
from tasks_app.failures import describe, is_shutdown
from tasks_app.models import Outcome
from tasks_app.runs import Run
from tasks_app.states import State

#: Value of `messaging.system`.
SYSTEM = "tasks_app"

#: Where opentelemetry-instrumentation-celery keeps the spans that it has made current.
CELERY_SPANS = "opentelemetry.instrumentation.celery.utils"

#: Stands for the tracer of whichever provider the project configures, once it does.
_tracer = trace.get_tracer("tasks_app")

#: The spans of the runs in progress.
_spans: WeakKeyDictionary[Run, Span] = WeakKeyDictionary()


def connect() -> None:
    """Trace calls from now on; called once, when the app is ready."""
    context.injectors.append(_inject)
    enqueue.surroundings.append(_around_enqueue)
    broker.surroundings.append(_around_publish)
    runs.surroundings.append(_around_run)
    signals.settling.connect(_tell_error, dispatch_uid="tasks_app.integrations.opentelemetry")


def _is_configured() -> bool:
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _inject(headers: MutableMapping[str, str]) -> None:
    if _is_configured():
        propagate.inject(headers)


def _around_enqueue(wish: enqueue.Wish) -> AbstractContextManager[None] | None:
    return _enqueueing(wish) if _is_configured() else None


@contextmanager
def _enqueueing(wish: enqueue.Wish) -> Iterator[None]:
    attributes = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "tasks_app.task": wish.task_name,
    }
    span = _tracer.start_span(
        f"enqueue {wish.task_name}", kind=SpanKind.PRODUCER, attributes=attributes
    )
    token = contexts.attach(trace.set_span_in_context(span))
    try:
        yield
    finally:
        contexts.detach(token)
        _conclude_enqueue(span, wish)
        span.end()


def _conclude_enqueue(span: Span, wish: enqueue.Wish) -> None:
    if wish.error is not None:
        # Its text may quote arguments.
        error_type = type(wish.error).__qualname__
        span.set_attribute("error.type", error_type)
        span.set_status(Status(StatusCode.ERROR, error_type))
    elif wish.outcome is not None:
        span.set_attribute("messaging.destination.name", wish.outcome.queue)
        span.set_attribute("tasks_app.request_id", wish.outcome.request_id or "")
        if wish.size > 1:
            span.set_attribute("messaging.batch.message_count", wish.size)
        else:
            span.set_attributes(_identity(wish.outcome))
            span.set_attribute("tasks_app.created", wish.outcome.created)


def _identity(outcome: Outcome) -> dict[str, Any]:
    outcome_id = str(outcome.id)
    return {"messaging.message.id": outcome_id, "tasks_app.outcome_id": outcome_id}


def _around_run(run: Run) -> AbstractContextManager[None] | None:
    return _running(run) if _is_configured() else None


@contextmanager
def _running(run: Run) -> Iterator[None]:
    outcome = run.outcome
    creation = _extract(context.trace_headers(outcome.trace_context))
    created, around = _position(creation), _position(None)
    is_inside = around.is_valid and (not created.is_valid or around.trace_id == created.trace_id)
    parent = contexts.get_current() if is_inside else creation
    span = _tracer.start_span(
        f"run {outcome.task_name}",
        context=parent,
        kind=SpanKind.CONSUMER,
        attributes=_of_attempt(outcome),
        links=_links(outcome, created, None if is_inside else around),
    )
    within = trace.set_span_in_context(span, parent)
    headers: dict[str, str] = {}
    propagate.inject(headers, within)
    run.trace_context = context.with_previous_headers(outcome.trace_context, headers)
    _spans[run] = span
    token = contexts.attach(within)
    try:
        yield
    finally:
        contexts.detach(token)
        _conclude_run(span, outcome)
        span.end()


def _of_attempt(outcome: Outcome) -> dict[str, Any]:
    return {
        **_identity(outcome),
        "messaging.system": SYSTEM,
        "messaging.operation.name": "run",
        "messaging.operation.type": "process",
        "messaging.destination.name": outcome.queue,
        "messaging.client.id": outcome.worker,
        "tasks_app.task": outcome.task_name,
        "tasks_app.attempt": outcome.attempt,
        "tasks_app.request_id": outcome.request_id or "",
    }


def _links(outcome: Outcome, created: SpanContext, beside: SpanContext | None) -> list[Link]:
    """Return links to where it was enqueued, to the attempt before, and to another trace's span."""
    before = _position(_extract(context.previous_headers(outcome.trace_context)))
    linked = (("enqueue", created), ("previous attempt", before), ("beside", beside))
    return [
        Link(position, {"tasks_app.link": name})
        for name, position in linked
        if position is not None and position.is_valid
    ]


def _conclude_run(span: Span, outcome: Outcome) -> None:
    if outcome.state == State.RUNNING:
        span.set_status(Status(StatusCode.ERROR, "The lease was lost."))
    else:
        span.set_attribute("tasks_app.state", str(outcome.state))


def _tell_error(outcome: Outcome, run: Run, error: BaseException, **kwargs: Any) -> None:
    """Record why an attempt failed; a pause or a cancellation is no error."""
    span = _spans.get(run)
    if span is None or is_shutdown(error) or isinstance(error, Snooze | TaskCancelled):
        return
    failure = describe(error, outcome)
    span.set_attribute("error.type", failure.error_type)
    span.set_status(Status(StatusCode.ERROR, failure.error))
    span.add_event(
        "exception",
        {
            "exception.type": failure.error_type,
            "exception.message": failure.error,
            "exception.stacktrace": failure.traceback,
        },
    )


def _around_publish(outcome: Outcome) -> AbstractContextManager[None] | None:
    is_traced = _is_configured() or CELERY_SPANS in sys.modules
    return _publishing(outcome) if is_traced else None


@contextmanager
def _publishing(outcome: Outcome) -> Iterator[None]:
    """Let whoever traces the publish find its parent, and leave nothing current behind."""
    creation = _extract(context.trace_headers(outcome.trace_context))
    token = contexts.attach(creation)
    try:
        yield
    finally:
        left = trace.get_current_span()
        if left is not trace.get_current_span(creation):
            _end_left_over(left, outcome)
        contexts.detach(token)


def _end_left_over(span: Span, outcome: Outcome) -> None:
    """
    End the span of a publish that failed.

    opentelemetry-instrumentation-celery (0.66b2) learns from Celery of published messages only. Its
    span would stay current, and be detached whenever it is collected.
    """
    span.set_status(Status(StatusCode.ERROR, "The broker did not take the message."))
    kept = sys.modules.get(CELERY_SPANS)
    if kept is not None:
        task = kept.retrieve_task_from_sender({"sender": outcome.task_name})
        found = kept.retrieve_context(task, str(outcome.id), is_publish=True)
        if found is not None:
            kept.detach_context(task, str(outcome.id), is_publish=True)
            found[1].__exit__(None, None, None)
            return
    span.end()


def _extract(headers: dict[str, str]) -> Context:
    return propagate.extract(headers, Context())


def _position(at: Context | None) -> SpanContext:
    return trace.get_current_span(at).get_span_context()
