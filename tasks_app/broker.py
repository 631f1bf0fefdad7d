"""
The client side of Celery: which app, which queue, and how a doorbell is rung.

A message carries the task's name and the outcome's id, never arguments; losing or doubling one
costs time only. Nothing here touches the database. Publishing is the relay's alone.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Self

from celery import Celery, current_app, signals
from kombu import Connection, Queue
from kombu.exceptions import KombuError
from kombu.utils.json import dumps

from tasks_app import context, peals, sealed_tasks
from tasks_app.arguments import decode
from tasks_app.confirms import Confirms
from tasks_app.crash_points import crash_point
from tasks_app.models import Outcome
from tasks_app.options import TaskOptions
from tasks_app.redaction import mask_arguments
from tasks_app.shapes import PEAL
from tasks_app.surroundings import is_surrounded, surrounded

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
    """
    The relay's own broker connection, with every wait bounded.

    Args:
        app: Names the broker and its queues.
        sizes: The relay's memory of how many outcomes may share a message.
    """

    def __init__(self, app: Celery, sizes: peals.Sizes | None = None) -> None:
        self.app = app
        self._connection: Connection | None = None
        self._producer: Any = None
        self._confirms: Confirms | None = None
        self._sizes = sizes or peals.Sizes()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def ring(self, outcomes: Sequence[Outcome]) -> int:
        """
        Ring for each outcome and wait for the broker's word that it has the messages.

        Alike outcomes share messages where there are many: see `peals.py`.

        Returns:
            How many were rung for: all.

        Raises:
            BrokerDown: no connection, no answer in time, or a refusal; any number of them may
                have arrived.
        """
        with self._at_the_broker() as producer:
            doorbells = Doorbells(self.app)
            queues = {name: self.app.amqp.queues[name] for name in {row.queue for row in outcomes}}
            for queue in queues.values():
                producer.maybe_declare(queue)
            with _batch(producer):
                for peal in self._peals(outcomes):
                    self._send(producer, peal, queues[peal[0].queue], doorbells)
                    crash_point("relay.after_message")
            if self._confirms is not None:
                self._confirms.wait(SILENCE)
        return len(outcomes)

    def _peals(self, outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
        sizes = self._sizes.learn(outcomes)
        if is_surrounded(surroundings, outcomes[0]) or _is_heard(self.app):
            return [[outcome] for outcome in outcomes]
        return peals.arranged(outcomes, sizes)

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

    def _send(
        self, producer: Any, peal: Sequence[Outcome], queue: Queue, doorbells: "Doorbells"
    ) -> None:
        with surrounded(surroundings, peal[0]):
            self.app.amqp.send_task_message(
                producer,
                peal[0].task_name,
                doorbells.message(*peal),
                queue=queue,
                declare=(),
                retry=False,
                **self._options(queue),
            )

    def _options(self, queue: Queue) -> dict[str, Any]:
        """Return what makes RabbitMQ give back a message whose queue somebody has deleted."""
        # Celery publishes to a direct exchange's queue by its name; another one may know better
        # than RabbitMQ where a message goes, and when.
        is_direct = self._confirms is not None and queue.exchange.type == "direct"
        return {"mandatory": True} if is_direct else {}

    def close(self) -> None:
        """Drop the connection without waiting for the other side."""
        connection, self._connection, self._producer = self._connection, None, None
        self._confirms = None
        if connection is not None:
            try:
                connection.collect(socket_timeout=0.1)
            except NETWORK_ERRORS + connection.connection_errors:
                return

    def _connect(self) -> Any:
        connection = self._connection = bounded_connection(self.app)
        options: Any = connection.transport_options
        # py-amqp would wait for its word on each message.
        is_confirmed = _is_py_amqp(connection) and options.pop("confirm_publish", False)
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=SILENCE)
        producer = self.app.amqp.Producer(connection, auto_declare=False)
        self._confirms = Confirms(producer.channel) if is_confirmed else None
        self._producer = producer
        return producer

    def _errors(self) -> tuple[type[BaseException], ...]:
        if self._connection is None:
            return NETWORK_ERRORS
        connection = self._connection
        return NETWORK_ERRORS + connection.connection_errors + connection.channel_errors


class Doorbells:
    """Makes the messages of one batch; what those of a task have in common is made once."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self._common: dict[str, Any] = {}

    def message(self, outcome: Outcome, *rest: Outcome) -> Any:
        """
        Return an outcome's message as Celery's protocol 2 has it: an id, but no arguments.

        It carries the headers of the rest of its peal along.
        """
        common = self._common.get(outcome.task_name) or self._make_common(outcome.task_name)
        headers, properties, body, sent_event = common
        options = call_options(outcome)
        own = _own_headers(outcome, options)
        others = {**_other_headers(outcome, options), **_peal_header(rest)}
        if sent_event is not None:
            sent_event = {**sent_event, **_about_sending(own)}
        return type(common)(
            {**headers, "stamps": {}, **own, **others},
            {**properties, "correlation_id": own["id"]},
            # What stands around a publish may write into it.
            (*body[:2], dict(body[2])),
            sent_event,
        )

    def _make_common(self, task_name: str) -> Any:
        common = self._common[task_name] = self.app.amqp.as_task_v2(
            "",
            task_name,
            ignore_result=True,
            argsrepr="",
            kwargsrepr="",
            create_sent_event=self.app.conf.task_send_sent_event,
        )
        return common


def _own_headers(outcome: Outcome, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return Celery's headers whose values are an outcome's own."""
    argsrepr, kwargsrepr = _shown_arguments(outcome)
    return {
        "id": str(outcome.id),
        "root_id": str(outcome.root_id),
        "parent_id": None if outcome.parent_id is None else str(outcome.parent_id),
        "retries": max(outcome.attempt - outcome.crashes, 0),
        "timelimit": list(options.get("limits", (None, None))),
        "argsrepr": argsrepr,
        "kwargsrepr": kwargsrepr,
    }


def _other_headers(outcome: Outcome, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers of a trace, of the caller, and the one that marks a doorbell."""
    return {
        **context.trace_headers(outcome.trace_context),
        **(options.get("headers") or {}),
        DOORBELL: outcome.fence,
    }


def _peal_header(rest: Iterable[Outcome]) -> dict[str, Any]:
    each = [{**_own_headers(row, {}), **_other_headers(row, {})} for row in rest]
    return {PEAL: each} if each else {}


def _is_heard(app: Celery) -> bool:
    """Tell whether somebody wants to hear of each message's publishing."""
    own = sealed_tasks.RECEIVER
    listeners = [*signals.before_task_publish.receivers, *signals.after_task_publish.receivers]
    return bool(app.conf.task_send_sent_event) or any(key[0] != own for key, _ in listeners)


def _about_sending(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Celery's event `task-sent` says of a message with these headers."""
    return {
        "uuid": headers["id"],
        "args": headers["argsrepr"],
        "kwargs": headers["kwargsrepr"],
        **{name: headers[name] for name in ("root_id", "parent_id", "retries")},
    }


def _shown_arguments(outcome: Outcome) -> tuple[str, str]:
    """Return the masked texts of positional and keyword arguments that a message may show."""
    args, kwargs = mask_arguments(
        outcome.task_name, decode(outcome.args_json), decode(outcome.kwargs_json)
    )
    return repr(tuple(args))[:SHOWN], repr(kwargs)[:SHOWN]


def _is_py_amqp(connection: Connection) -> bool:
    return bool(connection.transport.driver_name == "py-amqp")


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
