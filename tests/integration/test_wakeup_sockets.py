"""Bells: who enqueues wakes the relays of its host, after the commit, and never waits for them."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import timedelta
from uuid import uuid4

import pytest
from celery.app.task import Context
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tasks_app import adoption, outbox, outcomes, queues, wakeup_sockets, wakeups
from tasks_app.broker import BrokerDown
from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.models import Outcome
from tasks_app.relay import Relay
from tasks_app.wakeup_sockets import Waker, WakeupSocket
from tasks_app.wakeups import FULL, SHORTEST, VAIN, Wakeup
from tests.project import app as embedded_app
from tests.testapp.tasks import add

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds after which a relay that still sleeps has not been woken.
PATIENCE = 60


@pytest.fixture(autouse=True)
def folder(monkeypatch, settings, tmp_path):
    """A folder of this test's own, and a process that has not looked for relays yet."""
    monkeypatch.setattr(wakeup_sockets, "_waker", Waker())
    place = tmp_path / "relays"
    settings.TASKS_APP = {"WAKEUP_FOLDER": place, "RELAY_INTERVAL": 3600, "RESCUE_INTERVAL": 3600}
    return place


@pytest.fixture
def listening():
    """A relay's socket."""
    with closing(WakeupSocket()) as listening:
        yield listening


@pytest.fixture
def wakeup():
    """A relay's sleep that no change of a file ends."""
    with Wakeup() as wakeup:
        wakeup._files = []
        yield wakeup


def is_woken(listening):
    """Tell whether somebody has rung since the last time."""
    woken = listening.wait(0)
    listening.heard()
    return woken


def test_a_relay_that_sleeps_is_woken_by_an_enqueue(wakeup):
    """It would look by itself an hour later."""
    wakeup._wait = 3600
    wakeup.before_look()
    sleeper = threading.Thread(target=wakeup.wait, args=(lambda: False,), kwargs={"found": 0})
    sleeper.start()
    add.enqueue(1, 2)
    sleeper.join(PATIENCE)
    assert not sleeper.is_alive()


@pytest.mark.parametrize(
    "enqueue",
    [
        lambda: add.enqueue(1, 2),
        lambda: add.enqueue_many([(1, 2), (3, 4)]),
        lambda: add.delay(1, 2),
    ],
)
def test_a_relay_is_woken_after_the_commit_and_not_before(enqueue, listening):
    """A relay that is woken finds the row."""
    with transaction.atomic():
        enqueue()
        assert not is_woken(listening)
    assert is_woken(listening)
    enqueue()
    assert is_woken(listening)


def test_a_replay_wakes(listening):
    """It is due at once, as any other call."""
    outcome = add.enqueue(1, 2)
    outcome.cancel()
    outcome.refresh()
    assert is_woken(listening)
    outcome.replay()
    assert is_woken(listening)


def test_nothing_wakes_for_what_was_rolled_back_or_is_not_due(listening):
    """A relay is not woken in vain."""
    with transaction.atomic():
        add.enqueue(1, 2)
        transaction.set_rollback(True)
    add.using(run_after=timedelta(hours=1)).enqueue(1, 2)
    assert not is_woken(listening)


def test_an_adopted_message_wakes_nobody(listening):
    """Its worker is about to claim the row: a second message would be dropped."""
    request = Context(id=str(uuid4()), args=(1, 2), kwargs={}, delivery_info={})
    adoption.adopt(add.name, add.options, request)
    assert Outcome.objects.count() == 1
    assert not is_woken(listening)


def test_without_bells_everything_is_enqueued_all_the_same(settings, folder):
    """Switched off, nobody listens and nobody rings."""
    settings.TASKS_APP = {**settings.TASKS_APP, "WAKEUPS": False}
    with closing(WakeupSocket()) as listening:
        add.enqueue(1, 2)
        assert not is_woken(listening)
        assert not folder.exists()
    assert Outcome.objects.count() == 1


def test_a_folder_that_is_none_costs_the_bells_alone(folder):
    """Where a relay cannot listen it looks by itself."""
    folder.write_text("no folder")
    with closing(WakeupSocket()) as listening:
        add.enqueue(1, 2)
        assert not is_woken(listening)
    assert Outcome.objects.count() == 1


def test_a_relay_that_was_killed_is_forgotten(listening, folder):
    """Its socket is removed by the first who rings in vain; the others hear all the same."""
    killed = WakeupSocket()
    killed._socket.close()
    assert len(list(folder.iterdir())) == 2
    add.enqueue(1, 2)
    assert is_woken(listening)
    assert list(folder.iterdir()) == [listening._path]


def test_a_relay_that_does_not_listen_holds_up_nobody(listening):
    """More words than it can hold are dropped: it has one, and that says it all."""
    for _ in range(1_000):
        wakeup_sockets.wake_relays_after_commit()
    assert is_woken(listening)
    assert not is_woken(listening)


def test_the_last_relay_leaves_nothing_behind(folder):
    """Neither its socket nor the folder."""
    with closing(WakeupSocket()), closing(WakeupSocket()):
        assert len(list(folder.iterdir())) == 2
    assert not folder.exists()


def test_a_caller_that_manages_transactions_by_hand_is_left_alone(listening):
    """Django takes no act for after such a commit; the relay looks by itself."""
    transaction.set_autocommit(False)
    try:
        add.enqueue(1, 2)
        connection.commit()
    finally:
        transaction.set_autocommit(True)
    assert Outcome.objects.count() == 1
    assert not is_woken(listening)


