"""
Traces: which spans a call leaves, whose children they are, and what they must not hold.

The SDK is the real one. A message's way through the broker is taken in this process, so that each
tree is exact; a worker's own spans arrive at a receiver of OTLP. Trees are seen with and without
OpenTelemetry's own instrumentation of Celery.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from uuid import uuid4

import pytest
from celery import Celery
from celery.app.trace import trace_task
from django.http import HttpResponse
from django.test import Client
from django.urls import path
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tasks_app import Discard, Snooze, context, filesystem
from tasks_app.broker import BrokerDown, Publisher
from tasks_app.exceptions import IdempotencyConflict, InvalidArgument, TaskCancelled
from tasks_app.integrations import opentelemetry
from tasks_app.models import Outcome
from tests import by_hand
from tests.integration.command_line import claimed
from tests.processes import ROOT, start_worker
from tests.project import app
from tests.servers.otlp import OtlpReceiver, values
from tests.testapp import tasks
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds that anything may take on a busy machine.
PATIENCE = 60

CARD = "canary-card-4242"

exporter = InMemorySpanExporter()
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(exporter))


@pytest.fixture(autouse=True)
def configured(monkeypatch):
    """The project has configured a provider."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    exporter.clear()


@pytest.fixture
def instrumented():
    """OpenTelemetry's own instrumentation of Celery is on."""
    CeleryInstrumentor().instrument(tracer_provider=provider)
    yield
    CeleryInstrumentor().uninstrument()


@pytest.fixture(params=["alone", "instrumented"])
def ways(request):
    """With and without that instrumentation."""
    if request.param == "instrumented":
        request.getfixturevalue("instrumented")
    return request.param


@pytest.fixture
def publisher(tmp_path):
    """A publisher with an embedded broker of its own."""
    own = Celery("own", broker=filesystem.url(tmp_path / "broker"), set_as_current=False)
    with Publisher(own) as publisher:
        yield publisher


def deliver(publisher, outcome):
    """Take an outcome through the broker and run it, as a relay and a worker do."""
    outcome.refresh()
    publisher.ring([outcome])
    with publisher.app.connection_for_write() as connection:
        message = connection.default_channel.basic_get(outcome.queue, no_ack=True)
    task = app.tasks[outcome.task_name]
    trace_task(task, str(outcome.pk), [], {}, request=dict(message.headers), app=app)
    outcome.refresh()


def spans(name=""):
    """Return the finished spans of a name, in the order in which they began."""
    found = [span for span in exporter.get_finished_spans() if span.name.startswith(name)]
    return sorted(found, key=lambda span: span.start_time)


def tree():
    """Return each span's name with the names of its ancestors, as paths."""
    by_id = {span.context.span_id: span for span in spans()}

    def names(span):
        above = span.parent and by_id.get(span.parent.span_id)
        return f"{names(above)} > {span.name}" if above else span.name

    return [names(span) for span in spans()]


def links(span):
    """Return which span each link of a span leads to, by the link's meaning."""
    by_id = {each.context.span_id: each for each in spans()}
    return {link.attributes["tasks_app.link"]: by_id[link.context.span_id] for link in span.links}


def in_a_request(act):
    """Do an act inside a span such as a request's."""
    with provider.get_tracer("web").start_as_current_span("GET /"):
        return act()


NAME = tasks.succeed_at.name
CREATED = f"GET / > enqueue {NAME}"
TREES = {
    "alone": [f"{CREATED} > run {NAME}"] * 2,
    "instrumented": [
        f"{CREATED} > apply_async/{NAME}",
        f"{CREATED} > apply_async/{NAME} > run/{NAME}",
        f"{CREATED} > apply_async/{NAME} > run/{NAME} > run {NAME}",
    ]
    * 2,
}


def test_one_trace_from_the_request_to_the_last_attempt(ways, publisher):
    """Each attempt descends from the enqueue, and its links lead there and to the one before."""
    outcome = in_a_request(lambda: tasks.succeed_at.enqueue(uuid4().hex, 2))
    deliver(publisher, outcome)
    Outcome.objects.filter(pk=outcome.pk).update(run_at=outcome.created_at)
    deliver(publisher, outcome)
    assert outcome.state == "succeeded"
    assert tree() == ["GET /", CREATED, *TREES[ways]]
    produced, first, second = spans("enqueue")[0], *spans("run tests")
    assert links(first) == {"enqueue": produced}
    assert links(second) == {"enqueue": produced, "previous attempt": first}
    assert len({span.context.trace_id for span in spans()}) == 1


