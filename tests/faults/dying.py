"""A Celery app whose worker dies with a message in its hand.

kombu takes a message from Redis, or from the embedded broker's folder, before it notes that it has
it: between the two, the message is nowhere but in the worker's memory.
"""

import os
import signal
from typing import Any, NoReturn

from kombu.transport.redis import QoS as RedisQoS
from kombu.transport.virtual import QoS

from tests.project import app

__all__ = ["app"]


def die(*message: Any) -> NoReturn:
    """End this process instead of noting the message."""
    os.write(2, b"dies with a message in its hand\n")
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


RedisQoS.append = die
QoS.append = die
