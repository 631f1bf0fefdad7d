"""Whoever asks for a call that was made already is noted with its outcome."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from tasks_app import context
from tasks_app.context import Lineage
from tasks_app.exceptions import IdempotencyConflict
from tasks_app.idempotency import MOST_REPEATS
from tasks_app.models import IdempotencyKey, Outcome, Repeat
from tasks_app.prune import prune
from tasks_app.uuid7 import uuid7
from tests.testapp import tasks

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_call_that_makes_an_outcome_is_no_repeat():
    """Nor is one without a key, nor one that is refused."""
    tasks.record_once.enqueue("a key")
    tasks.add.enqueue(1, 2)
    with pytest.raises(IdempotencyConflict):
        tasks.record_once.enqueue("a key", note="other")
    assert not Repeat.objects.exists()


@pytest.mark.parametrize("way", ["enqueue", "delay", "many"])
def test_a_repeat_tells_who_asked(way):
    """Request, outcome and user of the code that asked, whichever way it asked."""
    outcome = tasks.record_once.enqueue("a key")
    user = get_user_model().objects.create_user("second")
    parent = Lineage(uuid7(), uuid7(), user.pk)
    with context.working_for("the-second-request", parent):
        match way:
            case "enqueue":
                tasks.record_once.enqueue("a key")
            case "delay":
                tasks.record_once.delay("a key")
            case "many":
                assert tasks.record_once.enqueue_many([("a key",)]) == [outcome.pk]
    repeat = Repeat.objects.get()
    assert (repeat.outcome_id, repeat.request_id) == (outcome.pk, "the-second-request")
    assert (repeat.parent_id, repeat.owner_pk) == (parent.outcome_id, str(user.pk))


def test_where_nobody_is_known_nobody_is_named():
    """A shell has no request, no outcome and no user; none is made up."""
    for _ in range(2):
        tasks.record_once.enqueue("a key")
    repeat = Repeat.objects.get()
    assert (repeat.request_id, repeat.parent_id, repeat.owner_pk) == (None, None, "")


def test_whoever_rolls_back_has_not_asked():
    """The note commits with the caller's transaction."""
    tasks.record_once.enqueue("a key")
    with transaction.atomic():
        tasks.record_once.enqueue("a key")
        transaction.set_rollback(True)
    assert not Repeat.objects.exists()


def test_a_hot_key_does_not_flood_the_table():
    """The first repeats are kept; one by one, or many at once."""
    calls = [("a key",)] * (MOST_REPEATS + 5)
    tasks.record_once.enqueue_many(calls)
    assert Repeat.objects.count() == MOST_REPEATS
    tasks.record_once.enqueue("a key")
    tasks.record_once.enqueue_many(calls)
    assert Repeat.objects.count() == MOST_REPEATS


def test_equal_calls_of_a_batch_get_the_outcome_that_was_there():
    """Each of them, not only the first."""
    outcome = tasks.record_once.enqueue("a key")
    assert tasks.record_once.enqueue_many([("a key",)] * 3) == [outcome.pk] * 3


def test_pruning_takes_the_repeats_along(settings):
    """No note outlives its outcome, and none of another outcome goes."""
    settings.TASKS_APP = {"IDEMPOTENCY_TTL": 0}
    for key in ("old", "new") * 2:
        tasks.record_once.enqueue(key)
    old, new = (
        IdempotencyKey.objects.get(outcome_id=pk).outcome_id
        for pk in Outcome.objects.order_by("pk").values_list("pk", flat=True)
    )
    long_ago = timezone.now() - timedelta(days=99)
    Outcome.objects.filter(pk=old).update(state="succeeded", finished_at=long_ago)
    assert sum(prune()) == 1
    assert [repeat.outcome_id for repeat in Repeat.objects.all()] == [new]
