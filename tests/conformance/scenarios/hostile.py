"""What an attacker who can write to the run's broker can do, and a worker for it to be done to.

The worker has a queue of its own, so that what is sent there meets no other scenario. What it
says in its log is the evidence: it has to say one line for each message that it refuses.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import amqp
import pytest

from tasks_app.celery import broker_folder
from tests.installation import PATIENCE, Installation
from tests.processes import Process
from tests.project import app
from tests.servers.session import chosen_broker, chosen_database, session
from tests.testapp import tasks
from tests.waiting import wait_until

#: Stands in every part of a message that nobody but its helper may read.
CANARY = "4111-1111-1111-1111"

#: Messages meet the broker's transport and the pool; one database for each of these is enough.
BESIDE_THE_DATABASE = pytest.mark.skipif(
    chosen_database() != "sqlite" and os.environ.get("TASKS_TEST_POOL", "prefork") == "prefork",
    reason="the database has no part in it",
)

#: What the worker's log says of each message that it refuses.
DROPPED = "dropped a message"


@dataclass
class Target:
    """A worker that hostile messages are tried on."""

    queue: str
    process: Process
    pool: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.pool = self.children()

    def children(self) -> frozenset[str]:
        """Return the ids of the processes of its pool."""
        pid = self.process.pid
        return frozenset(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def lines(self) -> int:
        """Return how many messages the worker says to have dropped."""
        return self.process.output.count(DROPPED)

    def last_line(self) -> str:
        """Return what it says of the message that it has dropped last."""
        return [line for line in self.process.output.splitlines() if DROPPED in line][-1]

    def awaits_line(self, before: int) -> None:
        """Wait until it has said so once more, or has ended."""
        wait_until(
            lambda: self.lines() > before or not self.process.running,
            PATIENCE,
            lambda: f"one more line of {DROPPED!r}\n{self.process.tail()}",
        )

    def is_itself(self) -> None:
        """Assert that the very process that was started lives, and has never reconnected."""
        said = self.process.output
        assert self.process.running, self.process.tail()
        assert said.count(" ready.") == 1, "it has started again"
        assert said.count("Connected to") == 1, "it has reconnected"
        assert "CRITICAL" not in said
        assert CANARY not in said
        assert self.pool <= self.children(), "a process of its pool has ended"

    def works(self) -> None:
        """Assert that it does its work after what its queue has brought."""
        outcome = tasks.add.using(queue=self.queue).enqueue(1, 2)
        assert outcome.get(timeout=PATIENCE) == 3
        self.is_itself()

    def send(self, **parts: Any) -> str:
        """Send a message with some parts other than an honest one's; return its id."""
        honest = message()
        headers = {**honest["headers"], **parts.pop("headers", {})}
        headers = {name: value for name, value in headers.items() if value is not ABSENT}
        body = parts.pop("body", honest["body"])
        # Bytes, which no client library encodes and therefore none checks.
        body = body.encode() if isinstance(body, str) else body
        told = {**honest, **parts, "headers": headers, "body": body, "serializer": None}
        # A connection of its own: the pool's may date from before a restart of the broker.
        with app.connection_for_write() as connection, connection.Producer() as producer:
            producer.publish(**told, routing_key=self.queue, exchange="")
        return str(headers.get("id"))

    def send_raw(self, *raws: bytes) -> None:
        """Put bytes where the broker keeps messages, or into a message where it has a format."""
        match chosen_broker():
            case "redis":
                with session.server("redis").client() as client:
                    client.lpush(self.queue, *raws)
            case "rabbitmq":
                with session.server("rabbitmq").connect() as connection:
                    channel = connection.channel()
                    for raw in raws:
                        channel.basic_publish(amqp.Message(raw), routing_key=self.queue)
            case _:
                folder = broker_folder() / "queues" / f"{self.queue}.queue"
                for raw in raws:
                    temporary = folder / f"{uuid4().hex}.part"
                    temporary.write_bytes(raw)
                    temporary.rename(temporary.with_suffix(".msg"))


@pytest.fixture(scope="module")
def target(installation: Installation) -> Iterator[Target]:
    """The worker that a module's messages are tried on; in the end it lives and works."""
    queue = f"hostile-{uuid4().hex}"
    with installation.start_worker(queue, queues=[queue]) as process:
        target = Target(queue, process)
        yield target
        target.works()


#: Takes a header away.
ABSENT = object()


def message() -> dict[str, Any]:
    """Return an honest message of another service, whose arguments hold the canary."""
    return {
        "body": json.dumps([[CANARY], {}, {}]),
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": {
            "task": tasks.record.name,
            "id": str(uuid4()),
            "lang": "py",
            "argsrepr": CANARY,
        },
    }


def envelope(queue: str, **parts: Any) -> dict[str, Any]:
    """Return the same as kombu's virtual transports keep it."""
    honest = message()
    return {
        "body": base64.b64encode(honest["body"].encode()).decode(),
        "content-type": honest["content_type"],
        "content-encoding": honest["content_encoding"],
        "headers": honest["headers"],
        "properties": {
            "delivery_tag": str(uuid4()),
            "delivery_info": {"exchange": "", "routing_key": queue},
            "body_encoding": "base64",
            "priority": 0,
        },
        **parts,
    }
