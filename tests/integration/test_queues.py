"""A paused queue rests everywhere, at no cost to anything else, until somebody resumes it."""

from __future__ import annotations

import time
from datetime import timedelta
from uuid import uuid4

import pytest
from celery.exceptions import Ignore
from django.db import connection

from tasks_app import outbox, outcomes, queues, rescue, signals
from tasks_app.exceptions import InvalidArgument
from tasks_app.models import Outcome, PausedQueue
from tasks_app.options import declared
from tasks_app.relay import Relay
from tasks_app.roll_call import RollCall
from tests import by_hand, trail
from tests.integration.command_line import ago, claimed, rewritten, tasks
from tests.integration.test_statement_counts import plan, verbs
from tests.processes import start_worker
from tests.project import app
from tests.testapp.models import Effect
from tests.testapp.tasks import add, record, record_late
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds within which every process has to obey.
SOON = 5

#: Seconds that anything may take on a busy machine.
PATIENCE = 60

QUEUE = "celery"


def taken():
    """Return the ids of what a relay takes now."""
    return [row.pk for row in outbox.take_due(100, declared.keys()).rows]


def test_a_relay_takes_nothing_of_a_paused_queue():
    """Rows of other queues are taken as ever; the paused ones stay due."""
    resting, other = add.enqueue(1, 2), add.using(queue="other").enqueue(1, 2)
    assert queues.pause(QUEUE)
    assert taken() == [other.pk]
    assert queues.resume(QUEUE)
    assert taken() == [resting.pk]


def test_a_doorbell_that_arrives_meanwhile_finds_nothing_to_claim():
    """The message is answered, the row waits on, and no attempt is counted."""
    outcome = record.enqueue(key := uuid4().hex)
    assert taken() == [outcome.pk]
    queues.pause(QUEUE)
    with pytest.raises(Ignore):
        by_hand.answer(outcome)
    outcome.refresh()
    assert (outcome.state, outcome.attempt, outcome.fence) == ("pending", 0, 0)
    assert not Effect.objects.filter(key=key).exists()


def test_resuming_makes_announced_rows_due_at_once():
    """Nobody waits for the next announcement of a message that a worker has refused."""
    announced = add.enqueue(1, 2)
    assert taken() == [announced.pk]
    add.using(run_after=3600).enqueue(1, 2)
    queues.pause(QUEUE)
    assert taken() == []
    queues.resume(QUEUE)
    assert taken() == [announced.pk]


def test_what_runs_goes_on_to_its_end():
    """A pause keeps runs from beginning; those that have begun are not touched."""
    outcome = claimed(add.enqueue(1, 2))
    queues.pause(QUEUE)
    assert by_hand.run(outcome) == 3
    outcome.refresh()
    assert outcome.state == "succeeded"


def test_a_rescued_run_waits_like_all_others():
    """A worker that dies in a paused queue leaves a row that nobody rings for."""
    outcome = claimed(add.enqueue(1, 2))
    queues.pause(QUEUE)
    by_hand.let_lease_run_out(outcome)
    assert rescue.run_once() == 1
    outcome = rewritten(outcome, announce_at=ago(seconds=1), run_at=ago(seconds=1))
    assert outcome.state == "pending"
    assert taken() == []
    assert outcomes.claim(outcome.pk, frozenset({outcome.task_name}), "worker") is None


def test_the_roll_is_not_called_for_a_paused_queue():
    """Its messages are gone because they were answered; ringing again would be for nothing."""
    outcome = add.enqueue(1, 2)
    assert taken() == [outcome.pk]
    roll_call = RollCall(interval=0)
    assert list(roll_call.waiting()) == [QUEUE]
    queues.pause(QUEUE)
    assert roll_call.waiting() == {}


def test_what_may_not_run_any_more_expires_in_a_paused_queue():
    """Whoever waits for it is told in time, whatever else waits before it."""
    queues.pause(QUEUE)
    waiting = add.enqueue(1, 2)
    outcome = rewritten(add.enqueue(1, 2), expires_at=ago(seconds=1))
    assert rescue.expire_paused() == 0
    PausedQueue.objects.update(searched_at=ago(seconds=60))
    heard = []

    def hear(outcome, **_):
        heard.append((outcome.pk, outcome.state))

    signals.expired.connect(hear)
    try:
        Relay(app).housekeeper.run_if_due()
    finally:
        signals.expired.disconnect(hear)
    assert heard == [(outcome.pk, "expired")]
    assert outbox.expire_paused() == []
    waiting.refresh()
    assert waiting.state == "pending"


