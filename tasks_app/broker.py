"""
The client side of Celery: which app, which queue, and how a doorbell is rung.

A message carries the task's name and the outcome's id, never arguments; losing or doubling one
costs time only. Nothing here touches the database. Publishing is the relay's alone.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Self

from celery import Celery, current_app
from kombu import Connection
from kombu.exceptions import KombuError
from kombu.utils.json import dumps

from tasks_app import context
from tasks_app.arguments import decode
from tasks_app.crash_points import crash_point
from tasks_app.models import Outcome
from tasks_app.options import TaskOptions
from tasks_app.redaction import mask_arguments
from tasks_app.surroundings import surrounded

#: Header that marks a message as a doorbell: its outcome's row exists.
DOORBELL = "tasks_app_doorbell"

#: Option of a row, and header of a plain task's message: the slot that it serves, in ISO form.
SCHEDULED_FOR = "scheduled_for"

#: What stands around the publishing of each message; integrations add theirs.
surroundings: list[Callable[[Outcome], AbstractContextManager[None] | None]] = []

#: Longest masked text of arguments in a message, in characters.
SHOWN = 1024

#: Seconds that a broker may stay silent before the relay treats it as down.
SILENCE = 5

#: What any transport may raise; each has errors of its own besides.
NETWORK_ERRORS = (OSError, KombuError)

_BOUNDED: Mapping[str, dict[str, Any]] = {
    # Without read and write timeouts a lost confirm hangs for minutes, whatever confirm_timeout.
    "amqp": {"confirm_publish": True, "read_timeout": SILENCE, "write_timeout": SILENCE},
    "redis": {"socket_timeout": SILENCE, "socket_connect_timeout": SILENCE},
}


def task_queue(task_name: str, wanted: str | None) -> str:
    """Return the queue of a call: the wanted one, or what Celery's routes or default say."""
    if wanted:
        return wanted
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # it is a proxy
    if app.conf.task_routes:
        route = app.amqp.router.route({}, task_name)
        queue = route.get("queue")
        if queue is not None:
            return str(getattr(queue, "name", queue))
    return str(app.conf.task_default_queue)


def known_queues(tasks: Mapping[str, TaskOptions]) -> frozenset[str]:
    """Return the queues that Celery's settings and the tasks' declarations name."""
    set_up = current_app.conf.task_queues or ()
    named = {str(getattr(queue, "name", queue)) for queue in set_up}
    declared = {task_queue(name, options.queue) for name, options in tasks.items()}
    return frozenset({str(current_app.conf.task_default_queue), *named, *declared})


def bounded_connection(app: Celery) -> Connection:
    """Return a connection, not opened yet, on which no wait lasts much longer than `SILENCE`."""
    plain = app.connection_for_write()
    bounds = _BOUNDED.get(plain.transport.driver_type, {})
    options = {**bounds, **app.conf.broker_transport_options}
    return app.connection_for_write(transport_options=options)


class BrokerDown(Exception):
    """The broker did not take the message; the row stays due."""


class Publisher:
    """The relay's own broker connection, with every wait bounded."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self._connection: Connection | None = None
        self._producer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def ring(self, outcomes: Sequence[Outcome]) -> int:
        """
        Publish a doorbell for each outcome and wait for the broker's word that it has them.

        Returns:
            How many were rung for: all.

        Raises:
            BrokerDown: no connection, no answer in time, or a refusal; any number of them may
                have arrived.
        """
        with self._at_the_broker() as producer:
            for queue in {outcome.queue for outcome in outcomes}:
                producer.maybe_declare(self.app.amqp.queues[queue])
            with _batch(producer):
                for outcome in outcomes:
                    self._send(producer, outcome)
                    crash_point("relay.after_message")
        return len(outcomes)

    def messages(self, queues: Iterable[str]) -> dict[str, int]:
        """
        Return how many messages wait in each queue, which is made if it is not there.

        Raises:
            BrokerDown: no connection, no answer in time, or a refusal.
        """
        with self._at_the_broker() as producer:
            return {queue: self._size(producer.channel, queue) for queue in queues}

    def _size(self, channel: Any, name: str) -> int:
        sizes: list[int] = []
        queue = self.app.amqp.queues[name].bind(channel)
        # What `queue_declare` returns depends on kombu's version, what it tells does not.
        queue.on_declared = lambda name, messages, consumers: sizes.append(messages)
        queue.queue_declare()
        return sizes[0]

    @contextmanager
    def _at_the_broker(self) -> Iterator[Any]:
        """Give the block a producer; its failure drops the connection and is a `BrokerDown`."""
        try:
            yield self._producer or self._connect()
        except self._errors() as error:
            self.close()
            raise BrokerDown(str(error) or type(error).__name__) from error

    def _send(self, producer: Any, outcome: Outcome) -> None:
        with surrounded(surroundings, outcome):
            self.app.amqp.send_task_message(
                producer,
                outcome.task_name,
                self._message(outcome),
                queue=outcome.queue,
                declare=(),
                retry=False,
            )

    def close(self) -> None:
        """Drop the connection without waiting for the other side."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            try:
                connection.collect(socket_timeout=0.1)
            except NETWORK_ERRORS + connection.connection_errors:
                return

    def _connect(self) -> Any:
        self._connection = bounded_connection(self.app)
        self._connection.ensure_connection(max_retries=1, interval_start=0, timeout=SILENCE)
        self._producer = self.app.amqp.Producer(self._connection, auto_declare=False)
        return self._producer

    def _errors(self) -> tuple[type[BaseException], ...]:
        if self._connection is None:
            return NETWORK_ERRORS
        connection = self._connection
        return NETWORK_ERRORS + connection.connection_errors + connection.channel_errors

    def _message(self, outcome: Outcome) -> Any:
        args, kwargs = mask_arguments(
            outcome.task_name, decode(outcome.args_json), decode(outcome.kwargs_json)
        )
        options = call_options(outcome)
        hard, soft = options.get("limits", (None, None))
        message = self.app.amqp.as_task_v2(
            str(outcome.id),
            outcome.task_name,
            time_limit=hard,
            soft_time_limit=soft,
            root_id=str(outcome.root_id),
            parent_id=None if outcome.parent_id is None else str(outcome.parent_id),
            retries=max(outcome.attempt - outcome.crashes, 0),
            ignore_result=True,
            argsrepr=repr(tuple(args))[:SHOWN],
            kwargsrepr=repr(kwargs)[:SHOWN],
            create_sent_event=self.app.conf.task_send_sent_event,
        )
        message.headers.update(context.trace_headers(outcome.trace_context))
        message.headers.update(options.get("headers") or {})
        message.headers[DOORBELL] = outcome.fence
        return message


def _batch(producer: Any) -> AbstractContextManager[Any]:
    """Return a block whose messages go out together, where the transport can do that."""
    # kombu has it from 5.7 on.
    return producer.batch() if hasattr(producer, "batch") else nullcontext()


def call_options(outcome: Outcome) -> dict[str, Any]:
    """Return the per-call options of a row: `limits`, `headers` and the canvas around it."""
    return json.loads(outcome.options_json) if outcome.options_json else {}


def options_text(options: Mapping[str, Any]) -> str:
    """Return per-call options as the text that a row keeps; empty when there are none."""
    kept = {name: value for name, value in options.items() if value not in (None, [], ())}
    return dumps(kept) if kept else ""
