"""
Flower beside this app: where it listens, and its broker page on the embedded broker.

Importing this module makes Flower listen on loopback unless it is told an address: without a
password it shows its pages to everybody. It also learns the embedded broker's scheme: it asks a
class of its own for queue lengths, chosen by the broker's URL. `celery.py` loads this module in
processes that have loaded Flower already, and in no others.
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from flower.options import options
from flower.utils.broker import Broker
from kombu import Connection

from tasks_app import filesystem

#: Environment, configuration file and command line are read later, so each of them wins.
options.address = "127.0.0.1"


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


# The class is imported by name in several of Flower's modules, so it stays and learns.
Broker.__new__ = _choose
