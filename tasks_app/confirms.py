"""
Confirms: RabbitMQ's word for every message of a batch, waited for once.

py-amqp waits for the word on each message before it sends the next: a round trip per message. Here
messages follow one another and the words come as they come, many of them for several at once.
"""

from typing import Any


class Confirms:
    """
    The messages of one channel that the broker has not answered yet.

    Args:
        channel: A channel of py-amqp whose connection does not wait by itself; from now on all
            that is published on it counts.
    """

    def __init__(self, channel: Any) -> None:
        channel.confirm_select()
        self._connection = channel.connection
        self._publish = channel.basic_publish
        self._published = 0
        self._open: set[int] = set()
        #: Whatever was published before this one has its word.
        self._oldest = 1
        self._is_refused = False
        channel.events["basic_ack"].add(self._note)
        channel.events["basic_nack"].add(self._refuse)
        channel.basic_publish = self._count

    def wait(self, silence: float) -> None:
        """
        Return once the broker has taken every message.

        Args:
            silence: Seconds that the broker may say nothing.

        Raises:
            OSError: the broker refused a message, said nothing for too long, or went away.
            amqp.exceptions.AMQPError: it gave a message back, or closed the channel.
        """
        while self._open and not self._is_refused:
            self._connection.drain_events(timeout=silence)
        if self._is_refused:
            msg = "The broker refused a message."
            raise ConnectionError(msg)

    def _count(self, *args: Any, **kwargs: Any) -> Any:
        # The word may come while the next message is sent: what is open is noted first.
        self._published += 1
        self._open.add(self._published)
        return self._publish(*args, **kwargs)

    def _note(self, number: int, multiple: bool) -> None:  # noqa: FBT001 - py-amqp's signature
        if multiple:
            self._open.difference_update(range(self._oldest, number + 1))
            self._oldest = number + 1
        else:
            self._open.discard(number)

    def _refuse(self, number: int, multiple: bool) -> None:  # noqa: FBT001 - py-amqp's signature
        self._is_refused = True
        self._note(number, multiple)
