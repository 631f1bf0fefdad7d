"""The broker is a doorbell: lost, doubled and forged messages cost time, never correctness."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import uuid4

import amqp
import pytest

from tests.installation import PATIENCE, Installation
from tests.processes import Process
from tests.project import app
from tests.servers import RabbitMQ, Redis
from tests.servers.session import chosen_broker, session
from tests.testapp import tasks
from tests.waiting import wait_until


@pytest.fixture
def broker():
    """The run's broker, where it is a server of its own."""
    if chosen_broker() == "embedded":
        pytest.skip("the embedded broker is no server")
    return session.server(chosen_broker())


def test_doubled_messages_run_the_task_once(key, effects, settled, installation):
    """However often the bell rings for one row, it runs once."""
    outcome = tasks.record.using(queue=key).enqueue(key)
    for _ in range(5):
        app.send_task(tasks.record.name, task_id=str(outcome.pk), queue=key)
    with installation.start_worker(f"doubled-{key}", queues=[key]):
        assert settled(outcome).state == "succeeded"
        witness = tasks.record.using(queue=key).enqueue(key, "witness")
        assert settled(witness).state == "succeeded"
    assert effects() == ["", "witness"]
    assert outcome.attempt == 1


@pytest.mark.usefixtures("worker")
def test_a_message_with_an_unknown_name_leaves_the_worker_alive():
    """A task that nobody knows does no harm to the others."""
    app.send_task("no.such.task", task_id=str(uuid4()))
    assert tasks.add.enqueue(1, 2).get(timeout=PATIENCE) == 3


@pytest.mark.usefixtures("worker")
def test_a_message_with_another_name_than_its_row_runs_nothing(key, effects, settled):
    """The row decides what runs: a swapped name is dropped."""
    outcome = tasks.record.using(run_after=2).enqueue(key, "real")
    app.send_task(tasks.discard.name, args=(key,), task_id=str(outcome.pk))
    assert settled(outcome).state == "succeeded"
    assert effects() == ["real"]


@dataclass
class Poisoned:
    """A worker with a queue of its own, so that a message that ends it ends no other scenario."""

    installation: Installation
    queue: str
    process: Process

    def still_works(self) -> bool:
        """Return whether the worker does its work after what its queue has brought."""
        outcome = tasks.add.using(queue=self.queue).enqueue(1, 2)
        return outcome.get(timeout=PATIENCE) == 3 and self.process.running

    def is_unharmed(self) -> bool:
        """Return whether it can be expected to work after one more message."""
        try:
            return self.process.running and self.still_works()
        except TimeoutError:
            return False


@pytest.fixture(scope="module")
def poisoned_workers(installation):
    """The worker that poison is tried on; a fresh one after each that it has harmed."""
    with ExitStack() as stack:

        def start():
            queue = f"poison-{uuid4().hex}"
            process = installation.start_worker(queue, queues=[queue])
            return Poisoned(installation, queue, stack.enter_context(process))

        current = [start()]

        def unharmed():
            if not current[-1].is_unharmed():
                current.append(start())
            return current[-1]

        yield unharmed


@pytest.fixture
def poisoned(poisoned_workers):
    """A worker that no message and no scenario before has harmed."""
    return poisoned_workers()


RAW = [b"", b"null", b"[1]", b"not json", b'{"body": 1}', b'{"headers": "x"}', b"\xff\xfe"]


@pytest.mark.parametrize("raw", RAW, ids=repr)
def test_what_is_no_message_leaves_the_worker_alive(raw, broker, poisoned):
    """Bytes that no client library would send are dropped, and the worker goes on."""
    match broker:
        case Redis():
            with broker.client() as client:
                client.lpush(poisoned.queue, raw)
        case RabbitMQ():
            with broker.connect() as connection:
                connection.channel().basic_publish(amqp.Message(raw), routing_key=poisoned.queue)
    assert poisoned.still_works()


#: Messages that a client library sends without complaint and that no worker expects.
FORGED = {
    "a deep body": {"body": "[" * 600 + "]" * 600},
    "a very deep body": {"body": "[" * 50_000 + "]" * 50_000},
    "a large body": {"body": json.dumps([["x" * 5_000_000], {}, {}])},
    "a mapping as body": {"body": '{"a": 1}'},
    "an empty body": {"body": ""},
    "a long number": {"body": "9" * 10_000},
    "a body of another type": {"content_type": "application/x-python-serialize"},
    "an unknown encoding": {"content_encoding": "no-such-encoding"},
    "a tagged value": {"body": json.dumps([[{"__type__": "x", "__value__": 1}], {}, {}])},
    "no headers": {"headers": {}},
    "no id": {"headers": {"task": tasks.add.name}},
    "a mapping as id": {"headers": {"task": tasks.add.name, "id": {"x": 1}}},
    "an id that is none": {"headers": {"task": tasks.add.name, "id": "../../etc/passwd"}},
    "a text as limit": {"headers": {"task": tasks.add.name, "id": "1", "timelimit": ["a", "b"]}},
    "an eta that is none": {"headers": {"task": tasks.add.name, "id": "1", "eta": "tomorrow"}},
    "an expiry that is none": {"headers": {"task": tasks.add.name, "id": "1", "expires": "x"}},
}


@pytest.mark.parametrize("forgery", FORGED)
def test_a_forged_message_leaves_the_worker_alive(forgery, poisoned):
    """Whoever can write to the broker cannot stop its workers with one message."""
    parts = {
        "body": json.dumps([[1, 2], {}, {}]),
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": {"task": tasks.add.name, "id": str(uuid4()), "lang": "py"},
        **FORGED[forgery],
    }
    # As bytes, which the client library does not encode and therefore does not check.
    parts["body"] = parts["body"].encode()
    # A connection of its own: the pool's may date from before a restart of the broker.
    with app.connection_for_write() as connection, connection.Producer() as producer:
        producer.publish(**parts, routing_key=poisoned.queue, exchange="", serializer=None)
    assert poisoned.still_works()


def test_a_broker_that_lost_everything_is_told_again(key, effects, settled, broker, installation):
    """A row whose message is gone is announced again, long before it would come due."""
    with installation.start_worker(f"before-{key}", queues=[f"other-{key}"]):
        outcome = tasks.record.using(queue=key).enqueue(key)
        wait_until(lambda: announced(outcome), PATIENCE, "the first announcement")
    broker.restart(lose_data=True)
    with installation.start_worker(f"after-{key}", queues=[key]):
        assert settled(outcome).state == "succeeded"
    assert effects() == [""]


def test_a_worker_survives_the_restart_of_its_broker(key, effects, worker, broker, settled):
    """A worker whose broker comes back empty goes on by itself."""
    broker.restart(lose_data=True)
    outcome = settled(tasks.record.enqueue(key))
    assert outcome.state == "succeeded"
    assert effects() == [""]


def test_enqueueing_does_not_wait_for_a_broker_that_is_down(key, settled, worker, broker):
    """The broker's state is no business of the caller; the work is done when it is back."""
    broker.pause()
    try:
        outcome = tasks.record.enqueue(key)
        assert outcome.created
    finally:
        broker.resume()
    assert settled(outcome).state == "succeeded"


def announced(outcome):
    """Return how often an outcome was announced."""
    outcome.refresh()
    return outcome.announced
