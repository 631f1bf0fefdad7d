"""
Remote control: commands that change a worker are obeyed only from processes of this project.

Celery's workers obey whoever can write to the broker: `shutdown`, `revoke` with a signal,
`cancel_consumer`. Here the sending side seals every command, and a worker refuses one without a
seal, an altered one and one that it has had before. Commands that only read, and the two that
monitors without the project's key send, need none. Refusals are counted by the signal `dropped`,
told in one log line with the command's name, and answered to whoever waits.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

from celery import Celery
from celery.app import control as celery_control
from kombu import pidbox
from kombu.utils.imports import symbol_by_name

from tasks_app import shapes
from tasks_app.conf import conf
from tasks_app.poison import MALFORMED, drop, read_payload, tell_dropped
from tasks_app.seals import Once, Refused, seal
from tasks_app.shapes import Malformed

#: How far the clocks of two hosts may differ, and how long a busy worker may leave a command.
AGE = timedelta(minutes=10)

#: What seals are bound to.
PURPOSE = "control"

#: Commands that anybody may send, with the arguments that they may bring then.
OPEN: Mapping[str, Collection[str]] = {
    "active": ("safe",),
    "active_queues": (),
    "clock": (),
    "dump_active": ("safe",),
    "dump_reserved": (),
    "dump_revoked": (),
    "dump_schedule": (),
    "dump_tasks": (),
    "enable_events": (),
    "heartbeat": (),
    "ping": (),
    "query_task": ("ids",),
    "registered": (),
    "reserved": (),
    "revoked": (),
    "scheduled": (),
    "stats": (),
}

#: Fields of a command, as kombu names them; all of them are sealed.
FIELDS = ("method", "arguments", "destination", "pattern", "matcher", "reply_to", "ticket")

SEAL = "tasks_app_seal"


class Node(pidbox.Node):
    """A worker's end of remote control."""

    mailbox: Any
    handlers: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._once = Once(AGE)

    def listen(self, channel: Any = None, callback: Callable[..., Any] | None = None) -> Any:
        """Listen, and decode what comes here rather than in kombu, which trusts it."""
        handle = callback or self.handle_message
        consumer = super().listen(channel, handle)

        def on_message(message: Any) -> None:
            try:
                body = read_payload(message)
            except MALFORMED as error:
                drop(error)
            else:
                handle(body, message)

        consumer.on_message = on_message
        return consumer

    def handle_message(self, body: Any, message: Any = None) -> Any:
        """Do what a command says, or refuse it."""
        try:
            shapes.check_command(body, self.mailbox.reply_exchange.name)
        except Malformed as error:
            drop(error)
            return None
        command = {name: body[name] for name in FIELDS if name in body}
        if self._is_for_others(command):
            return None
        try:
            self._check(command, body.get(SEAL))
        except Refused as error:
            return self._refuse(command, error)
        return super().handle_message(command, message)

    def _is_for_others(self, command: Mapping[str, Any]) -> bool:
        destination = command.get("destination")
        return bool(destination) and self.hostname not in cast("list[str]", destination)

    def _check(self, command: Mapping[str, Any], token: Any) -> None:
        if conf.UNSIGNED_CONTROL or (token is None and is_open(command)):
            return
        self._once.accept(PURPOSE, _content(self.mailbox, command), token)

    def _refuse(self, command: Mapping[str, Any], error: Refused) -> None:
        known = command["method"] in self.handlers
        name = f"remote control command {command['method']}" if known else "unknown command"
        why = f"the {name} is refused: {error} (see UNSIGNED_CONTROL)"
        tell_dropped(why)
        reply_to = command.get("reply_to")
        if reply_to:
            answer = {self.hostname: {"error": why}}
            self.reply(answer, ticket=command.get("ticket"), **reply_to)


class Mailbox(pidbox.Mailbox):
    """Both ends of remote control: seals what is sent, and makes nodes that look at seals."""

    node_cls = Node

    @contextmanager
    def producer_or_acquire(self, producer: Any = None, channel: Any = None) -> Iterator[Any]:
        with super().producer_or_acquire(producer, channel) as plain:
            yield _SealingProducer(self, plain)


class _SealingProducer:
    """Publishes for a mailbox: commands with a seal, replies as they are."""

    def __init__(self, mailbox: Mailbox, producer: Any) -> None:
        self.mailbox = mailbox
        self.producer = producer

    def publish(self, body: Mapping[str, Any], **options: Any) -> Any:
        if "method" in body:
            body = {**body, SEAL: seal(PURPOSE, _content(self.mailbox, body))}
        return self.producer.publish(body, **options)


class Control(celery_control.Control):
    """Celery's remote control, with seals."""

    Mailbox = Mailbox


def equip(app: Celery) -> None:
    """Make an app seal the commands that it sends and look at the seals of those that it gets."""
    plain: Any = app
    own = symbol_by_name(plain.control_cls)
    if issubclass(own.Mailbox, Mailbox):
        return
    is_plain = own is celery_control.Control
    plain.control_cls = Control if is_plain else type(own.__name__, (own,), {"Mailbox": Mailbox})
    # A cached property, which somebody may have used already.
    app.__dict__.pop("control", None)


def is_open(command: Mapping[str, Any]) -> bool:
    """Tell whether a command may come from anybody, as it stands."""
    allowed = OPEN.get(command["method"])
    # A pattern is a regular expression, and some of those take for ever.
    if allowed is None or command.get("pattern") or command.get("matcher"):
        return False
    given = {name for name, value in (command.get("arguments") or {}).items() if value}
    return given <= set(allowed)


def _content(mailbox: Any, command: Mapping[str, Any]) -> list[Any]:
    return [mailbox.namespace, *(command.get(name) for name in FIELDS)]
