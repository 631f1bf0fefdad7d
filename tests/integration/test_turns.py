"""Turns: what one message rings for is run one after the other, each as if it had come alone."""

from __future__ import annotations

import os
from contextlib import contextmanager
from types import SimpleNamespace
from uuid import uuid4

import pytest
from celery import signals as celery_signals
from celery.app.trace import build_tracer
from celery.contrib.testing.mocks import TaskMessage
from celery.exceptions import WorkerShutdown
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tasks_app import cancellation, outbox, outcomes, queues, signals, turns
from tasks_app.broker import DOORBELL
from tasks_app.clock import DatabaseNow
from tasks_app.leases import worker_name
from tasks_app.models import Outcome
from tasks_app.requests import OutcomeRequest
from tasks_app.shapes import PEAL
from tests import by_hand
from tests.project import app
from tests.testapp import tasks
from tests.testapp.models import Effect
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: What Django sends for a success that claims the next one; the helper sends one INSERT.
SETTLED_AND_CLAIMED = {
    "postgresql": ["WITH"],
    "sqlite": ["UPDATE", "INSERT", "UPDATE"],
    "mysql": ["UPDATE", "INSERT", "UPDATE", "SELECT"],
}


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Let no peal run out of time on a machine that has other work."""
    monkeypatch.setattr(turns, "SPAN", 60.0)
    monkeypatch.setattr(turns, "watch", turns.Watch())
    turns.this_worker.start(counts_messages=False)
    yield
    turns.this_worker.start(counts_messages=False)


def announced(count, task=tasks.record):
    """Return outcomes that a message has rung for."""
    made = task.enqueue_many([(f"{number} {uuid4().hex}",) for number in range(count)])
    outbox.take_due(count, [task.name])
    return list(Outcome.objects.filter(pk__in=made).order_by("pk"))


def own_headers(outcome):
    return {"id": str(outcome.pk), "root_id": str(outcome.root_id), DOORBELL: outcome.fence}


def deliver(first, *rest, task=tasks.record):
    """Let a process of a worker answer a message that rings for all of these."""
    trace = turns.in_turn(build_tracer(task.name, app.tasks[task.name], app=app))
    request = {
        **own_headers(first),
        "task": task.name,
        "delivery_info": {},
        "ignore_result": True,
        PEAL: [own_headers(outcome) for outcome in rest],
    }
    return trace(str(first.pk), (), {}, request)


@contextmanager
def helper(task, function):
    """Let a registered task run another helper."""
    registered = app.tasks[task.name]
    before = registered.run
    registered.run = function
    try:
        yield
    finally:
        registered.run = before


def states(each):
    rows = dict(Outcome.objects.values_list("pk", "state"))
    return [rows[outcome.pk] for outcome in each]


def due(each):
    """Return those that a relay would ring for now."""
    ids = [outcome.pk for outcome in each]
    found = Outcome.objects.filter(pk__in=ids, state="pending", announce_at__lte=DatabaseNow())
    return set(found.values_list("pk", flat=True))


def test_each_of_a_peal_runs_once_with_a_request_of_its_own():
    """Celery's signals, and whoever listens to them, see as many tasks as there are outcomes."""
    seen = []

    def note(sender, task_id, task, **kwargs):
        seen.append((task_id, task.request.id, task.request.root_id, task.request.correlation_id))

    celery_signals.task_prerun.connect(note)
    try:
        each = announced(4)
        deliver(*each)
    finally:
        celery_signals.task_prerun.disconnect(note)
    assert states(each) == ["succeeded"] * 4
    assert Effect.objects.count() == 4
    assert [task_id for task_id, *_ in seen] == [str(outcome.pk) for outcome in each]
    assert [own[1] for own in seen] == [own[0] for own in seen]
    assert [own[2] for own in seen] == [str(outcome.root_id) for outcome in each]
    assert [own[3] for own in seen[1:]] == [own[0] for own in seen[1:]]
    attempts = {(row.attempts.count(), row.attempt, row.fence) for row in Outcome.objects.all()}
    assert attempts == {(1, 1, 1)}