def test_spans_say_what_the_conventions_ask_for_and_never_arguments(ways, publisher):
    """Kinds, names and attributes, and nothing of what was passed."""
    with context.working_for("request-7f3a", None):
        outcome = tasks.add.using(queue="traced").enqueue(41_424_344, 45_464_748)
    deliver(publisher, outcome)
    produced, run = spans("enqueue")[0], spans(f"run {tasks.add.name}")[0]
    assert (produced.kind, run.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    shared = {
        "messaging.system": "tasks_app",
        "messaging.destination.name": "traced",
        "messaging.message.id": str(outcome.pk),
        "tasks_app.outcome_id": str(outcome.pk),
        "tasks_app.task": tasks.add.name,
        "tasks_app.request_id": "request-7f3a",
    }
    assert produced.attributes == {
        **shared,
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "tasks_app.created": True,
    }
    assert run.attributes == {
        **shared,
        "messaging.operation.name": "run",
        "messaging.operation.type": "process",
        "messaging.client.id": outcome.worker,
        "tasks_app.attempt": 1,
        "tasks_app.state": "succeeded",
    }
    assert run.status.status_code == StatusCode.UNSET
    assert "414243" not in everything()


def everything():
    return "".join(span.to_json() for span in exporter.get_finished_spans())


@pytest.mark.parametrize("mood", ["fail", "retry"])
def test_an_error_is_recorded_without_secrets(mood, ways, publisher):
    """Type, text and traceback as the attempt has them; the card is in no span."""
    outcome = tasks.charge.enqueue(1, card_token=CARD, mood=mood)
    deliver(publisher, outcome)
    span = spans(f"run {tasks.charge.name}")[0]
    event = span.events[0].attributes
    attempt = outcome.attempts.get()
    assert attempt.error
    assert span.status.status_code == StatusCode.ERROR
    assert span.status.description == event["exception.message"] == attempt.error
    assert event["exception.type"] == span.attributes["error.type"] == attempt.error_type
    assert "Traceback" in event["exception.stacktrace"]
    assert "canary" not in everything()


@pytest.mark.parametrize(
    ("error", "status", "state"),
    [
        (Discard("no"), StatusCode.ERROR, "failed"),
        (Snooze(after=9), StatusCode.UNSET, "pending"),
        (TaskCancelled("stop"), StatusCode.UNSET, "cancelled"),
        (SystemExit(-241), StatusCode.UNSET, "pending"),
    ],
)
def test_a_pause_is_no_error(error, status, state):
    """What was asked for is told as a state only."""
    outcome = tasks.add.enqueue(1, 2)

    def helper(*args):
        raise error

    with pytest.raises(BaseException):  # noqa: B017, PT011 - a worker hears of every end
        by_hand.answer(outcome, helper)
    span = spans("run")[0]
    assert (span.status.status_code, span.attributes["tasks_app.state"]) == (status, state)


def test_a_lost_lease_is_told():
    """Somebody else ended the run: its writes are gone."""
    outcome = claimed(tasks.add.enqueue(1, 2))

    def helper(a, b):
        Outcome.objects.filter(pk=outcome.pk).update(fence=99)

    with pytest.raises(BaseException):  # noqa: B017, PT011 - Celery's Ignore
        by_hand.run(outcome, helper)
    assert spans("run")[0].status.description == "The lease was lost."


def test_a_helper_sees_its_span_and_leaves_nothing_to_the_next():
    """What it makes current and forgets is gone when it ends; its children are children."""
    seen = []

    def helper(*args):
        seen.append(trace.get_current_span().get_span_context())
        tasks.add.enqueue(3, 4)
        contexts.attach(contexts.set_value("left", "behind"))

    for _ in range(2):
        by_hand.answer(tasks.total.enqueue([1]), helper)
        assert contexts.get_value("left") is None
        assert not trace.get_current_span().get_span_context().is_valid
    first, second = spans(f"run {tasks.total.name}")
    assert [span.span_id for span in seen] == [first.context.span_id, second.context.span_id]
    assert first.context.trace_id != second.context.trace_id
    children = spans(f"enqueue {tasks.add.name}")
    assert [each.parent.span_id for each in children] == [span.span_id for span in seen]


def test_many_calls_share_one_span(publisher):
    """The batch is the producer of each."""
    ids = in_a_request(lambda: tasks.add.enqueue_many([(1, 2), (3, 4), (5, 6)]))
    for pk in ids:
        deliver(publisher, Outcome.objects.get(pk=pk))
    assert tree() == [
        "GET /",
        f"GET / > enqueue {tasks.add.name}",
        *[f"GET / > enqueue {tasks.add.name} > run {tasks.add.name}"] * 3,
    ]
    produced = spans("enqueue")[0].attributes
    assert produced["messaging.batch.message_count"] == 3
    assert "messaging.message.id" not in produced


def test_a_replay_is_an_enqueue_of_its_own():
    """It belongs to the trace of whoever asked for it."""
    outcome = tasks.add.enqueue(1, 2)
    by_hand.answer(outcome)
    outcome.refresh()
    again = in_a_request(outcome.replay)
    by_hand.answer(again)
    assert tree()[-2:] == [
        f"GET / > enqueue {tasks.add.name}",
        f"GET / > enqueue {tasks.add.name} > run {tasks.add.name}",
    ]


def test_a_refused_call_says_why_and_not_with_what():
    """Neither the value nor the text that quotes it."""
    with pytest.raises(InvalidArgument):
        tasks.add.enqueue(CARD, object())
    tasks.record_once.enqueue("key", note="a")
    with pytest.raises(IdempotencyConflict):
        tasks.record_once.enqueue("key", note=CARD)
    tasks.record_once.enqueue("key", note="a")
    refused, _, conflict, existing = spans("enqueue")
    assert refused.attributes["error.type"] == "InvalidArgument"
    assert conflict.status.status_code == StatusCode.ERROR
    assert existing.attributes["tasks_app.created"] is False
    assert "canary" not in everything()


def test_a_failed_publish_leaves_no_span_current(instrumented, publisher, caplog):
    """The span of the publish ends with an error, also where its own instrumentation forgets it."""
    outcome = tasks.add.enqueue(1, 2)
    publisher.ring([outcome])
    folder = publisher.app.connection_for_write().transport.folder
    (folder / "queues").rename(folder / "away")
    (folder / "queues").touch()
    with caplog.at_level(logging.WARNING, "opentelemetry"):
        for _ in range(2):
            with pytest.raises(BrokerDown):
                publisher.ring([outcome])
            assert not trace.get_current_span().get_span_context().is_valid
            (folder / "queues").unlink(missing_ok=True)
            (folder / "away").rename(folder / "queues")
            publisher.ring([outcome])
            (folder / "queues").rename(folder / "away")
            (folder / "queues").touch()
    assert not caplog.records
    published = spans("apply_async")
    assert {tuple(span.parent.span_id.to_bytes(8)) for span in published} == {
        tuple(spans("enqueue")[0].context.span_id.to_bytes(8))
    }
    assert [span.status.status_code.name for span in published] == [
        *("UNSET", "ERROR", "UNSET", "ERROR", "UNSET")
    ]


@pytest.mark.urls(__name__)
def test_a_request_is_the_root(ways, publisher):
    """With OpenTelemetry's instrumentation of Django the span of the request is the parent."""
    DjangoInstrumentor().instrument(tracer_provider=provider)
    try:
        Client().post("/order")
    finally:
        DjangoInstrumentor().uninstrument()
    deliver(publisher, Outcome.objects.get())
    below = TREES[ways][: len(TREES[ways]) // 2]
    assert tree() == ["POST order", "POST order > enqueue " + NAME] + [
        each.replace("GET /", "POST order") for each in below
    ]


def order(request):
    """Enqueue a task, as a project's view does."""
    tasks.succeed_at.enqueue(uuid4().hex, 1)
    return HttpResponse()


urlpatterns = [path("order", order)]


def test_without_a_provider_nothing_is_traced(monkeypatch):
    """The API's default costs a look at it: no span, and no header in the row."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    outcome = tasks.add.enqueue(1, 2)
    assert outcome.trace_context == ""
    by_hand.answer(outcome)
    assert not spans()


def test_without_the_package_the_app_works():
    """What is not installed is not asked for."""
    script = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "import django; django.setup()\n"
        "from tasks_app import enqueue, runs\n"
        "found = [*enqueue.surroundings, *runs.surroundings]\n"
        "assert not [each for each in found if 'opentelemetry' in each.__module__]\n"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, env=environment)


def test_integrations_are_connected_once():
    """Whatever imports the app twice."""
    assert context.injectors.count(opentelemetry._inject) == 1


def test_a_workers_spans_reach_a_collector(tmp_path):
    """A provider that is set up in the pool's processes sends what continues the caller's trace."""
    with OtlpReceiver() as receiver:
        options = json.dumps({"endpoint": receiver.url})
        with start_worker(
            tmp_path, concurrency=1, environment={"TASKS_TEST_OTLP": options}
        ) as worker:
            outcome = in_a_request(lambda: tasks.succeed_at.enqueue(uuid4().hex, 2))
            outcome.get(PATIENCE)
            wait_until(lambda: len(received(receiver)) == 2, PATIENCE, worker.tail)
    produced = spans("enqueue")[0].context
    first, second = received(receiver)
    assert first.trace_id == second.trace_id == produced.trace_id.to_bytes(16, "big")
    assert [values(each.attributes)["tasks_app.attempt"] for each in (first, second)] == [1, 2]
    assert first.span_id in {link.span_id for link in second.links}
    assert (first.status.code, second.status.code) == (2, 0)
    above = {span.span_id: span for span in receiver.spans}
    parents = [above[each.parent_span_id] for each in (first, second)]
    assert {each.name for each in parents} == {f"run/{NAME}"}
    # The relay lives in the main process, which has no provider and passes the headers on.
    assert {each.parent_span_id for each in parents} == {produced.span_id.to_bytes(8, "big")}


def received(receiver):
    """Return the spans of attempts that arrived, by attempt."""
    found = [span for span in receiver.spans if span.name == f"run {NAME}"]
    return sorted(found, key=lambda span: values(span.attributes)["tasks_app.attempt"])
