"""
Flower's broker page on the embedded broker, which Flower has never heard of.

It asks a class of its own for queue lengths, chosen by the broker's URL. The class is imported by
name in several of Flower's modules, so it stays and learns one scheme more.
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from flower.utils.broker import Broker
from kombu import Connection

from tasks_app import filesystem


class EmbeddedBroker:
    """Counts the messages that wait in the embedded broker's queues."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def queues(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Return what Flower's table shows of each queue; listing some folders blocks nobody."""
        with Connection(self.url) as connection:
            channel: Any = connection.default_channel
            lengths = {name: channel.queue_declare(name).message_count for name in names}
        return [
            {"name": name, "messages": length, "messages_ready": length}
            for name, length in lengths.items()
        ]


_new = Broker.__new__


def _choose(cls: type, broker_url: str, *args: Any, **kwargs: Any) -> Any:
    if urlsplit(broker_url).scheme == filesystem.SCHEME:
        return EmbeddedBroker(broker_url)
    return _new(cls, broker_url, *args, **kwargs)


def connect() -> None:
    """Teach Flower the embedded broker's scheme."""
    Broker.__new__ = _choose