def test_a_success_claims_the_next_in_its_own_transaction():
    """A run of a peal needs one transaction, where one that came alone needs two."""
    each = announced(3)
    with CaptureQueriesContext(connection) as captured:
        deliver(*each)
    verbs = [query["sql"].split(maxsplit=1)[0] for query in captured.captured_queries]
    run = ["BEGIN", "INSERT", *SETTLED_AND_CLAIMED[connection.vendor], "COMMIT"]
    begin = verbs.index("INSERT") - 1
    assert verbs[begin : begin + 2 * len(run)] == run * 2


def test_none_is_running_that_does_not_run():
    """While a helper runs, those whose turn comes later wait, and are nobody's."""
    each = announced(3)
    seen = []

    def look(key):
        seen.append(by_hand.elsewhere(lambda: states(each)))

    with helper(tasks.record, look):
        deliver(*each)
    assert seen == [
        ["running", "pending", "pending"],
        ["succeeded", "running", "pending"],
        ["succeeded", "succeeded", "running"],
    ]


def test_what_waits_behind_a_long_run_comes_due_at_once(monkeypatch):
    """It is rung for again, alone, while the long run goes on; nothing of it begins here."""
    monkeypatch.setattr(turns, "SPAN", 0.05)
    each = announced(4)

    def wait_for_others(key):
        wait_until(
            lambda: by_hand.elsewhere(lambda: due(each)) == {row.pk for row in each[1:]},
            20,
            "the others to come due",
        )

    with helper(tasks.record, wait_for_others):
        deliver(*each)
    assert states(each) == ["succeeded", "pending", "pending", "pending"]
    assert set(Outcome.objects.filter(pk__in=due(each)).values_list("announced", flat=True)) == {1}
    assert outbox.take_due(10, [tasks.record.name]).rows == each[1:]


def test_a_worker_that_stops_begins_nothing_more():
    """What it has begun it ends; the rest is somebody else's at once."""
    each = announced(3)

    def stop(key):
        turns.this_worker.stop()

    with helper(tasks.record, stop):
        deliver(*each)
    assert states(each) == ["succeeded", "pending", "pending"]
    assert due(each) == {row.pk for row in each[1:]}


def test_the_flag_of_a_stopping_worker_reaches_its_children():
    """It lies in memory that a forked child shares."""
    reading, writing = os.pipe()
    asking, answering = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(asking, 1)
        os.write(writing, b"1" if turns.this_worker.is_stopping else b"0")
        os._exit(0)
    turns.this_worker.stop()
    os.write(answering, b"?")
    assert os.read(reading, 1) == b"1"
    os.waitpid(child, 0)


def test_a_failure_is_its_own():
    """The others of the peal run, and its own next attempt is as ever."""
    each = announced(3, tasks.record_late)

    def fail_second(key):
        if key == each[1].args[0]:
            raise ValueError(key)

    with helper(tasks.record_late, fail_second):
        deliver(*each, task=tasks.record_late)
    assert states(each) == ["succeeded", "pending", "succeeded"]
    each[1].refresh()
    assert (each[1].attempt, [row.state for row in each[1].attempts.all()]) == (1, ["retried"])


def test_a_lost_lease_claims_nothing():
    """What commits with a settlement does not happen without it."""
    each = announced(2)
    dropped = []
    signals.lease_lost.connect(lambda lease, **kwargs: dropped.append(lease), weak=False)
    seen = []

    def be_rescued(key):
        if not seen:
            by_hand.elsewhere(lambda: Outcome.objects.filter(pk=each[0].pk).update(fence=9))
        seen.append(by_hand.elsewhere(lambda: states(each)))

    with helper(tasks.record, be_rescued):
        deliver(*each)
    assert [lease.outcome_id for lease in dropped] == [each[0].pk]
    assert states(each) == ["running", "succeeded"]
    each[1].refresh()
    assert (each[1].fence, each[1].attempt) == (1, 1)


