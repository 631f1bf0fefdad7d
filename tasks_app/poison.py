"""
Poison: messages that no worker expects, and that must not end one.

Whoever can write to the broker can write anything. What is not the shape that Celery takes for
granted never reaches it: such a message is acknowledged, counted by the signal `dropped`, told in
one log line without its contents, and dropped. An outcome that it may have spoken of is announced
again. Celery's own answers to what it cannot read print the message; they are replaced.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from celery import bootsteps
from celery import signals as celery_signals
from celery.exceptions import InvalidTaskError, NotRegistered
from celery.utils.log import get_logger
from celery.utils.objects import Bunch
from django.db import DatabaseError
from kombu import compression
from kombu.exceptions import ContentDisallowed, DecodeError

from tasks_app import sealed_tasks, shapes, signals
from tasks_app.conf import conf
from tasks_app.forks import database_section
from tasks_app.seals import Refused
from tasks_app.shapes import Malformed

logger = get_logger(__name__)

#: What reading a malformed message raises; a lost connection is none of these.
MALFORMED = (
    ArithmeticError,
    AttributeError,
    ContentDisallowed,
    DecodeError,
    InvalidTaskError,
    LookupError,
    RecursionError,
    Refused,
    TypeError,
    ValueError,
)

#: Bytes to which a compressed body may inflate; brokers themselves take no more than twice that.
MAX_INFLATED = 64 * 2**20

#: Decompressors that stop where they are told to, by kombu's name.
BOUNDED: Mapping[str, Callable[[], Any]] = {
    "application/x-gzip": zlib.decompressobj,
    "application/x-bz2": bz2.BZ2Decompressor,
    "application/x-lzma": lzma.LZMADecompressor,
}

Errors = tuple[type[BaseException], ...]


class PoisonStep(bootsteps.Step):
    """Lets a worker's consumer live on after a malformed message, whatever its transport."""

    requires = ("celery.worker.consumer.tasks:Tasks", "celery.worker.consumer.gossip:Gossip")

    def create(self, parent: Any) -> None:
        bound_decompression(parent.app.conf.task_compression)
        make_handler = parent.create_task_handler

        def create_task_handler(*args: Any, **options: Any) -> Callable[[Any], None]:
            return guarded(make_handler(*args, **options), parent.connection_errors)

        parent.create_task_handler = create_task_handler
        answers = Answers(parent)
        parent.on_decode_error = answers.unreadable
        parent.on_invalid_task = answers.invalid
        parent.on_unknown_message = answers.no_task
        parent.on_unknown_task = answers.unknown_task
        guard_gossip(parent.gossip)


class Answers:
    """A consumer's answers to what it cannot use; Celery's print the message's body."""

    def __init__(self, consumer: Any) -> None:
        self.consumer = consumer

    def unreadable(self, message: Any, error: Exception) -> None:
        """Drop a message that cannot be decoded."""
        self._acknowledge(message)
        drop(error)

    def invalid(self, body: Any, message: Any, error: Exception) -> None:
        """Drop a message whose parts do not mean what they have to."""
        self._reject(message)
        drop(error)

    def no_task(self, body: Any, message: Any) -> None:
        """Drop a message that names no task."""
        self._reject(message)
        drop(Malformed("task"))

    def unknown_task(self, body: Any, message: Any, error: Exception) -> None:
        """Drop a message for a task that this worker lacks, and tell whoever waits for a result."""
        fields = {
            **(message.payload if isinstance(message.payload, dict) else {}),
            **message.headers,
        }
        task_id, name = fields["id"], fields["task"]
        message.reject_log_error(logger, self.consumer.connection_errors)
        self._fail(task_id, name, fields.get("root_id"))
        celery_signals.task_unknown.send(
            sender=self.consumer, message=message, exc=error, name=name, id=task_id
        )
        tell_dropped("no task of that name is registered here", name, task_id)

    def _fail(self, task_id: str, name: str, root_id: Any) -> None:
        request = Bunch(name=name, chord=None, root_id=root_id, errbacks=None)
        # Not worth a worker: without a database nobody reads the result either.
        with suppress(DatabaseError), database_section(conf.DATABASE, keep=False):
            self.consumer.app.backend.mark_as_failure(task_id, NotRegistered(name), request=request)

    def _acknowledge(self, message: Any) -> None:
        if not message.acknowledged:
            message.ack_log_error(logger, self.consumer.connection_errors)

    def _reject(self, message: Any) -> None:
        message.reject_log_error(logger, self.consumer.connection_errors)
        celery_signals.task_rejected.send(sender=self.consumer, message=message, exc=None)


