"""A row that was inserted without Django's compiler is the one that `save` would have inserted."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models.signals import post_save, pre_save

from tasks_app import inserts
from tasks_app.clock import DatabaseNow
from tasks_app.models import Outcome
from tasks_app.uuid7 import uuid7
from tests.testapp.tasks import add

pytestmark = pytest.mark.django_db(transaction=True)

#: What is each row's own.
OWN = {"id", "run_at", "announce_at", "created_at", "expires_at"}

FORMS = {
    "bare": {},
    "full": {
        "queue": "q",
        "priority": 0,
        "args_json": '["%s %% \' \\\\ \\n"]',
        "idempotency_key": "grüße 🚀 %s \\ \t",
        "max_attempts": 3,
        "request_id": "a-request",
        "parent_id": uuid7(),
        "owner_id": 7,
        "group_id": "g",
        "group_index": 0,
        "options_json": '{"a": 1}',
        "trace_context": "{}",
    },
}


ROOT = uuid7()


def unsaved(**values):
    return Outcome(**{"task_name": "t", "queue": "celery", "root_id": ROOT, **values})


def columns(outcome):
    return {field.attname: getattr(outcome, field.attname) for field in outcome._meta.fields}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("wait", [None, timedelta(hours=1)])
def test_it_is_what_save_inserts(form, wait):
    """Column by column, in the table and on the object at hand."""
    if wait is not None:
        due = DatabaseNow() + wait
        form = {**form, "run_at": due, "announce_at": due, "expires_at": due}
    saved, inserted = unsaved(**form), unsaved(**form)
    saved.save(force_insert=True)
    inserts.insert(inserted)
    rows = [Outcome.objects.get(pk=row.pk) for row in (saved, inserted)]
    assert columns(inserted) == columns(rows[1])
    one, other = map(columns, rows)
    assert {name for name in one if one[name] != other[name]} <= OWN
    assert rows[1].run_at - rows[1].created_at == (wait or timedelta(0))
    assert inserted._state.adding is False


def test_it_is_made_once_for_rows_of_one_shape(monkeypatch):
    """The second enqueue of a task sends the statement of the first one."""
    add.enqueue(1, 2)
    monkeypatch.delattr(inserts, "insertion")
    assert add.enqueue(3, 4).args == [3, 4]


def test_receivers_of_save_are_told():
    """Who listens to Django's signals hears of each single call what `save` would tell."""
    told = []

    def hear(sender, signal, **kwargs):
        told.append({**kwargs, "adding": kwargs["instance"]._state.adding})

    rows = [unsaved(), unsaved()]
    for signal in (pre_save, post_save):
        signal.connect(hear, sender=Outcome)
    try:
        rows[0].save(force_insert=True)
        inserts.insert(rows[1])
    finally:
        for signal in (pre_save, post_save):
            signal.disconnect(hear, sender=Outcome)
    saved, inserted = told[:2], told[2:]
    assert [{**each, "instance": rows[1]} for each in saved] == inserted
    assert [each["adding"] for each in inserted] == [True, False]


def test_an_id_that_is_there_is_an_error():
    """The database refuses it, and the caller's savepoint keeps its transaction usable."""
    there = add.enqueue(1, 2)
    with transaction.atomic():
        with pytest.raises(IntegrityError), transaction.atomic():
            inserts.insert(unsaved(id=there.pk))
        assert Outcome.objects.count() == 1


def test_a_copy_that_is_refused_writes_nothing():
    """An error during a COPY is Django's, and the connection stays usable."""
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL has COPY")
    there = add.enqueue(1, 2)
    columns = {"id": [uuid7(), there.pk], "args_json": ["[]", "[]"]}
    with pytest.raises(IntegrityError):
        inserts.insert_copies(unsaved(), columns)
    assert Outcome.objects.get() == there


def test_a_copy_in_a_broken_transaction_is_refused():
    """As any other statement there."""
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            inserts.insert_copies(unsaved(), {"id": [uuid7()]})
