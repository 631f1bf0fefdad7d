"""Faults of the broker and of the way to it: absent, silent, empty again, half-open."""

from __future__ import annotations

import time
from contextlib import contextmanager

import pytest

from tests import trail
from tests.faults.cases.calls.conftest import BROKER_RECOVERY, messages, wait_for_messages
from tests.installation import PATIENCE, in_state
from tests.servers import Mode, Proxy, RabbitMQ, Redis
from tests.servers.server import free_port
from tests.servers.session import broker_url
from tests.testapp import tasks
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("alone")

#: Seconds within which a relay has to notice that its broker says nothing.
NOTICE = 10

#: Seconds that a link is half-open: more than every timeout on it.
HALF_OPEN = 21

#: Seconds that a broker is frozen: more than the longest silence, and an attempt after it.
FROZEN = 8

LOST = "The relay lost its broker"


def announced(outcome):
    """Return how often an outcome was announced."""
    outcome.refresh()
    return outcome.announced


def last(seconds):
    """Let a fault last: its length is part of the fault."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= end, seconds + PATIENCE, "the end of the fault")


@contextmanager
def backlog(case, *notes):
    """
    Keep a worker's hands full, with rows behind that whose messages wait at the broker.

    Yields the rows; `free` lets the worker go on.
    """
    with case.worker(relay=True, concurrency=1):
        blocker = tasks.record_late.using(queue=case.key).enqueue(f"{case.key}-blocker")
        in_state(blocker, "running")
        rows = [case.enqueue(note) for note in notes]
        wait_until(lambda: all(map(announced, rows)), PATIENCE, "every announcement")
        # The worker holds a few messages that it cannot answer yet.
        wait_for_messages(case.key, len(rows) - 2)
        yield rows
        case.succeeds(blocker)


def free(case):
    """Let the worker of a backlog go on."""
    trail.open_gate(f"{case.key}-blocker")


def test_f12_an_absent_broker_is_no_business_of_the_caller(case, broker):
    """Where nobody listens, enqueueing succeeds; the row runs once the broker is there."""
    port = free_port()
    late = {"TASKS_TEST_BROKER_URL": str(broker_url()).replace(str(broker.port), str(port), 1)}
    with case.worker(), case.relay(**late) as relay:
        caller = case.client(
            f"tasks.record.using(queue={case.key!r}).enqueue({case.key!r})", **late
        )
        assert caller.returncode == 0, caller.stderr
        relay.wait_for_output(LOST)
        with Proxy(broker.port, port), case.recovers_within(BROKER_RECOVERY):
            case.succeeds()
    assert case.effects == [""]


def test_f13_a_broker_that_never_answers_is_noticed_and_found_again(case, broker_link):
    """The caller does not wait for it, the relay only for seconds."""
    link = broker_link.environment
    with case.worker(), case.relay(**link) as relay:
        first = case.enqueue("first")
        case.succeeds(first)
        broker_link.proxy.set(Mode.BLACKHOLE)
        case.enqueue("second")
        began = time.monotonic()
        relay.wait_for_output(LOST)
        noticed = time.monotonic() - began
        case.report("noticed_seconds", round(noticed, 1))
        assert noticed <= NOTICE
        lines = f"tasks.record.using(queue={case.key!r}).enqueue({case.key!r}, 'third')"
        caller = case.client(lines, **link)
        assert caller.returncode == 0, caller.stderr
        broker_link.proxy.set(Mode.PASS)
        with case.recovers_within(BROKER_RECOVERY):
            case.succeeds()
    assert case.effects == ["first", "second", "third"]


def test_f14_a_broker_that_was_frozen_is_used_again(case, broker):
    """Worker and relay, both as installed, go on by themselves when it thaws."""
    with case.worker(relay=True):
        case.succeeds(case.enqueue("before"))
        broker.pause()
        try:
            frozen = case.enqueue("frozen")
            last(FROZEN)
        finally:
            broker.resume()
        with case.recovers_within(BROKER_RECOVERY):
            case.succeeds(frozen)
    assert case.effects == ["before", "frozen"]


def survive_an_empty_broker(case, broker):
    """Take everything from a broker by a kill, and see that all that is due runs soon."""
    with backlog(case, "lost 1", "lost 2", "lost 3") as rows:
        broker.kill()
        rows.append(case.enqueue("meanwhile"))
        free(case)
        broker.close()
        broker.start()
        with case.recovers_within(BROKER_RECOVERY):
            case.succeeds(*rows)
    assert case.effects == ["lost 1", "lost 2", "lost 3", "meanwhile"]


def test_f15_a_redis_that_was_killed_and_comes_back_empty_costs_seconds(case, broker):
    """Rows announced just before the kill too run soon after it is back."""
    if not isinstance(broker, Redis):
        pytest.skip("the broker is no Redis")
    survive_an_empty_broker(case, broker)


def test_f16_messages_that_redis_evicts_are_sent_again(case, broker):
    """Nobody is told that the messages are gone; the relay finds out."""
    if not isinstance(broker, Redis):
        pytest.skip("the broker is no Redis")
    with backlog(case, "flushed 1", "flushed 2", "flushed 3") as rows:
        with broker.client() as client:
            client.flushall()
        free(case)
        with case.recovers_within(BROKER_RECOVERY):
            case.succeeds(*rows)
    assert case.effects == ["flushed 1", "flushed 2", "flushed 3"]


def test_f17_a_rabbitmq_that_was_killed_and_comes_back_empty_costs_seconds(case, broker):
    """Queues and messages are gone; what was due runs soon after it is back."""
    if not isinstance(broker, RabbitMQ):
        pytest.skip("the broker is no RabbitMQ")
    survive_an_empty_broker(case, broker)


def test_f18_a_publish_whose_answer_is_lost_has_one_effect(case, broker_link):
    """The relay cannot know that the broker has the message: it sends another one."""
    stopping = {"TASKS_APP_CRASH": "relay.after_take:stop:nth=2"}
    with case.relay(**broker_link.environment, **stopping) as relay:
        case.enqueue("first")
        wait_for_messages(case.key, 1)
        case.enqueue("second")
        relay.wait_for_output("crash point relay.after_take: stop")
        broker_link.proxy.set(Mode.DROP_REPLY_CUT)
        relay.resume()
        relay.wait_for_output(LOST)
        assert messages(case.key) == 2
        broker_link.proxy.set(Mode.PASS)
        with case.recovers_within(BROKER_RECOVERY):
            wait_for_messages(case.key, 3)
        case.enqueue("witness")
        with case.worker():
            case.succeeds()
    assert case.effects == ["first", "second", "witness"]


def test_f19_a_message_that_is_lost_without_a_word_is_sent_again(case, broker, broker_link):
    """Without confirms a publish succeeds that reaches nobody; its row runs all the same."""
    if not isinstance(broker, RabbitMQ):
        pytest.skip("only RabbitMQ takes messages without an answer")
    without_confirms = {
        "DJANGO_SETTINGS_MODULE": "tests.faults.unconfirmed",
        "TASKS_APP_CRASH": "relay.after_take:stop:nth=2;relay.after_publish:stop:nth=2",
    }
    with case.worker(), case.relay(**broker_link.environment, **without_confirms) as relay:
        case.succeeds(case.enqueue("first"))
        lost = case.enqueue("lost")
        relay.wait_for_output("crash point relay.after_take: stop")
        broker_link.proxy.set(Mode.BLACKHOLE)
        relay.resume()
        relay.wait_for_output("crash point relay.after_publish: stop")
        broker_link.proxy.set(Mode.CUT)
        broker_link.proxy.set(Mode.PASS)
        with case.recovers_within(BROKER_RECOVERY):
            relay.resume()
            case.succeeds(lost)
    assert case.effects == ["first", "lost"]


def test_f20_a_half_open_link_is_used_again_when_it_heals(case, broker_link):
    """Neither the worker's consumer nor its relay waits for ever on a connection that is dead."""
    with case.worker(relay=True, environment=broker_link.environment):
        case.succeeds(case.enqueue("before"))
        broker_link.proxy.set(Mode.BLACKHOLE)
        meanwhile = case.enqueue("meanwhile")
        last(HALF_OPEN)
        broker_link.proxy.set(Mode.PASS)
        with case.recovers_within(BROKER_RECOVERY):
            case.succeeds(meanwhile)
            case.succeeds(case.enqueue("after"))
    assert case.effects == ["after", "before", "meanwhile"]
