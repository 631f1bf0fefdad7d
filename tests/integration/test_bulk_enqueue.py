"""A call that was enqueued among many differs in nothing from one that was enqueued alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from tasks_app import context, outcomes, signals
from tasks_app.clock import DatabaseNow
from tasks_app.context import Lineage
from tasks_app.exceptions import IdempotencyConflict, InvalidArgument
from tasks_app.models import IdempotencyKey, Outcome, Subject
from tasks_app.uuid7 import uuid7
from tests.testapp import tasks

pytestmark = pytest.mark.django_db(transaction=True)

TEXTS = ["", "'", '"', "\\", "\n\t\r", "%s %(a)s %%", "{}", "grüße 🚀", "[1, 2]", "null"]

#: What is each row's own.
OWN = {"id", "root_id", "run_at", "announce_at", "expires_at", "created_at", "request_id"}


def columns(outcome):
    return {field.attname: getattr(outcome, field.attname) for field in outcome._meta.fields}


AT = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def test_its_row_is_that_of_a_single_call():
    """Every column is the same, and every time is as far ahead."""
    options = {"queue": "q", "priority": 2, "run_after": timedelta(hours=1), "expires": 7200}
    using = tasks.record.using(**options, idempotency_key="one")
    alone = Outcome.objects.get(pk=using.enqueue("a", note="b").pk)
    using = tasks.record.using(**options, idempotency_key="two")
    (pk,) = using.enqueue_many([{"key": "a"}])
    among = Outcome.objects.get(pk=pk)
    Outcome.objects.filter(pk=pk).update(
        idempotency_key="one", args_json=alone.args_json, kwargs_json=alone.kwargs_json
    )
    among.refresh()
    one, other = columns(alone), columns(among)
    assert {name for name in one if one[name] != other[name]} <= OWN
    assert among.root_id == among.id
    for outcome in (alone, among):
        assert outcome.run_at - outcome.created_at == timedelta(hours=1)
        assert outcome.announce_at == outcome.run_at
        assert outcome.expires_at - outcome.created_at == timedelta(hours=2)


@pytest.mark.parametrize(
    "options", [{}, {"run_after": AT, "expires": AT, "queue": "a\\tb", "about": "auth.user:7"}]
)
def test_its_row_is_that_of_a_single_call_where_nothing_is_computed(options):
    """Every column is the same where the database fills in nothing but its defaults."""
    user = User.objects.create(username="somebody")
    using = tasks.record.using(owner=user, **options)
    parent = Lineage(uuid7(), uuid7(), user.pk)
    with context.working_for("a-request", parent):
        alone = Outcome.objects.get(pk=using.enqueue(key="a", note="b").pk)
        (pk,) = using.enqueue_many([{"key": "a", "note": "b"}])
    among = Outcome.objects.get(pk=pk)
    one, other = columns(alone), columns(among)
    times = {"created_at"} if options else {"created_at", "run_at", "announce_at"}
    assert {name for name in one if one[name] != other[name]} <= {"id", *times}
    assert among.run_at == (options.get("run_after") or among.created_at)
    assert Subject.objects.filter(outcome_id=pk).exists() == bool(options)


def test_it_belongs_to_whom_it_was_enqueued_for():
    """Request, parent and root are those of the code that enqueues."""
    parent = Lineage(uuid7(), uuid7())
    with context.working_for("a-request", parent):
        ids = tasks.add.enqueue_many([(1, 2), (3, 4)])
    for outcome in Outcome.objects.filter(pk__in=ids):
        assert (outcome.request_id, outcome.parent_id) == ("a-request", parent.outcome_id)
        assert outcome.root_id == parent.root_id


def test_any_text_comes_back():
    """Neither quotes nor signs with a meaning to some database change an argument or a key."""
    ids = tasks.record.enqueue_many([{"key": text, "note": text} for text in TEXTS])
    kwargs = [Outcome.objects.get(pk=pk).kwargs for pk in ids]
    assert kwargs == [{"key": text, "note": text} for text in TEXTS]
    keyed = tasks.record_once.enqueue_many([(text,) for text in TEXTS])
    kept = [Outcome.objects.get(pk=pk).idempotency_key for pk in keyed]
    assert kept == [f"record:{text}" for text in TEXTS]


def test_taken_keys_lead_to_their_outcomes():
    """A key that was taken before, or by an earlier call of the same bulk, makes no row."""
    first = tasks.record_once.enqueue("a")
    ids = tasks.record_once.enqueue_many([("b",), ("a",), ("b",), ("c",)])
    assert ids[1] == first.pk
    assert ids[0] == ids[2]
    assert Outcome.objects.count() == 3


def test_freed_keys_are_taken_over():
    """A key whose outcome is gone, or ended long ago, makes a row; one that is held does not."""
    gone, ended, held = (tasks.record_once.enqueue(key) for key in "abc")
    gone_id = gone.pk
    Outcome.objects.filter(pk=gone_id).delete()
    outcomes.cancel(ended.pk)
    long_ago = DatabaseNow() - timedelta(days=8)
    Outcome.objects.filter(pk=ended.pk).update(finished_at=long_ago)
    ids = tasks.record_once.enqueue_many([(key,) for key in "abcd"])
    assert ids[2] == held.pk
    assert not {ids[0], ids[1], ids[3]} & {gone_id, ended.pk, held.pk}
    assert tasks.record_once.enqueue_many([(key,) for key in "abcd"]) == ids
    assert Outcome.objects.count() == 5


def test_more_keys_than_one_statement_takes():
    """Each batch is taken by itself, all in one transaction."""
    first = tasks.record_once.enqueue_many([(str(number),) for number in range(0, 1_200, 3)])
    ids = tasks.record_once.enqueue_many([(str(number),) for number in range(1_200)])
    assert ids[::3] == first
    assert len(set(ids)) == Outcome.objects.count() == IdempotencyKey.objects.count() == 1_200


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (("a", "other"), IdempotencyConflict),
        (("b", object()), InvalidArgument),
        (("b", 1, 2), TypeError),
    ],
    ids=["a conflict", "no JSON", "too many"],
)
def test_one_bad_call_stops_all(call, error):
    """Nothing is written then, and the caller's transaction stays usable."""
    with transaction.atomic():
        tasks.record_once.enqueue("a")
        with pytest.raises(error):
            tasks.record_once.enqueue_many([("c",), call])
    assert [outcome.args for outcome in Outcome.objects.all()] == [["a"]]
    assert IdempotencyKey.objects.count() == 1


def test_a_rollback_takes_all_back():
    """They are written in the caller's transaction."""
    with transaction.atomic():
        tasks.record_once.enqueue_many([(uuid4().hex,) for _ in range(3)])
        transaction.set_rollback(True)
    assert not Outcome.objects.exists()
    assert not IdempotencyKey.objects.exists()


def test_listeners_hear_of_each():
    """Who listens gets every row, complete."""
    heard = []

    def listen(outcome, **kwargs):
        heard.append((outcome.pk, outcome.args, outcome.created_at is not None))

    signals.enqueued.connect(listen)
    try:
        ids = tasks.add.enqueue_many([(1, 2), (3, 4)])
    finally:
        signals.enqueued.disconnect(listen)
    assert heard == [(ids[0], [1, 2], True), (ids[1], [3, 4], True)]


def test_no_calls_make_nothing():
    """An empty bulk is no error."""
    assert tasks.add.enqueue_many([]) == []
    assert not Outcome.objects.exists()
