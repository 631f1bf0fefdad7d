"""
kombu's Redis transport, living on where kombu's own would end the worker.

kombu decodes an item inside the worker's event loop, after BRPOP has taken it: bytes that are not
JSON, or JSON that is no message, would end the worker. So would a Redis that goes away while
messages are unacknowledged: the channel closes after its transport and asks that for an address.
kombu also makes a new client for every command, a sixth of a worker's main process.
`worker_steps` names these classes to kombu for `redis:`, `rediss:` and `sentinel:`; they differ
from kombu's in nothing else.
"""

from typing import Any

from kombu.transport import redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads
from redis.exceptions import ConnectionError as RedisConnectionError

from tasks_app.poison import MALFORMED, drop
from tasks_app.shapes import check_envelope


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


class Channel(_Tolerant, _Thrifty, redis.Channel):
    """A channel to one Redis."""


class SentinelChannel(_Tolerant, _Thrifty, redis.SentinelChannel):
    """A channel to the Redis that the sentinels name."""


class Transport(redis.Transport):
    """The transport behind `redis:` and `rediss:`; delivers nothing but messages."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str | None) -> None:
        check_envelope(message)
        super()._deliver(message, queue)


class SentinelTransport(redis.SentinelTransport):
    """The transport behind `sentinel:`; delivers nothing but messages."""

    Channel = SentinelChannel

    def _deliver(self, message: Any, queue: str | None) -> None:
        check_envelope(message)
        super()._deliver(message, queue)
