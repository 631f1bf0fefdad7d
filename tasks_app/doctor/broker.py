"""
Probes of the broker and of the workers behind it.

The round trip uses a queue of its own that goes away with the connection. That no worker answers
is information only: a busy one, or one without remote control, may be alive all the same.
"""

import time
from typing import Any
from uuid import uuid4

from tasks_app.broker import SILENCE, bounded_connection
from tasks_app.celery import app
from tasks_app.doctor.findings import Verdict, fail, ok, several, warn
from tasks_app.options import declared

#: Seconds that workers have to answer.
LISTEN = 1.5

EXCHANGE = "amq.direct"

#: Seconds between two looks at a queue.
GLANCE = 0.02


def round_trip() -> Verdict:
    """Publish a message to a temporary queue and get it back."""
    name = f"tasks_app.doctor.{uuid4().hex}"
    with bounded_connection(app) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=SILENCE)
        where = connection.as_uri()
        channel: Any = connection.channel()
        # An exchange that every broker has: one of our own might stay behind, and kombu deletes no
        # queue that is not bound.
        channel.exchange_declare(exchange=EXCHANGE, type="direct", durable=True, auto_delete=False)
        channel.queue_declare(queue=name, durable=False, exclusive=True, auto_delete=True)
        channel.queue_bind(queue=name, exchange=EXCHANGE, routing_key=name)
        try:
            started = time.monotonic()
            producer = connection.Producer(channel)
            producer.publish(name, exchange=EXCHANGE, routing_key=name, retry=False)
            came_back = _is_given_back(channel, name)
            took = time.monotonic() - started
        finally:
            channel.queue_delete(queue=name)
    if not came_back:
        return fail(f"{where} took a message and did not give it back within {SILENCE} s")
    return ok(f"{where} gave a message back in {took * 1000:.0f} ms")


def policy() -> Verdict:
    """Look at what the broker does with messages that it has no room or no word for."""
    with bounded_connection(app) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=SILENCE)
        look = _POLICIES.get(connection.transport.driver_type)
        return look(connection) if look else ok("nothing to look at")


def workers() -> Verdict:
    """Ask workers which tasks they know."""
    known: dict[str, list[str]] = app.control.inspect(timeout=LISTEN).registered() or {}
    if not known:
        return warn(
            f"no worker answered within {LISTEN:g} s",
            "If none should be running, all is well; else `manage.py tasks worker`.",
        )
    names = {name: {task.split(" ")[0] for task in tasks} for name, tasks in known.items()}
    lacking = [
        f"{task} ({worker})"
        for worker in sorted(names)
        for task in sorted(declared)
        if task not in names[worker]
    ]
    text = f"{len(names)} answered: {several(sorted(names))}"
    if lacking:
        return warn(
            f"{text}; tasks declared here that a worker does not know: {several(lacking)}",
            "Deploy the same code to that worker, or let it consume other queues.",
        )
    return ok(text)


def _is_given_back(channel: Any, name: str) -> bool:
    deadline = time.monotonic() + SILENCE
    while time.monotonic() < deadline:
        message = channel.basic_get(queue=name, no_ack=True)
        if message is not None:
            return name in str(message.body)
        time.sleep(GLANCE)
    return False


def _redis_policy(connection: Any) -> Verdict:
    # INFO, since hosted servers refuse CONFIG.
    found = connection.default_channel.client.info("memory")["maxmemory_policy"]
    if found == "noeviction":
        return ok(f"maxmemory-policy {found}")
    return fail(
        f"maxmemory-policy {found}: Redis drops messages when its memory is full",
        "Set `maxmemory-policy noeviction`.",
    )


def _rabbitmq_confirms(connection: Any) -> Verdict:
    server = connection.connection.server_properties.get("capabilities", {})
    if not server.get("publisher_confirms"):
        return fail("the server offers no publisher confirms", "Use a current RabbitMQ.")
    if not connection.transport_options.get("confirm_publish"):
        return fail(
            "publisher confirms are switched off",
            "Remove 'confirm_publish' from CELERY_BROKER_TRANSPORT_OPTIONS.",
        )
    return ok("publisher confirms are on")


def _quarantine(connection: Any) -> Verdict:
    folder = connection.transport.folder / "quarantine"
    count = sum(1 for _ in folder.glob("*")) if folder.is_dir() else 0
    if count:
        return warn(
            f"{count} unreadable messages in {folder}",
            "Nothing is lost, their outcomes were announced again. Look at them, then delete them.",
        )
    return ok("no unreadable message")


_POLICIES = {"redis": _redis_policy, "amqp": _rabbitmq_confirms, "filesystem": _quarantine}
