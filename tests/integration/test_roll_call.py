"""Roll call: a row whose message the broker has lost is announced again within seconds."""

from __future__ import annotations

import pytest
from celery import Celery

from tasks_app import broker
from tasks_app.models import Outcome
from tasks_app.relay import Relay
from tasks_app.roll_call import RollCall
from tests.project import app as embedded_app
from tests.testapp.tasks import add

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=["embedded", "redis_server", "rabbitmq"])
def app(request):
    """An app for each broker, with an empty queue of its own."""
    if request.param == "embedded":
        yield embedded_app
    else:
        server = request.getfixturevalue(request.param)
        yield Celery("roll", broker=server.url, set_as_current=False)


@pytest.fixture
def relay(app):
    """A relay that calls the roll at every look."""
    relay = Relay(app)
    relay.roll_call = RollCall(interval=0)
    relay.publisher.messages(["celery"])
    relay.publisher._producer.channel.queue_purge("celery")
    yield relay
    relay.publisher.close()


def look(relay):
    """Let a relay look once, and return how many rows it rang for."""
    return relay._look().announced


def lose_messages(relay):
    """Take every message from the queue, as a broker does that restarts empty."""
    relay.publisher._producer.channel.queue_purge("celery")


def test_a_message_that_waits_for_a_worker_is_not_doubled(relay):
    """However often the roll is called: a bell that is still there is not rung again."""
    outcome = add.enqueue(1, 2)
    assert [look(relay) for _ in range(4)] == [1, 0, 0, 0]
    outcome.refresh()
    assert outcome.announced == 1


def test_what_the_broker_lost_is_rung_for_again(relay):
    """One look sees the row wait, the next one sees that its message is not there any more."""
    add.enqueue_many([(1, 2)] * 3)
    assert look(relay) == 3
    lose_messages(relay)
    assert [look(relay), look(relay)] == [0, 3]
    assert set(Outcome.objects.values_list("announced", flat=True)) == {2}


def test_rows_that_share_messages_are_not_taken_for_lost(relay, monkeypatch):
    """There are fewer messages than rows, until there are none."""
    # An earlier test may have set up a tracer, for good: then no message is shared.
    monkeypatch.setattr(broker, "surroundings", [])
    add.enqueue_many([(1, 2)] * 80)
    assert look(relay) == 80
    assert relay.publisher.messages(["celery"]) == {"celery": 40}
    assert [look(relay) for _ in range(3)] == [0, 0, 0]
    lose_messages(relay)
    assert look(relay) == 80


def test_after_an_absence_of_the_broker_one_look_is_enough(relay):
    """A broker that was away is believed to be empty until it is asked."""
    add.enqueue(1, 2)
    assert look(relay) == 1
    lose_messages(relay)
    relay.roll_call.distrust()
    assert look(relay) == 1


def test_a_broker_that_was_away_and_kept_its_messages_gets_no_doubles(relay):
    """Durable queues come back with what they had."""
    add.enqueue(1, 2)
    assert look(relay) == 1
    relay.roll_call.distrust()
    assert [look(relay), look(relay)] == [0, 0]


def test_a_task_that_nobody_here_knows_keeps_its_longer_waits(relay):
    """Workers drop such a message at once: ringing every few seconds would only fill their logs."""
    add.enqueue(1, 2)
    Outcome.objects.update(task_name="of.another.deploy")
    assert look(relay) == 1
    lose_messages(relay)
    relay.roll_call.distrust()
    assert [look(relay), look(relay)] == [0, 0]


def test_between_two_roll_calls_nobody_is_asked(relay):
    """The roll is called every few seconds, not at every look."""
    relay.roll_call = RollCall(interval=3600)
    add.enqueue(1, 2)
    assert [look(relay), look(relay)] == [1, 0]
    lose_messages(relay)
    assert [look(relay), look(relay)] == [0, 0]
