"""Two processes on the same leg of a call's path: what each of them does happens once."""

from __future__ import annotations

from uuid import uuid4

import pytest
from celery.exceptions import Ignore
from django.db import connection, transaction

from tasks_app import outbox, rescue
from tasks_app.exceptions import IdempotencyConflict
from tasks_app.models import IdempotencyKey, Outcome
from tasks_app.options import declared
from tests import by_hand
from tests.integration.command_line import claimed, failed
from tests.races.two import at_once, done, one_inside_the_other
from tests.testapp.models import Effect
from tests.testapp.tasks import add, record, record_once

pytestmark = pytest.mark.django_db(transaction=True)


def test_two_messages_at_once_have_one_effect():
    """Two workers that were given the same doorbell: one runs it, one drops it."""

    def answer():
        try:
            by_hand.answer(outcome)
        except Ignore:
            return "dropped"
        return "run"

    for _ in range(5):
        outcome = record.enqueue(key := uuid4().hex)
        assert sorted(at_once(answer, answer)) == ["dropped", "run"]
        assert Effect.objects.filter(key=key).count() == 1


def test_two_relays_ring_once_for_each_row():
    """Whatever one relay has taken, the other one leaves alone."""
    ids = add.enqueue_many([(number, 0) for number in range(60)])
    take = lambda: [row.pk for row in outbox.take_due(100, declared.keys()).rows]  # noqa: E731
    first, second = at_once(take, take)
    assert not set(first) & set(second)
    assert {*first, *second, *take()} == set(ids)
    assert set(Outcome.objects.values_list("announced", flat=True)) == {1}


def test_two_rescuers_count_each_crash_once():
    """Of two that found the same orphan, one gives it back."""
    orphans = [claimed(add.enqueue(number, 0)) for number in range(10)]
    for orphan in orphans:
        by_hand.let_lease_run_out(orphan)
    assert sum(at_once(rescue.run_once, rescue.run_once)) == len(orphans)
    assert set(Outcome.objects.values_list("state", "crashes")) == {("pending", 1)}


def test_two_callers_with_one_key_have_one_outcome():
    """Equal calls at the same moment make one row; one of the callers made it."""
    for _ in range(5):
        key = uuid4().hex
        enqueue = lambda key=key: record_once.enqueue(key)  # noqa: E731
        first, second = at_once(enqueue, enqueue)
        assert first.pk == second.pk
        assert {first.created, second.created} == {True, False}
        assert Outcome.objects.filter(idempotency_key=f"record:{key}").count() == 1


def test_two_callers_with_one_key_and_other_arguments_conflict():
    """One of them has the key, the other one is told so and keeps its transaction."""

    def enqueue(note):
        with transaction.atomic():
            try:
                record_once.enqueue(key, note)
            except IdempotencyConflict:
                Effect.objects.create(key=key, note=note)
                return "refused"
        return "enqueued"

    key = uuid4().hex
    assert sorted(at_once(lambda: enqueue("a"), lambda: enqueue("b"))) == ["enqueued", "refused"]
    assert Outcome.objects.count() == Effect.objects.filter(key=key).count() == 1


def test_two_bulks_with_the_same_keys_have_one_outcome_each():
    """Whatever the order of their calls, neither makes a row twice nor waits for ever."""
    for _ in range(5):
        calls = [(uuid4().hex,) for _ in range(40)]
        ids, reversed_ids = at_once(
            lambda calls=calls: record_once.enqueue_many(calls),
            lambda calls=calls: record_once.enqueue_many(calls[:9:-1]),
        )
        assert reversed_ids == ids[:9:-1]
        assert Outcome.objects.filter(pk__in=ids).count() == len(set(ids)) == 40
    assert Outcome.objects.count() == IdempotencyKey.objects.count() == 200


def test_two_bulks_take_over_the_same_keys_once():
    """Keys whose outcomes are gone go to one of two callers each, and both are told to whom."""
    for _ in range(5):
        calls = [(uuid4().hex,) for _ in range(20)]
        Outcome.objects.filter(pk__in=record_once.enqueue_many(calls)).delete()
        enqueue = lambda calls=calls: done(lambda: record_once.enqueue_many(calls))  # noqa: E731
        first, second = at_once(enqueue, enqueue)
        assert first == second
        assert Outcome.objects.filter(pk__in=first).count() == 20


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer")
def test_a_bulk_waits_for_keys_that_another_transaction_has_taken():
    """It gets the outcomes of whoever was first, and the rest is its own."""
    calls = [(uuid4().hex,) for _ in range(3)]
    first, second = one_inside_the_other(
        lambda: record_once.enqueue_many(calls[:2]), lambda: record_once.enqueue_many(calls)
    )
    assert second[:2] == first
    assert Outcome.objects.count() == 3


def test_two_replays_of_one_outcome_are_two_wishes():
    """A replay is always a new outcome; the old one's key goes to the last of them."""
    outcome = failed(record_once.enqueue(uuid4().hex))
    first, second = at_once(outcome.replay, outcome.replay)
    assert first.pk != second.pk
    assert record_once.enqueue(*outcome.args).pk in {first.pk, second.pk}
