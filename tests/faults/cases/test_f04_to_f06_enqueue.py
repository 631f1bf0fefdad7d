"""Faults of the enqueue that need no worker's death."""

from __future__ import annotations

import pytest
from django.db import transaction

from tasks_app.exceptions import IdempotencyConflict
from tasks_app.models import Outcome
from tests.races.two import at_once
from tests.testapp import tasks


def test_f04_a_rollback_leaves_nothing_to_run(key):
    """What was enqueued in a transaction or a savepoint vanishes with it."""
    with transaction.atomic():
        with transaction.atomic():
            inner = tasks.record.enqueue(key)
            transaction.set_rollback(True)
        outer = tasks.record.enqueue(key)
        transaction.set_rollback(True)
    assert not Outcome.objects.filter(pk__in=[inner.pk, outer.pk]).exists()


def test_f05_callers_with_the_same_key_get_the_same_outcome(key):
    """Eight callers at once: one row, whose id all of them get."""
    outcomes = at_once(*[lambda: tasks.record_once.enqueue(key)] * 8)
    assert len({outcome.pk for outcome in outcomes}) == 1
    assert sum(outcome.created for outcome in outcomes) == 1


def test_f06_other_arguments_under_the_same_key_are_refused(key):
    """The row stays what it was."""
    outcome = tasks.record_once.enqueue(key)
    with pytest.raises(IdempotencyConflict):
        tasks.record_once.enqueue(key, "another note")
    outcome.refresh()
    assert (outcome.state, outcome.args) == ("pending", [key])
