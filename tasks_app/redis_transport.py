"""
kombu's Redis transport, living on where kombu's own would end the worker.

kombu decodes an item inside the worker's event loop, after BRPOP has taken it: bytes that are not
JSON, or JSON that is no message, would end the worker. So would a Redis that goes away while
messages are unacknowledged: the channel closes after its transport and asks that for an address.
A channel that cannot say goodbye to a Redis that is away would keep its sockets open, and so would
all that are closed after it; the event loop would keep them for ever. kombu also makes a new client
for every command, a sixth of a worker's main process, and waits twice per message for Redis to note
that it was taken and that it is acknowledged: half of that process' time, which no doorbell needs.
`worker_steps` names these classes to kombu for `redis:`, `rediss:` and `sentinel:`; they differ
from kombu's in nothing else.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tasks_app.broker import DOORBELL
from tasks_app.poison import MALFORMED, drop
from tasks_app.shapes import check_envelope

#: What is raised while Redis cannot be reached.
GONE = (RedisConnectionError, RedisTimeoutError, OSError)


class QoS(redis.QoS):
    """
    Remembers doorbells in this process alone, and all other messages in Redis as well.

    What is unacknowledged when a worker ends is put back into its queue. What a killed worker had
    comes back by its row, which is announced again long before Redis' visibility timeout; other
    messages have no row.
    """

    def append(self, message: Any, delivery_tag: str) -> None:
        """Remember a message until it is acknowledged."""
        if _is_doorbell(message):
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Forget a message."""
        if self._has_doorbell(delivery_tag):
            virtual.QoS.ack(self, delivery_tag)
        else:
            super().ack(delivery_tag)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """Put a message back into its queue."""
        if not self._has_doorbell(tag):
            super().restore_by_tag(tag, client, leftmost)
            return
        message, channel = self.get(tag), cast("Any", self.channel)
        raw = message._raw  # noqa: SLF001 - as kombu's QoS does
        delivery = message.delivery_info
        places = delivery["exchange"], delivery["routing_key"]
        with self.pipe_or_acquire(client=client) as pipe:
            channel._do_restore_message(raw, *places, pipe, leftmost)  # noqa: SLF001 - as kombu's QoS does
            pipe.execute()

    def _has_doorbell(self, delivery_tag: str) -> bool:
        # Acknowledgements come from other threads as well: one look, not two.
        message = cast("dict[str, Any]", self._delivered).get(delivery_tag)
        return message is not None and _is_doorbell(message)


def _is_doorbell(message: Any) -> bool:
    return DOORBELL in (message.headers or {})


class _Tolerant:
    """Drops what cannot be read, as the guard of the consumer's handler does."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except MALFORMED as error:
            drop(error)
            return True

    def _receive_one(self, client: Any) -> Any:
        try:
            return super()._receive_one(client)  # type: ignore[misc]
        except MALFORMED as error:
            drop(error)
            return True

    def _handle_message(self, client: Any, response: Any) -> Any:
        # kombu would put what it cannot read into the log.
        payload = super()._handle_message(client, response)  # type: ignore[misc]
        if bytes_to_str(payload["type"]).endswith("message") and payload["data"]:
            loads(bytes_to_str(payload["data"]))
        return payload

    def _connparams(self, *args: Any, **options: Any) -> dict[str, Any]:
        if self.connection.client is None:  # type: ignore[attr-defined]
            # A connection error is what whoever closes a channel is prepared for.
            msg = "The transport is closed already."
            raise RedisConnectionError(msg)
        return super()._connparams(*args, **options)  # type: ignore[misc,no-any-return]


class _Closing:
    """Closes its sockets, whether or not Redis is there to be told."""

    def close(self) -> None:
        try:
            super().close()  # type: ignore[misc]
        except GONE:
            # What is unacknowledged comes back by its visibility timeout.
            self.closed = True
            self._disconnect_pools()  # type: ignore[attr-defined]
            self._close_clients()  # type: ignore[attr-defined]
            if self._qos is not None:  # type: ignore[attr-defined]
                # What was to be done at the process' end is known to it, and keeps the channel.
                self._qos._on_collect.cancel()  # type: ignore[attr-defined]  # noqa: SLF001
            if self.connection is not None:  # type: ignore[attr-defined]
                self.connection.close_channel(self)  # type: ignore[attr-defined]
            raise


class _Thrifty:
    """Uses one client for all commands of a channel; connections come from the pool as ever."""

    _shared_client: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's signature
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[misc]
        client = self._shared_client
        if client is None or client.connection_pool is not self.pool:  # type: ignore[attr-defined]
            client = self._shared_client = super()._create_client()  # type: ignore[misc]
        return client


class _Transport:
    """Delivers nothing but messages, closes all of its channels, and leaves its event loop."""

    _leave: Callable[[], None] | None = None

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        self._leave_loop()
        others = set(loop.on_tick)
        super().register_with_event_loop(connection, loop)  # type: ignore[misc]
        # kombu never takes it away: the loop would keep every channel that there ever was.
        self._leave = partial(loop.on_tick.difference_update, loop.on_tick - others)

    def _leave_loop(self) -> None:
        if self._leave is not None:
            self._leave()

    def _deliver(self, message: Any, queue: str | None) -> None:
        check_envelope(message)
        super()._deliver(message, queue)  # type: ignore[misc]

    def close_connection(self, connection: Any) -> None:
        self._leave_loop()
        while True:
            try:
                return super().close_connection(connection)  # type: ignore[misc,no-any-return]
            except GONE:
                # That channel is closed and taken from the list: on with the others.
                continue


class Channel(_Tolerant, _Closing, _Thrifty, redis.Channel):
    """A channel to one Redis."""

    QoS = QoS


class SentinelChannel(_Tolerant, _Closing, _Thrifty, redis.SentinelChannel):
    """A channel to the Redis that the sentinels name."""

    QoS = QoS


class Transport(_Transport, redis.Transport):
    """The transport behind `redis:` and `rediss:`."""

    Channel = Channel


class SentinelTransport(_Transport, redis.SentinelTransport):
    """The transport behind `sentinel:`."""

    Channel = SentinelChannel