def guarded(handle: Callable[[Any], Any], connection_errors: Errors) -> Callable[[Any], None]:
    """Return the handler of a consumer's messages with malformed ones dropped."""

    def handle_or_drop(message: Any) -> None:
        try:
            check_message(message)
        except MALFORMED as error:
            message.ack_log_error(logger, connection_errors)
            drop(error)
            return
        try:
            handle(message)
        except connection_errors:
            raise
        except MALFORMED as error:
            if not message.acknowledged:
                message.ack_log_error(logger, connection_errors)
            drop(error)

    return handle_or_drop


def check_message(message: Any) -> None:
    """Raise one of `MALFORMED` for a message that is no task's, or that must not run."""
    payload = read_payload(message)
    shapes.check_task(message.headers, payload)
    if not conf.UNSIGNED_CONTROL:
        sealed_tasks.check(message.headers, payload)


def read_payload(message: Any) -> Any:
    """Return a message's decoded body, or raise one of `MALFORMED`."""
    shapes.check_content(message.content_type, message.content_encoding)
    shapes.check_headers(message.headers)
    return message.payload


def drop(error: Exception) -> None:
    """Count and tell that a message was dropped; `error` is why it could not be used."""
    if isinstance(error, Refused):
        tell_dropped(str(error))
    else:
        place = str(error) if isinstance(error, Malformed) else type(error).__name__
        tell_dropped(f"it is malformed ({place})")


def tell_dropped(why: str, task_name: str = "", outcome_id: str = "") -> None:
    """Send `dropped` for a message that was refused before any row was looked at."""
    signals.dropped.send_robust(
        None, task_name=task_name, outcome_id=outcome_id, why=why, is_refused=True
    )


def guard_gossip(gossip: Any) -> None:
    """
    Let a worker live on after malformed events of the others, and hold no elections.

    Whoever wins one applies whatever signature the event brought: a way to run any task with the
    worker's own signature. Nothing in Celery or here calls for one.
    """
    listen = gossip.on_message

    def on_message(prepare: Any, message: Any) -> None:
        try:
            shapes.check_event(read_payload(message))
            listen(prepare, message)
        except MALFORMED as error:
            drop(error)

    gossip.on_message = on_message
    if not conf.UNSIGNED_CONTROL:
        gossip.event_handlers = {}


def bound_decompression(wanted: str | None) -> None:
    """
    Make kombu's decompressors stop at `MAX_INFLATED` bytes, in this process.

    Some libraries cannot stop: those are refused, but for the one that the project chose.
    """
    known: Any = compression  # its stub mixes encoders with pairs of them
    chosen = known.get_encoder(wanted)[1] if wanted else None
    for content_type in known.encoders():
        compress = known.get_encoder(content_type)[0]
        if content_type in BOUNDED:
            known.register(compress, _stopping(BOUNDED[content_type]), content_type)
        elif content_type != chosen:
            known.register(compress, _refuse, content_type)


def _stopping(new: Callable[[], Any]) -> Callable[[bytes], bytes]:
    def inflate(data: bytes) -> bytes:
        decompressor = new()
        inflated: bytes = decompressor.decompress(data, MAX_INFLATED)
        if not decompressor.eof:
            raise Malformed("the compressed body")
        return inflated

    return inflate


def _refuse(data: bytes) -> bytes:
    raise Malformed("the compression")
