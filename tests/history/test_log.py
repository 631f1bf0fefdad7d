"""The log tells every change of an outcome, as the database saw it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection, transaction

from tasks_app import outcomes, rescue
from tasks_app.leases import Lease
from tasks_app.models import Outcome
from tests import by_hand
from tests.history import log
from tests.history.checker import Rule, check
from tests.integration.command_line import WORKER, ago, claimed, rewritten
from tests.testapp.models import Effect
from tests.testapp.tasks import record, record_once

pytestmark = pytest.mark.django_db(transaction=True)

SOON = timedelta(0)


@pytest.fixture(autouse=True)
def _installed():
    """The log of the test's database."""
    with log.installed():
        yield


def told():
    """Return what the log tells of moves, without times."""
    moves = [(e.act, e.from_state, e.to_state, e.to_fence, e.attempt) for e in log.events()]
    log.clear()
    return moves


def test_each_act_is_an_event():
    """From the insert to the delete, with the row's fence and attempt after each."""
    outcome = record_once.enqueue("k")
    assert told() == [("insert", None, "pending", 0, 0)]
    lease = Lease.of(claimed(outcome))
    assert told() == [("update", "pending", "running", 1, 1)]
    outcomes.renew(lease)
    assert told() == [("update", "running", "running", 1, 1)]
    outcomes.snooze(lease, SOON)
    assert told() == [("update", "running", "pending", 2, 0)]
    by_hand.let_lease_run_out(claimed(outcome))
    rescue.run_once()
    assert [move[2:] for move in told()][-1] == ("pending", 4, 1)
    outcomes.run_now(outcome.pk)
    outcomes.succeed(Lease.of(claimed(outcome)), "null")
    assert told()[-1] == ("update", "running", "succeeded", 5, 2)
    Outcome.objects.filter(pk=outcome.pk).delete()
    assert told() == [("delete", "succeeded", None, None, 2)]


def test_an_event_says_whose_it_is():
    """Key, task, worker and lease are the row's, read back as they are there."""
    outcome = record_once.enqueue("k")
    running = claimed(outcome)
    inserted, taken = log.events()
    assert (taken.outcome_id, taken.worker) == (outcome.pk, WORKER)
    assert taken.lease_until == running.lease_until
    assert (taken.task_name, taken.idempotency_key) == (outcome.task_name, "record:k")
    assert inserted.at == pytest.approx(outcome.created_at, abs=timedelta(seconds=1))
    assert list(log.events(since=inserted.seq)) == [taken]


def test_what_is_rolled_back_leaves_no_event():
    """The log and the change share a transaction."""
    with transaction.atomic():
        record.enqueue("k")
        transaction.set_rollback(True)
    assert told() == []


def test_a_bypass_is_seen():
    """A statement that is none of the guarded ones is an event like every other."""
    rewritten(record.enqueue("k"), state="succeeded", finished_at=ago(seconds=1))
    assert Rule.EDGES in {violation.rule for violation in check(log.events())}


def test_statements_hit_as_many_rows_as_without_a_log():
    """The guards read how many rows they hit; the log's own rows do not count."""
    outcome = record.enqueue("k")
    assert outcomes.cancel(outcome.pk) is True
    assert outcomes.cancel(outcome.pk) is False
    assert Outcome.objects.filter(pk=outcome.pk).update(cancel_reason="why") == 1


def test_effects_name_their_run():
    """The fence of an effect is that of the run which committed it."""
    outcome = record.enqueue("k")
    outcomes.release(Lease.of(claimed(outcome)))
    by_hand.answer(outcome)
    Effect.objects.create(key="k", note="outside of any run")
    known = [(effect.outcome_id, effect.fence) for effect in Effect.objects.order_by("pk")]
    assert known == [(outcome.pk, 3), (None, None)]
    assert check(log.events(), effects=Effect.objects.all(), healed=True) == []


def test_removing_leaves_nothing_behind():
    """The database is as it was, and a log can be begun again."""
    log.remove()
    log.remove()
    record.enqueue("k")
    assert log.Event._meta.db_table not in connection.introspection.table_names()
    log.install()
    assert told() == []