def test_what_is_not_to_run_is_passed_over():
    """A cancelled one, one of a paused queue, and one that somebody else has."""
    each = announced(5)
    cancellation.cancel(each[1])
    outcomes.claim(each[2].pk, frozenset({tasks.record.name}), "another worker")
    Outcome.objects.filter(pk=each[3].pk).update(queue="paused")
    queues.pause("paused")
    deliver(*each)
    assert states(each) == ["succeeded", "cancelled", "running", "pending", "succeeded"]
    assert Effect.objects.count() == 2


def test_a_message_that_comes_twice_runs_nothing_twice():
    """Nor does a message whose outcome is at its end keep the others from running."""
    each = announced(3)
    deliver(each[0])
    deliver(*each)
    deliver(*each)
    assert states(each) == ["succeeded"] * 3
    assert Effect.objects.count() == 3


def test_what_is_claimed_ahead_and_cannot_run_is_given_back():
    """A process that is ended between two runs leaves no lease behind, and no attempt is lost."""
    each = announced(3)

    def end_process(outcome, **kwargs):
        raise_at_next.append(outcome)

    raise_at_next = []
    signals.succeeded.connect(end_process)
    registered = app.tasks[tasks.record.name]
    trace = build_tracer(tasks.record.name, registered, app=app)

    def trace_or_end(uuid, args, kwargs, request):
        if raise_at_next:
            raise WorkerShutdown(0)
        return trace(uuid, args, kwargs, request)

    request = {**own_headers(each[0]), "delivery_info": {}, "ignore_result": True}
    request[PEAL] = [own_headers(row) for row in each[1:]]
    try:
        with pytest.raises(WorkerShutdown):
            turns.in_turn(trace_or_end)(str(each[0].pk), (), {}, request)
    finally:
        signals.succeeded.disconnect(end_process)
    assert states(each) == ["succeeded", "pending", "pending"]
    each[1].refresh()
    assert (each[1].attempt, [row.state for row in each[1].attempts.all()]) == (0, ["released"])
    assert due(each) == {row.pk for row in each[1:]}


def received(each, **options):
    """Return what a worker's main process makes of a message that rings for all of these."""
    first, *rest = each
    message = TaskMessage(tasks.record.name, id=str(first.pk), args=(), kwargs={})
    message.headers[PEAL] = [own_headers(row) for row in rest]
    task = options.pop("task", app.tasks[tasks.record.name])
    return OutcomeRequest(message, app=app, task=task, **options)


@pytest.mark.parametrize("groups", [set(), {"worker", "task"}], ids=["all events", "task events"])
def test_where_a_monitor_listens_each_rings_alone(groups):
    """Flower sees every task: what shares the message comes due again, and comes alone."""
    each = announced(3)
    request = received(each, eventer=SimpleNamespace(enabled=True, groups=groups))
    assert PEAL not in request.request_dict
    assert due(each) == {row.pk for row in each[1:]}


def test_where_nobody_counts_messages_the_peal_stays():
    """The events of a worker about itself are nobody's reason."""
    each = announced(3)
    request = received(each, eventer=SimpleNamespace(enabled=True, groups={"worker"}))
    assert len(request.request_dict[PEAL]) == 2
    assert due(each) == set()


def test_where_runs_are_counted_each_rings_alone(monkeypatch):
    """A rate limit, or a pool that replaces a process after so many tasks, counts messages."""
    each = announced(3)
    turns.this_worker.start(counts_messages=True)
    assert PEAL not in received(each).request_dict
    turns.this_worker.start(counts_messages=False)
    monkeypatch.setattr(app.tasks[tasks.record.name], "rate_limit", "10/s")
    assert PEAL not in received(each).request_dict


def test_a_lost_child_is_blamed_on_what_it_ran():
    """Of a peal's outcomes only the running one has lost a worker; the rest comes due at once."""
    each = announced(4)
    request = received(each)
    request.worker_pid = 4_000_000
    name = worker_name(request.worker_pid)
    outcomes.claim(each[1].pk, frozenset({tasks.record.name}), name)
    request._take_back("signal 9", is_time_limit=False)
    assert list(Outcome.objects.order_by("pk").values_list("crashes", flat=True)) == [0, 1, 0, 0]
    assert due(each) == {each[2].pk, each[3].pk}
