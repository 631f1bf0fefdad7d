"""Honest messages with damage in random places: whatever comes of one, the worker goes on.

`TASKS_TEST_MUTATIONS` says how many are sent, `TASKS_TEST_SEED` which; a failure names the seed.
"""

from __future__ import annotations

import base64
import json
import os
import random
import time
from copy import deepcopy
from typing import Any
from uuid import uuid4

import pytest

from tests.conformance.scenarios.hostile import BESIDE_THE_DATABASE, Target, envelope
from tests.servers.session import chosen_broker
from tests.testapp import tasks
from tests.waiting import wait_until

pytestmark = BESIDE_THE_DATABASE

#: How many are sent to one worker; the brokers without an envelope of their own get as many.
COUNT = int(os.environ.get("TASKS_TEST_MUTATIONS", "500"))

SEED = int(os.environ.get("TASKS_TEST_SEED", "0")) or time.time_ns()

#: Seconds in which a worker works off one message, at worst.
EACH = 0.2

VALUES: list[Any] = [
    *(None, True, 0, -1, 2**70, 1.5, float("nan"), float("inf"), "", "x", "\0", "\ud800", "é\n"),
    *(
        [],
        {},
        [[]],
        [None],
        {"": None},
        {"__type__": "x", "__value__": 1},
        "9" * 5000,
        "x" * 10_000,
    ),
    *({"task": "celery.map"}, {"task": tasks.add.name}, [{"task": tasks.add.name}], str(uuid4())),
    *("2020-01-01T00:00:00", "9999-12-31T23:59:59", "zlib", "application/data", "celery.map"),
    json.loads("[" * 300 + "]" * 300),
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container in a value with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    found = [(value, key) for key in keys]
    inner = [value[key] for key in keys if isinstance(value[key], dict | list) and value[key]]
    return found + [place for part in inner for place in places(part)]


def damage(value: Any, dice: random.Random) -> None:
    """Drop, replace, nest or double something in a value."""
    found = places(value)
    if not found:
        return
    container, key = dice.choice(found)
    match dice.randrange(4):
        case 0:
            container.pop(key)
        case 1:
            container[key] = [container[key]]
        case 2 if isinstance(container, list):
            container.append(deepcopy(container[key]))
        case _:
            container[key] = deepcopy(dice.choice(VALUES))


def mutation(queue: str, dice: random.Random) -> bytes:
    """Return an honest envelope with one to three damages, or with a byte changed."""
    content = [[1, 2], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    whole = envelope(queue)
    whole["headers"].update(
        task=tasks.add.name, retries=0, timelimit=[None, None], eta=None, expires=None, group=None
    )
    for _ in range(dice.randint(1, 3)):
        damage(dice.choice([content, whole]), dice)
    if isinstance(whole.get("body"), str) and dice.random() < 0.8:
        whole["body"] = base64.b64encode(json.dumps(content).encode()).decode()
    raw = json.dumps(whole).encode()
    if dice.random() < 0.1:
        at = dice.randrange(len(raw))
        raw = raw[:at] + bytes([dice.randrange(256)]) + raw[at + 1 :]
    return raw


@pytest.mark.skipif(chosen_broker() == "rabbitmq", reason="AMQP has an envelope of its own")
def test_no_mutation_of_a_message_ends_or_stops_a_worker(installation):
    """After all of them the very same process does its work, and has said so of no contents."""
    queue = f"mutations-{uuid4().hex}"
    dice = random.Random(SEED)
    with installation.start_worker(queue, queues=[queue]) as process:
        target = Target(queue, process)
        target.send_raw(*(mutation(queue, dice) for _ in range(COUNT)))
        try:
            wait_until(
                lambda: not waiting(queue) or not process.running,
                30 + EACH * COUNT,
                lambda: f"the last of {COUNT} mutations; {waiting(queue)} wait",
            )
            target.works()
        except (AssertionError, TimeoutError) as error:
            error.add_note(f"TASKS_TEST_SEED={SEED}")
            raise
        assert target.lines() > COUNT / 4


def waiting(queue: str) -> int:
    """Return how many messages wait in a queue."""
    with tasks.add.app.connection_for_read() as connection:
        return connection.default_channel.queue_declare(queue).message_count