def test_bells_in_vain_are_answered_ever_later(wakeup, monkeypatch):
    """Who enqueues into a queue that rests does not keep a relay running in circles."""
    monkeypatch.setattr(wakeups.time, "sleep", lambda seconds: None)
    spacings = []
    for _ in range(6):
        wakeup.before_look()
        wakeup_sockets.wake_relays_after_commit()
        wakeup.wait(lambda: False, found=0)
        spacings.append(wakeup._spacing)
    assert spacings == [VAIN, 2 * VAIN, 4 * VAIN, 8 * VAIN, SHORTEST, SHORTEST]
    wakeup.wait(lambda: False, found=1)
    assert wakeup._spacing == 0


def test_a_full_queue_is_looked_at_again_soon_whoever_rings(wakeup, monkeypatch):
    """What the broker has must last until then; the wait does not grow while rows are held back."""
    slept = []
    monkeypatch.setattr(wakeups.time, "sleep", slept.append)
    for _ in range(6):
        wakeup_sockets.wake_relays_after_commit()
        wakeup.wait(lambda: False, found=0, is_held_back=True)
    assert max(slept) == slept[-1] == FULL


@pytest.fixture
def relay(folder, settings):
    """A relay that has just looked at everything, and whose broker is a file."""
    settings.TASKS_APP = {**settings.TASKS_APP, "RELAY_INTERVAL": 60}
    relay = Relay(embedded_app)
    relay._look()
    yield relay
    relay.publisher.close()


def turn(relay, wakeup):
    """Let a relay take a turn, and return the statements that it sent."""
    with CaptureQueriesContext(connection) as captured:
        relay._turn(wakeup)
    return [query["sql"].split(maxsplit=1)[0] for query in captured.captured_queries]


def test_a_lone_call_is_rung_for_by_its_name(relay, wakeup):
    """No look at everything stands between its commit and its message."""
    outcome = add.enqueue(1, 2)
    sent = turn(relay, wakeup)
    is_returned = connection.vendor != "mysql"
    assert sent == (["UPDATE"] if is_returned else ["BEGIN", "UPDATE", "SELECT", "COMMIT"])
    outcome.refresh()
    assert outcome.announced == 1
    assert outcome.announce_at > outcome.created_at + timedelta(seconds=20)


def test_what_a_transaction_enqueues_is_looked_at_together(relay, wakeup):
    """The highest priority comes first, whichever was enqueued first."""
    with transaction.atomic():
        for priority in (1, 9, 5):
            add.using(priority=priority).enqueue(priority, 0)
    assert wakeup.before_look() == []
    with transaction.atomic():
        alone = add.enqueue(1, 2)
    assert wakeup.before_look() == [alone.pk]
    several = [add.using(priority=priority).enqueue(priority, 1).pk for priority in (1, 9, 5)]
    assert wakeup.before_look() == several
    assert [row.priority for row in outbox.take_named(several)] == [9, 5, 1]


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.cancel(),
        lambda row: queues.pause(row.queue),
        lambda row: outcomes.claim(row.pk, frozenset({add.name}), "a worker"),
        lambda row: Outcome.objects.filter(pk=row.pk).update(announced=1),
        lambda row: Outcome.objects.filter(pk=row.pk).update(
            announce_at=DatabaseNow() + timedelta(hours=1)
        ),
        lambda row: Outcome.objects.filter(pk=row.pk).update(expires_at=DatabaseNow()),
        lambda row: row.delete(),
    ],
    ids=["cancelled", "paused", "claimed", "announced", "not due", "expired", "gone"],
)
def test_a_name_rings_for_what_is_due_alone(change, relay):
    """Whoever may write to the socket can name any row, at any time."""
    outcome = add.enqueue(1, 2)
    change(Outcome.objects.get(pk=outcome.pk))
    before = list(Outcome.objects.values())
    assert relay._look_at([outcome.pk]).found == 0
    assert list(Outcome.objects.values()) == before


def test_a_broker_that_is_away_leaves_it_due(relay, monkeypatch):
    """What was named and could not be rung for is found by the next look."""
    outcome = add.enqueue(1, 2)

    def refuse(rows):
        raise BrokerDown("away")

    monkeypatch.setattr(relay.publisher, "ring", refuse)
    assert relay._look_at([outcome.pk]).unanswered == 1
    outcome.refresh()
    assert outcome.announced == 0
    assert not relay._may_look_at([outcome.pk])
    assert outbox.take_due(10, [add.name]).rows == [outcome]


@pytest.mark.parametrize(
    "make",
    [
        lambda relay: setattr(relay, "_looked_at", 0.0),
        lambda relay: setattr(relay, "_has_room", False),
        lambda relay: setattr(relay, "_named", conf.MAX_IN_FLIGHT // 2),
    ],
    ids=["the last look is old", "it left something behind", "many were named since"],
)
def test_names_do_not_keep_a_relay_from_looking(make, relay, wakeup):
    """Somebody who rings all the time hides no row that nobody names."""
    make(relay)
    hidden = add.enqueue(1, 2)
    wakeup.before_look()
    named = add.enqueue(3, 4)
    turn(relay, wakeup)
    for outcome in (hidden, named):
        outcome.refresh()
        assert outcome.announced == 1


@pytest.mark.parametrize("words", [[b"!"], [b"short"], [b"x" * 40, b"!"], [bytes(16)] * 4])
def test_what_names_no_few_rows_asks_for_a_look(words, wakeup):
    """Words of other lengths, and too many of them."""
    for word in words:
        wakeup_sockets._waker.wake(wakeup_sockets.folder(), word)
    assert wakeup.before_look() == []
