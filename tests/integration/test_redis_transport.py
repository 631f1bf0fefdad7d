"""What a worker on Redis remembers of the messages that it has not acknowledged yet."""

from __future__ import annotations

from uuid import uuid4

import pytest
from kombu import Connection, Producer, Queue

from tasks_app.broker import DOORBELL

#: Where kombu keeps what nobody has acknowledged.
UNACKED = "unacked"

#: Headers of a message that a row stands for, and of one that is all there is.
BELL, PLAIN = {DOORBELL: 1}, {"id": "from elsewhere"}


@pytest.fixture
def queue(redis_server):
    """A queue of its own, on a channel that ends with the test."""
    name = uuid4().hex
    with Connection(redis_server.url) as connection:
        queue = Queue(name, routing_key=name)(connection.channel())
        queue.declare()
        yield queue


def receive(queue, headers):
    """Publish a message and take it from the queue, without acknowledging it."""
    Producer(queue.channel).publish({}, routing_key=queue.name, headers=headers)
    message = queue.get()
    assert message.headers == headers
    return message


def is_noted(queue, message):
    """Tell whether Redis knows that somebody has this message."""
    with queue.channel.conn_or_acquire() as client:
        return client.hexists(UNACKED, message.delivery_tag)


def test_a_doorbell_is_not_noted_in_redis(queue):
    """Its row says all that the note would; other messages have nothing but that."""
    assert not is_noted(queue, receive(queue, BELL))
    assert is_noted(queue, receive(queue, PLAIN))


@pytest.mark.parametrize("headers", [BELL, PLAIN])
@pytest.mark.parametrize("end", ["ack", "reject"])
def test_what_was_answered_is_gone(queue, headers, end):
    """An acknowledged or refused message is in no queue and in no note, also after the end."""
    message = receive(queue, headers)
    getattr(message, end)()
    assert not is_noted(queue, message)
    queue.channel.qos.restore_unacked_once()
    assert queue.get(no_ack=True) is None


@pytest.mark.parametrize("headers", [BELL, PLAIN])
def test_what_was_not_answered_goes_back_to_its_queue(queue, headers):
    """A worker that stops leaves what it has not begun to the others, once."""
    tag = receive(queue, headers).delivery_tag
    queue.channel.qos.restore_unacked_once()
    back = queue.get(no_ack=True)
    assert (back.delivery_tag, back.headers["redelivered"]) == (tag, True)
    assert queue.get(no_ack=True) is None


@pytest.mark.parametrize("headers", [BELL, PLAIN])
def test_what_was_put_back_is_in_its_queue_once(queue, headers):
    """A message that is requeued waits again, and is no longer with whoever put it back."""
    message = receive(queue, headers)
    message.requeue()
    assert not is_noted(queue, message)
    queue.channel.qos.restore_unacked_once()
    assert queue.get(no_ack=True).delivery_tag == message.delivery_tag
    assert queue.get(no_ack=True) is None
