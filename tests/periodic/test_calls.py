"""What a slot's helper knows of it, and plain Celery tasks on a schedule."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from celery import exceptions as celery_exceptions
from celery import shared_task

from tasks_app import Snooze, current, outcomes
from tasks_app.broker import BrokerDown, Publisher
from tasks_app.models import Outcome, Slot
from tasks_app.periodic import slots
from tests import by_hand
from tests.periodic.beats import beat, come_due, entry, texts
from tests.project import app

pytestmark = pytest.mark.django_db(transaction=True)

#: What the helpers below saw.
SEEN: list[object] = []


@shared_task(name="tests.plain", bind=True)
def plain(self, word):
    """Note what a plain task gets."""
    headers = self.request.headers or {}
    SEEN.append((word, self.request.id, headers.get("scheduled_for")))


@pytest.fixture(autouse=True)
def _nothing_seen():
    SEEN.clear()


def claimed(outcome):
    """Claim an outcome that waits."""
    outcomes.run_now(outcome.pk)
    return outcomes.claim(outcome.pk, frozenset({outcome.task_name}), "w")


def test_a_helper_knows_its_slot_in_each_attempt_and_replay():
    """The same aware time, however often it runs."""
    row = entry()
    slot_at = come_due(row)
    beat().tick()
    outcome = Outcome.objects.get()

    def look(*args):
        SEEN.append(current.scheduled_for)
        if len(SEEN) == 1:
            raise Snooze(after=0)

    with pytest.raises(celery_exceptions.Retry):
        by_hand.run(claimed(outcome), look)
    by_hand.run(claimed(outcome), look)
    outcome.refresh()
    again = outcome.replay()
    by_hand.run(claimed(again), look)
    assert [slot_at] * 3 == SEEN
    assert SEEN[0].utcoffset() == timedelta(0)
    assert current.scheduled_for is None


def test_what_no_schedule_asked_for_has_no_slot():
    """Nor has anything outside a task."""
    outcome = Outcome.objects.get(pk=slots.run_now(entry(), "ada").outcome_id)
    by_hand.run(claimed(outcome), lambda *args: SEEN.append(current.scheduled_for))
    assert SEEN[0] == Slot.objects.get().slot_at
    other = app.tasks[outcome.task_name].enqueue(1, 2)
    by_hand.run(claimed(other), lambda *args: SEEN.append(current.scheduled_for))
    assert SEEN[1] is None


def test_a_plain_task_is_forwarded_with_its_slot(monkeypatch):
    """Its message leaves from a worker, under the same id in each attempt."""
    row = entry(task=plain.name, **texts(args=["hello"]), priority=7, queue="elsewhere")
    slot_at = come_due(row)
    beat().tick()
    outcome = Outcome.objects.get()
    assert outcome.task_name == "tasks_app.forward"
    published = []

    def send(name, args=None, kwargs=None, **options):
        published.append((name, args, options))
        if len(published) == 1:
            raise OSError("the broker is away")

    monkeypatch.setattr(app, "send_task", send)
    with pytest.raises(celery_exceptions.Retry):
        by_hand.run(claimed(outcome))
    by_hand.run(claimed(outcome))
    (name, args, first), (_, _, second) = published
    assert (name, list(args)) == (plain.name, ["hello"])
    assert first["task_id"] == second["task_id"]
    assert first["headers"]["scheduled_for"] == slot_at.isoformat()
    assert (first["queue"], first["priority"]) == ("elsewhere", 7)


def test_slots_are_decided_without_a_broker(monkeypatch):
    """Nothing of a tick asks for it."""

    def refuse(*args, **kwargs):
        raise BrokerDown("away")

    monkeypatch.setattr(Publisher, "_connect", refuse)
    monkeypatch.setattr(app, "connection_for_write", refuse)
    row = entry()
    come_due(row)
    beat().tick()
    options = json.loads(Outcome.objects.get().options_json)
    assert options["headers"]["periodic_task_name"] == row.name