def test_a_pause_tells_by_whom_and_why_and_is_not_overwritten():
    """The first one's words stay until the queue is resumed."""
    assert queues.pause(QUEUE, by="alice", reason="the provider\nis down")
    assert not queues.pause(QUEUE, by="bob", reason="me too")
    row = PausedQueue.objects.get()
    assert (row.name, row.paused_by, row.reason) == (QUEUE, "alice", "the provider is down")
    assert queues.paused() == {QUEUE}
    assert queues.resume(QUEUE, by="bob")
    assert not queues.resume(QUEUE, by="bob")
    assert queues.paused() == set()


@pytest.mark.parametrize("name", ["", "x" * 129, "a\0b"])
def test_no_queue_can_have_such_a_name(name):
    """It is refused before any database is asked."""
    with pytest.raises(InvalidArgument):
        queues.pause(name)


def test_a_look_of_the_relay_asks_once_which_queues_rest():
    """One statement for all queues; none where nothing waits."""
    for name in ("a", "b", "c"):
        add.using(queue=name).enqueue(1, 2)
        queues.pause(name)
    with verbs() as seen:
        assert taken() == []
    assert seen == ["SELECT"] * 5


def test_the_claim_finds_the_pause_by_its_name():
    """One index look-up beside the row's own, however many queues are paused."""
    if connection.vendor != "postgresql":
        pytest.skip("the other databases name no index of a subquery in an UPDATE's plan")
    outcome = add.enqueue(1, 2)
    sql = outcomes._claim(1)._for(connection).acts[0]
    values = {"id": outcome.pk, "worker": "w", "name0": add.name, "lease": timedelta(seconds=45)}
    with connection.cursor() as cursor:
        text = cursor.mogrify(sql.text, sql.bound(values, connection))
    found = plan(text)
    assert "tasks_app_outcome_pkey" in found
    assert "tasks_app_pausedqueue" in found
    assert "Seq Scan" not in found


def test_a_real_worker_and_its_relay_obey_within_seconds(tmp_path):
    """What waits waits on, what runs ends, and both work again after the resume."""
    key = uuid4().hex
    with start_worker(tmp_path, concurrency=1, pool="threads") as worker:
        running = record_late.enqueue(key)
        wait_until(lambda: trail.left(key), PATIENCE, worker.tail)
        # Announced and waiting for the one thread: their messages meet the pause.
        waiting = [record.enqueue(key, "waits") for _ in range(3)]
        wait_until(
            lambda: Outcome.objects.filter(pk__in=pks(waiting), announced=1).count() == 3,
            PATIENCE,
            worker.tail,
        )
        queues.pause(QUEUE)
        trail.open_gate(key)
        running.get(PATIENCE)
        # The worker has answered what it was sent before, and the relay looked twice since.
        wait_until(lambda: worker.output.count("is pending") == 3, PATIENCE, worker.tail)
        let_a_relay_look(worker)
        late = record.enqueue(key, "later")
        let_a_relay_look(worker)
        assert not is_announced(late)
        assert states([*waiting, late]) == {("pending", 0)}
        queues.resume(QUEUE)
        began = time.monotonic()
        for outcome in (*waiting, late):
            outcome.get(PATIENCE)
        assert time.monotonic() - began < SOON
    assert states([*waiting, late]) == {("succeeded", 1)}


def let_a_relay_look(worker):
    """Return after a look that began after this."""
    witness = add.using(queue=uuid4().hex).enqueue(1, 2)
    wait_until(lambda: is_announced(witness), PATIENCE, worker.tail)


def is_announced(outcome):
    outcome.refresh()
    return outcome.announced > 0


def pks(found):
    return [outcome.pk for outcome in found]


def states(found):
    return set(Outcome.objects.filter(pk__in=pks(found)).values_list("state", "attempt"))


def test_the_commands_pause_and_resume():
    """Both tell what came of it; a mistyped name is refused."""
    typed = tasks("pause", QUEUE, "--reason", "maintenance")
    assert (typed.code, typed.output) == (0, "celery is paused; what runs already goes on.\n")
    assert PausedQueue.objects.get().reason == "maintenance"
    assert tasks("pause", QUEUE).output == "celery was paused already.\n"
    typo = tasks("resume", "celeri")
    assert typo.code == 1
    assert "Paused queues: celery." in typo.errors
    assert tasks("resume", QUEUE).output == "celery works again.\n"
    assert queues.paused() == set()
