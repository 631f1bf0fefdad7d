"""The relay's publisher: the broker's word counts, and silence is no word."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
from celery import Celery, signals
from kombu import Queue

from tasks_app import broker
from tasks_app.broker import BrokerDown, Doorbells, Publisher
from tasks_app.models import Outcome
from tests.servers import Mode, Proxy
from tests.testapp.tasks import add, charge

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds after which a publisher that is still waiting waits for ever.
PATIENCE = 60

URLS = {"redis_server": "redis://127.0.0.1:{}/0", "rabbitmq": "amqp://guest:guest@127.0.0.1:{}//"}


@pytest.fixture(params=URLS)
def proxy(request):
    """A proxy in front of a real broker, and an app that knows only the proxy."""
    server = request.getfixturevalue(request.param)
    with Proxy(server.port) as proxy:
        url = URLS[request.param].format(proxy.port)
        proxy.app = Celery("behind", broker=url, set_as_current=False)
        yield proxy


@pytest.mark.parametrize("mode", [Mode.BLACKHOLE, Mode.DROP_REPLY, Mode.CUT], ids=str)
def test_a_broker_that_says_nothing_is_down_in_bounded_time(mode, proxy):
    """A link that dies after it was opened ends in an error, on RabbitMQ for want of a confirm."""
    outcome = add.enqueue(1, 2)
    with Publisher(proxy.app) as publisher, ThreadPoolExecutor(1) as thread:
        assert publisher.ring([outcome]) == 1
        proxy.set(mode)
        ringing = thread.submit(publisher.ring, [outcome])
        with pytest.raises(BrokerDown):
            ringing.result(PATIENCE)
        proxy.set(Mode.PASS)
        assert publisher.ring([outcome]) == 1


@pytest.fixture
def rabbit(rabbitmq):
    """An app on RabbitMQ with a queue of its own that refuses a third message."""
    app = Celery("confirming", broker=rabbitmq.url, set_as_current=False)
    full = {"x-max-length": 2, "x-overflow": "reject-publish"}
    app.conf.task_queues = [Queue("narrow", queue_arguments=full), Queue("confirmed")]
    with Publisher(app) as publisher:
        publisher.messages(["narrow", "confirmed"])
        yield publisher
        for name in ("narrow", "confirmed"):
            publisher.messages([name])
            publisher._producer.channel.queue_delete(name)


def enqueued(count, queue):
    """Return so many new outcomes of a queue."""
    ids = add.using(queue=queue).enqueue_many([(number, 1) for number in range(count)])
    return list(Outcome.objects.filter(pk__in=ids))


@pytest.fixture
def unobserved(monkeypatch):
    """Let nobody stand around publishing, whatever an earlier test has set up for good."""
    monkeypatch.setattr(broker, "surroundings", [])


@pytest.fixture
def publisher(unobserved):
    """A publisher that sends nothing, of an app of its own."""
    return Publisher(Celery("silent", broker="memory://", set_as_current=False))


def listen(**kwargs):
    """Stand for a receiver of a project's own."""


def note_publishing(publisher, monkeypatch):
    monkeypatch.setattr(broker, "surroundings", [lambda outcome: nullcontext()])


def receive_before(publisher, monkeypatch):
    signals.before_task_publish.connect(listen)


def receive_after(publisher, monkeypatch):
    signals.after_task_publish.connect(listen)


def send_events(publisher, monkeypatch):
    publisher.app.conf.task_send_sent_event = True


@pytest.mark.parametrize("observe", [note_publishing, receive_before, receive_after, send_events])
def test_who_wants_to_hear_of_each_message_gets_one_for_each(observe, publisher, monkeypatch):
    """Tracers, receivers of Celery's signals, and monitors see every call leave."""
    outcomes = enqueued(40, "heard")
    assert [len(peal) for peal in publisher._peals(outcomes)] == [2] * 20
    try:
        observe(publisher, monkeypatch)
        assert publisher._peals(outcomes) == [[outcome] for outcome in outcomes]
    finally:
        signals.before_task_publish.disconnect(listen)
        signals.after_task_publish.disconnect(listen)


def test_each_message_of_a_batch_has_rabbitmqs_word(rabbit, unobserved):
    """They are sent one after the other, and none is unanswered when the batch is rung for."""
    assert rabbit.ring(enqueued(300, "confirmed")) == 300
    # A relay's first messages ring for two outcomes each.
    assert rabbit._confirms._published == 150
    assert rabbit._confirms._open == set()
    assert rabbit.messages(["confirmed"]) == {"confirmed": 150}


def test_a_refused_message_is_a_broker_that_is_down(rabbit):
    """A queue that takes no more says no to some of a batch: the batch did not arrive."""
    assert rabbit.ring(enqueued(2, "narrow")) == 2
    with pytest.raises(BrokerDown, match="refused"):
        rabbit.ring(enqueued(3, "narrow"))
    assert rabbit.messages(["narrow"]) == {"narrow": 2}


def test_a_message_without_a_queue_is_a_broker_that_is_down(rabbit):
    """A queue that somebody deleted is made anew, and what was sent meanwhile is sent again."""
    outcomes = enqueued(3, "confirmed")
    assert rabbit.ring(outcomes) == 3
    rabbit._producer.channel.queue_delete("confirmed")
    with pytest.raises(BrokerDown, match="NO_ROUTE"):
        rabbit.ring(outcomes)
    assert rabbit.ring(outcomes) == 3
    assert rabbit.messages(["confirmed"]) == {"confirmed": 3}


@pytest.mark.parametrize("sends_events", [True, False])
def test_a_message_is_what_celery_would_have_made(sends_events):
    """Messages of a batch share what they have in common, and it does not show."""
    app = Celery("maker", set_as_current=False)
    app.conf.task_send_sent_event = sends_events
    outcomes = [
        add.enqueue(1, 2),
        charge.enqueue(7, card_token="4111", mood="fine"),
        add.enqueue(3, b=4),
    ]
    outcomes[2].parent_id, outcomes[2].attempt = outcomes[0].id, 2
    doorbells = Doorbells(app)
    shown = [
        ("(1, 2)", "{}"),
        ("(7,)", "{'card_token': '***', 'mood': 'fine'}"),
        ("(3,)", "{'b': 4}"),
    ]
    for outcome, (args, kwargs) in zip(outcomes, shown, strict=True):
        outcome.refresh_from_db(fields=["fence"])
        theirs = app.amqp.as_task_v2(
            str(outcome.id),
            outcome.task_name,
            root_id=str(outcome.root_id),
            parent_id=outcome.parent_id and str(outcome.parent_id),
            retries=outcome.attempt,
            ignore_result=True,
            argsrepr=args,
            kwargsrepr=kwargs,
            create_sent_event=sends_events,
        )
        theirs.headers["tasks_app_doorbell"] = outcome.fence
        ours = doorbells.message(outcome)
        assert ours == theirs
        assert list(ours.headers) == list(theirs.headers)
        ours.body[2]["chain"] = ours.headers["stamps"]["of"] = "a receiver of a signal"
